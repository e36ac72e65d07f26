"""README.md of a trained model: the hub's header and what a stranger needs, from the run record."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from files.atomic import RUN_RECORD_NAME, atomic_open
from files.origins import GLUE
from transformer.configuration import BertConfig
from transformer.hub import HUB_NAME

CARD_NAME = "README.md"
SOURCE_NAME = "source.json"  # of get_bert_models.py: which model of the hub a folder holds
LICENCE = "Apache-2.0, as BERT and the code it was made with."
METRICS = {  # ours -> the hub's
    "acc": "accuracy",
    "f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearmanr": "spearmanr",
}
STAGES = {
    "general": "A general student: it learned the layers of a BERT on plain text (TinyBERT, section "
    "3.2), and no task. Distil it on a task with `task_distill.py`.",
    "intermediate": "A student between two stages: it learned its teacher's layers on the task. Its "
    "classifier is untrained; `task_distill.py --pred_distill` is what follows.",
    "prediction": "A student that learned the task from a fine-tuned teacher (TinyBERT, section 3.2).",
    "finetune": "BERT fine-tuned on the labels of the task.",
    "distilbert": "A general student: it learned masked language modelling from a BERT's predictions and "
    "hidden states (DistilBERT, section 3), and no task.",
    "direct": "A student that learned one task from a BERT fine-tuned on it, without pre-training.",
    "mlm": "BERT trained further as a masked language model.",
}

# The same of models that answer questions (Dynamic-TinyBERT).
QUESTIONS = "SQuAD"
ANSWERING = {
    "finetune": "A BERT that finds the answer to a question in a text.",
    "intermediate": "A student between two steps: it learned its teacher's layers on questions. Its head is "
    "untrained; `dynamic_tinybert/run_squad.py --pred_distill` is what follows.",
    "prediction": "A student that learned from its teacher to find the answer to a question in a text.",
}


def write_card(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Write the card of a finished training run beside its model, or beside an export of it.

    Args:
        record: what `RunRecord.complete` returned.
        files: of an export, its kinds: name, size, speed and score of each, as in export.json.
    """
    with atomic_open(folder / CARD_NAME) as file:
        file.write(f"---\n{_header(folder, record)}\n---\n\n# {folder.resolve().name}\n\n")
        file.write("\n\n".join(_sections(folder, record, files)) + "\n")


def write_export_card(
    folder: Path, source: Path, files: Mapping[str, Mapping[str, Any]], config: BertConfig
) -> None:
    """Write the card of an export, if the model in `source` has the record of a run of ours.

    Args:
        config: of the model that was exported; it may have been saved again since that run.
    """
    record = _read(source / RUN_RECORD_NAME)
    if record.get("stage") in STAGES:
        record["model"] = record["model"] | {"config": config.to_dict()}
        write_card(folder, record, files)


def write_layers_card(
    folder: Path, name: str, source: Path, layers: str, config: BertConfig, is_classifier: bool
) -> None:
    """Write the card of a student that is made of its teacher's layers, and has not been trained.

    Args:
        name: what the folder will be called.
        layers: those that were kept, as they were typed.
    """
    from huggingface_hub import ModelCardData

    facts: dict[str, Any] = {"pipeline_tag": "text-classification"} if is_classifier else {}
    own = is_classifier and config.classifier_head == "tinybert"
    header = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        tags=["bert", "tinybert", *["custom_code"] * own],
        base_model=base_model(source),
        model_name=name,
        **facts,
    )
    kind = "AutoModelForSequenceClassification" if is_classifier else "AutoModel"
    shape = f"{config.num_hidden_layers} layers, {config.hidden_size} wide"
    sections = [
        f"---\n{header.to_yaml(line_break=chr(10)).strip()}\n---\n\n# {name}",
        f"A student to be distilled: layers {layers} of `{source}`, counted from 0, with its embeddings, "
        "pooler and classifier where it has them. Nothing was trained and nothing has been scored.",
        f"- size: {shape}\n- the model it was made from: `{source}`",
        f"## Use\n\n{_loading(name, kind, own)}",
        f"## Licence\n\n{LICENCE}",
    ]
    with atomic_open(folder / CARD_NAME) as file:
        file.write("\n\n".join(sections) + "\n")


