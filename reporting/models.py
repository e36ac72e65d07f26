"""What report.py measures on the models themselves: latency, attention maps, distances by layer."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from corpus.token_store import encode_pairs
from distillation.mapping import LayerMapping, layer_mapping
from distillation.objectives.attention import attention_losses
from distillation.objectives.hidden import hidden_losses
from files.atomic import atomic_open
from files.errors import UserError, setting
from reporting.results import Results
from tasks.classifiers import load_classifier, new_classifier, task_of_record
from tasks.task import Task, read_split
from transformer.configuration import BertConfig
from transformer.encoder import Collect
from transformer.file_utils import CONFIG_NAME
from transformer.loading import read_config
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer

BATCHES = (1, 32)
LENGTH = 64  # tokens in each row of a latency measurement
REPEATS, SECONDS = 7, 15.0  # at most, for each model and batch
ROWS = 64  # of the dev set, for the distances
TOKENS = 24  # of a sentence, in an attention map
STUDENTS = ("distilled_tinybert_4l", "distilled_tinybert_6l")


def latencies(folders: Mapping[str, Path], record: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of a forward pass on the CPU: model -> batch size -> the shortest.

    The shortest of several passes is what other work on the machine disturbs least. Models of one shape
    take the same time and are measured once, in turn with the others, with random weights. The figures
    are kept in `record` and read from there the next time.
    """
    configs = {
        name: BertConfig.from_json_file(folder / CONFIG_NAME)
        for name, folder in folders.items()
        if (folder / CONFIG_NAME).is_file()
    }
    shapes = {_shape(config): config for config in configs.values()}
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    known = kept.get("milliseconds", {}) if kept.get("length") == LENGTH else {}
    if not shapes.keys() <= known.keys():
        known = _measure(shapes)
        facts = {
            "length": LENGTH,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "milliseconds": known,
        }
        with atomic_open(record) as file:
            json.dump(facts, file, indent=2)
    return {name: known[_shape(config)] for name, config in configs.items()}


def _shape(config: BertConfig) -> str:
    return (
        f"{config.num_hidden_layers} layers, {config.hidden_size} wide, "
        f"{config.intermediate_size} inside, {config.num_attention_heads} heads, "
        f"{config.vocab_size} tokens"
    )


def _measure(shapes: Mapping[str, BertConfig]) -> dict[str, dict[str, float]]:
    models = {
        shape: TinyBertForSequenceClassification.from_scratch(config).eval()
        for shape, config in shapes.items()
    }
    found: dict[str, dict[str, float]] = {shape: {} for shape in shapes}
    for batch in BATCHES:
        times: dict[str, list[float]] = {shape: [] for shape in shapes}
        for repeat in range(REPEATS + 1):
            for shape, model in models.items():
                if sum(times[shape]) > SECONDS:
                    continue
                length = min(LENGTH, model.config.max_length)
                generator = torch.Generator().manual_seed(0)
                ids = torch.randint(model.config.vocab_size, (batch, length), generator=generator)
                started = time.perf_counter()
                with torch.inference_mode():
                    model(ids)
                if repeat:  # the first one warms up
                    times[shape].append(time.perf_counter() - started)
        for shape, seconds in times.items():
            found[shape][str(batch)] = round(1000 * min(seconds), 3)
    return found


class Lineage(NamedTuple):
    """A student and its teacher on one task, and what the student was before."""

    task: Task
    teacher: Path
    stages: dict[str, Path]  # what had been done -> folder, in order; the last is the student
    mapping: LayerMapping
    dev: Path | None  # the task's folder


def find_lineage(results: Results, tasks: Iterable[str]) -> Lineage | None:
    """The first student whose models are all there; tasks of single sentences before those of pairs."""
    runs = {os.path.abspath(run["output_dir"]): run for run in results.runs}

    def run_of(folder: str | Path | None) -> dict[str, Any]:
        return runs.get(os.path.abspath(folder), {}) if folder else {}

    found = [
        task_of_record({"task": name, "task_definition": results.definitions.get(name)})
        for name in tasks
        if results.tasks[name] == name
    ]
    for task in sorted(found, key=lambda task: task.pair):
        students = [model for model, name in results.folders if name == task.folder]
        for model in sorted(students, key=lambda model: (model not in STUDENTS, model)):
            last = results.folders[model, task.folder]
            prediction = run_of(last)
            layers = run_of(prediction.get("student"))
            general, teacher = layers.get("student"), prediction.get("teacher")
            if not (general and teacher) or "layer_map" not in layers.get("arguments", {}):
                continue
            if not all((Path(f) / CONFIG_NAME).is_file() for f in (teacher, general)):
                continue
            mapping = layer_mapping(
                layers["arguments"]["layer_map"],
                read_config(general).num_hidden_layers,
                read_config(teacher).num_hidden_layers,
            )
            stages = {
                "fresh weights": Path(general),
                "after general distillation": Path(general),
                "after the layers": Path(layers["output_dir"]),
                "after the predictions": Path(last),
            }
            dev = Path(layers["arguments"]["data_dir"])
            return Lineage(task, Path(teacher), stages, mapping, dev if dev.is_dir() else None)
    return None