def base_model(source: str | os.PathLike | None) -> str | None:
    """The model of the hub that a local folder goes back to, by the records in the folders on the way."""
    for _ in range(20):  # folders that name each other would have no end
        if source is None:
            return None
        folder = Path(source)
        if not folder.is_dir():
            return str(source) if HUB_NAME.fullmatch(str(source)) else None
        if (name := _read(folder / SOURCE_NAME).get("model")) is not None:
            return name
        record = _read(folder / RUN_RECORD_NAME)
        source = record.get("teacher") or record.get("student")
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_glue(facts: Mapping[str, Any] | None) -> bool:
    """Whether a file of the run record is one of GLUE's own; see files/origins.py."""
    return facts is not None and facts.get("dataset") == GLUE


def _header(folder: Path, record: Mapping[str, Any]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    task = record["task"]
    config = record["model"]["config"]
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="nyu-mll/glue",
            dataset_name=f"GLUE {task}",
            dataset_config=task.lower().replace("-", ""),
            dataset_split="validation" if split == "dev" else split.replace("dev", "validation"),
            metric_type=METRICS[name],
            metric_name=f"{name} ({split})",
            metric_value=value,
        )
        for split, metrics in record["metrics"].items()
        for name, value in metrics.items()
        if name in METRICS and _is_glue(record["data"].get(split))
    ]
    tags = [record["model"]["config"].get("model_type", "bert")]
    tags += ["tinybert"] * (record["stage"] in ("general", "intermediate", "prediction"))
    tags += ["knowledge-distillation"] * (record["teacher"] is not None)
    facts: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "transformers",
        "tags": tags,
        "base_model": base_model(record["teacher"] or record["student"]),
        "model_name": folder.resolve().name,
    }
    if task == QUESTIONS:
        facts["pipeline_tag"] = "question-answering"
    elif task is not None:
        if any(map(_is_glue, record["data"].values())):
            facts |= {"language": "en", "datasets": ["nyu-mll/glue"]}
        facts["pipeline_tag"] = "text-classification"
        facts["metrics"] = list(dict.fromkeys(result.metric_type for result in results)) or None
        if config.get("classifier_head") == "tinybert":
            facts["tags"].append("custom_code")
    facts["eval_results"] = results or None
    return ModelCardData(**facts).to_yaml(line_break="\n").strip()


def _sections(
    folder: Path, record: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]] | None
) -> Iterator[str]:
    task, config = record["task"], record["model"]["config"]
    yield (ANSWERING if task == QUESTIONS else STAGES)[record["stage"]]
    origin = record["teacher"] or record["student"]
    role = "its teacher" if record["teacher"] else "the model it started from"
    shape = (
        f"{config['num_hidden_layers']} layers, {config['hidden_size']} wide, "
        f"{record['model']['encoder_parameters']:,} parameters in the encoder"
    )
    known = base_model(origin)
    known = f", from `{known}`" if known not in (None, str(origin)) else ""
    about = f"task: {task} of GLUE"
    if not all(_is_glue(facts) for split, facts in record["data"].items() if "train" not in split):
        about = f"task: data in the layout of GLUE's {task}, not known to be GLUE's"
    if task == QUESTIONS:
        about = "task: questions about texts, whose answers are spans of them"
    elif task is None:
        about = "language: that of its training text; add `language:` above before publishing"
    yield f"- size: {shape}\n- {role}: `{origin}`{known}\n- {about}"
    if record["metrics"]:
        losses = record.get("main_metric") == "loss"
        factor = 1 if task == QUESTIONS else 100
        rows = [
            f"| {split} | {name} | {f'{value:.4f}' if losses else f'{factor * value:.1f}'} |"
            for split, metrics in record["metrics"].items()
            for name, value in metrics.items()
        ]
        head = (
            "| set | loss | weighted |"
            if losses
            else f"| set | metric | {'score' if factor == 1 else '× 100'} |"
        )
        yield f"## Scores\n\n{head}\n|---|---|---|\n" + "\n".join(rows)
        yield (
            f"Of the best model (step {record['best_step']:,} of {record['steps']:,}), chosen on this "
            "very dev set; one seed."
        )
    if files is not None:
        yield _files(files)
    if files is None or "hf" in files:
        yield "## Use\n\n" + _use(folder, record)
    if files is not None and (graph := files.get("onnx", files.get("int8"))):
        yield _use_graph(folder, graph["file"])
    yield "## Training data\n\n" + "\n".join(_data(record["data"]))
    where = record["hardware"].get("gpu") or f"{record['hardware']['cores']} CPU cores"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield "## Training\n\n```bash\npython " + shlex.join(record["command"]) + "\n```"
    skipped = record.get("skipped_steps", 0)
    left_out = f" ({skipped:,} of them left out, their numbers not being finite)" * bool(skipped)
    yield (
        f"{record['steps']:,} steps{left_out}, {record['examples']:,} examples, "
        f"{record['examples_per_second']:,} examples a second on {where}; {versions}; commit "
        f"{record['git_commit'] or 'not known'}."
        + " Every flag is in `flags.json`, the rest in `run.json`."
        * (files is None)
    )
    yield f"## Licence\n\n{LICENCE} The training data have licences of their own."


def _use(folder: Path, record: Mapping[str, Any]) -> str:
    name = folder.resolve().name
    if record["task"] is None:
        kind = "AutoModelForMaskedLM" if record["stage"] in ("mlm", "distilbert") else "AutoModel"
        return _loading(name, kind, False)
    if record["task"] == QUESTIONS:
        text = _loading(name, "AutoModelForQuestionAnswering", False)
        return f'{text}\n\nOr: `python predict.py --model {name} --question "…" --context "…"`.'
    own = record["model"]["config"].get("classifier_head") == "tinybert"
    text = _loading(name, "AutoModelForSequenceClassification", own)
    return f"{text}\n\nOr, a line at a time: `python predict.py --model {name} --input lines.txt`."


def _loading(name: str, kind: str, own: bool) -> str:
    """How transformers loads a model; `own` says that the folder brings its class along."""
    more = ", trust_remote_code=True" if own else ""
    text = (
        f"```python\nfrom transformers import AutoTokenizer, {kind}\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        f'model = {kind}.from_pretrained("{name}"{more})\n```'
    )
    if own:
        text += (
            "\n\nThe head is TinyBERT's, `classifier(relu(pooled))`: without `trust_remote_code=True` "
            "transformers takes its own and gives other logits."
        )
    return text


def _files(files: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each file of an export, the model it was made from first."""
    rows = []
    for row in files.values():
        scores = [
            f"{split} {name} {100 * value:.1f}"
            for split, metrics in row.get("metrics", {}).items()
            for name, value in metrics.items()
        ]
        speed = f"{row['ms_batch_1']:.2f} | {row['ms_batch_32']:.2f}"
        rows.append(
            f"| `{row['file']}` | {row['bytes']:,} | {speed} | {', '.join(scores) or 'not measured'} |"
        )
    return (
        "## Files\n\n| file | bytes | ms, batch of 1 | ms, batch of 32 | score × 100 |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows) + "\n\nThe first is the original, which is not "
        "here. Times are of the CPU that the export ran on; `export.json` has the rest."
    )


def _use_graph(folder: Path, file: str) -> str:
    name = folder.resolve().name
    return (
        "## Use without torch\n\n```python\nimport onnxruntime\nfrom transformers import AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        f'session = onnxruntime.InferenceSession("{name}/{file}")\n'
        'batch = tokenizer(["It is raining."], padding=True, return_tensors="np")\n'
        '(logits,) = session.run(["logits"], dict(batch))\n```'
    )


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    """A line for each file: its name, its rows, its SHA-256."""
    for split, facts in data.items():
        rows, sums = facts.get("rows"), facts.get("sha256")
        rows, sums = (value if isinstance(value, list) else [value] for value in (rows, sums))
        for row, checksum in zip(rows, sums, strict=True):
            name = Path(facts["path"]).name
            whose = "; GLUE's own" * _is_glue(facts)
            yield (
                f"- {split}: `{name}`, {row:,} rows, SHA-256 `{checksum or 'not recorded'}`{whose}"
            )