def load(lineage: Lineage, folder: Path, fresh: bool = False) -> TinyBertForSequenceClassification:
    """Load a model of a lineage; `fresh` gives its shape new weights."""
    config = read_config(folder)
    settings = {}
    if folder != lineage.teacher:
        settings["fit_size"] = read_config(lineage.teacher).hidden_size
    if fresh:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(42)
            return new_classifier(lineage.task, config, **settings).eval()
    fresh_parts = ("classifier.", "bert.pooler.")
    return load_classifier(lineage.task, folder, fresh_parts, None, **settings)


class AttentionMaps(NamedTuple):
    """The tokens of a sentence, and for each layer pair two maps [L, L], averaged over the heads."""

    tokens: list[str]
    pairs: list[tuple[tuple[str, list[list[float]]], ...]]  # (title, map) of teacher and student


def attention_maps(lineage: Lineage, sentence: str | None) -> AttentionMaps:
    """Where teacher and student look, layer by layer.

    Args:
        sentence: without one, the task's first dev row.
    """
    tokenizer = BertTokenizer.from_pretrained(lineage.teacher)
    text_a, text_b = [sentence], None
    if sentence is None:
        if lineage.dev is None:
            raise UserError(
                f"{lineage.task.folder}: its dev set is gone; give a {setting('sentence')}"
            )
        text_a, text_b = _dev_rows(lineage, 1)
    store = encode_pairs(tokenizer, text_a, text_b, TOKENS)
    batch = store.collate([0])
    student = list(lineage.stages.values())[-1]
    maps = []
    for side, folder in ((1, lineage.teacher), (0, student)):
        layers = [pair[side] for pair in lineage.mapping.attention]
        with torch.inference_mode():
            out = load(lineage, folder)(**batch, collect=Collect(probs=tuple(layers)))
        name = "teacher" if side else "student"
        maps.append(
            [
                (f"{name}, layer {layer + 1}", probs[0].mean(0).tolist())
                for layer, probs in zip(layers, out.probs, strict=True)
            ]
        )
    tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    return AttentionMaps(tokens, list(zip(*maps, strict=True)))


def _dev_rows(lineage: Lineage, count: int) -> tuple[Sequence[str], Sequence[str] | None]:
    examples = read_split(lineage.task, lineage.dev, next(iter(lineage.task.dev_files)))
    pairs = examples.text_b
    return examples.text_a[:count], pairs[:count] if pairs is not None else None


class Distances(NamedTuple):
    """How far the student is from its teacher: layers' names, and stage -> a number for each."""

    attention_layers: list[str]
    hidden_layers: list[str]
    attention: dict[str, list[float]]
    hidden: dict[str, list[float]]


def distances(lineage: Lineage) -> Distances:
    """Eq. 6, 7 and 8 for each layer pair on the first dev rows, at each stage of the distillation."""
    if lineage.dev is None:
        raise UserError(f"{lineage.task.folder}: its dev set is gone; no distances")
    tokenizer = BertTokenizer.from_pretrained(lineage.teacher)
    store = encode_pairs(tokenizer, *_dev_rows(lineage, ROWS), lineage.task.max_length)
    batch = store.collate(range(len(store)))
    mapping = lineage.mapping

    def outputs(model: torch.nn.Module, side: int, **options: Any) -> Any:
        collect = Collect(
            tuple(pair[side] for pair in mapping.hidden),
            tuple(pair[side] for pair in mapping.attention),
        )
        with torch.inference_mode():
            return model(**batch, collect=collect, **options)

    teacher = load(lineage, lineage.teacher)
    target = outputs(teacher, 1)
    same_heads = True
    attention, hidden = {}, {}
    for stage, folder in lineage.stages.items():
        student = load(lineage, folder, fresh=stage == "fresh weights")
        same_heads = student.config.num_attention_heads == teacher.config.num_attention_heads
        own = outputs(student, 0, is_student=True)
        hidden[stage] = torch.stack(hidden_losses(own.hidden, target.hidden)).tolist()
        if same_heads:
            parts = attention_losses(own.scores, target.scores)
            attention[stage] = torch.stack(parts).tolist()
    names = [f"layer {student}" for student, _ in mapping.hidden[1:]]
    return Distances(names, ["embeddings", *names], attention, hidden)
