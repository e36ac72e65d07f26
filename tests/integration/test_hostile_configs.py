"""Names in configurations are names: whatever they hold, no program takes one for a path or a module."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.integration.workspace import (
    STUDENT_4L,
    config,
    run_line,
    succeed,
    write_bert,
    write_classifier,
    write_corpus,
    write_glove,
    write_model,
    write_student,
    write_task,
)
from transformer.modeling import TinyBertForPreTraining

MARK = "elsewhere"
PATHS = [f"../../{MARK}", f"../{MARK}/model.safetensors", f"/{MARK}/x", f"file://{MARK}/x"]
PATHS += [f"https://127.0.0.1:9/{MARK}", f"s3://{MARK}/x", f"$(touch {MARK})", f"{MARK}.evil.Model"]
# Every name that `transformers` or we have ever read or written, but those that say what the model or its
# tokenizer is.
NAMES = """_name_or_path name_or_path base_model_name_or_path finetuning_task processor_class
    transformers_version torch_dtype problem_type vocab_file merges_file tokenizer_file added_tokens_file
    special_tokens_map_file weights_file weight_map gguf_file adapter_file cache_dir output_dir save_dir
    custom_pipelines quantization_config teacher student dataset source""".split()  # noqa: SIM905
LAYERS = {"num_hidden_layers": 2}
DISTIL = (
    "python task_distill.py --data_dir glue/RTE --task_name RTE --teacher_model models/teacher "
    "--student_model models/student --output_dir out/new --allow_weak_teacher --max_steps 2"
)
COMMANDS = {
    "pregenerate": "python pregenerate_training_data.py --train_corpus corpus.txt "
    "--bert_model models/bert --max_seq_len 24 --output_dir out/new",
    "general": "python general_distill.py --pregenerated_data pairs --teacher_model models/bert "
    "--student_model student_config --max_steps 2 --output_dir out/new",
    "mlm": "python pretrain_mlm.py --pregenerated_data pairs --bert_model models/bert --max_steps 2 "
    "--output_dir out/new",
    "layers": f"{DISTIL}",
    "predictions": f"{DISTIL} --pred_distill",
    "scores": "python task_distill.py --do_eval --data_dir glue/RTE --task_name RTE "
    "--student_model models/teacher --output_dir out/new",
    "teacher": "python finetune_teacher.py --data_dir glue/RTE --bert_model models/teacher "
    "--max_steps 2 --output_dir out/new",
    "smart": "python tinybert_6_from_bert.py --source models/teacher --output_dir out/new --keep_layers 0",
    "fix": "python fix_teacher_layers.py --models teacher",
    "augment": "python data_augmentation.py --pretrained_bert_model models/bert --glove_embs glove.txt "
    "--glue_dir glue --task_name RTE --N 2",
    "export": "python export.py --model models/teacher --to hf --output_dir out/new",
    "predict": "python predict.py --model models/teacher --input glove.txt --output out/answers.tsv",
}
_opened: list[str] | None = None  # what the programs opened, made, moved, started, asked for


def _listen(event: str, given: tuple) -> None:
    if _opened is not None and not event.startswith(("compile", "exec", "object.", "marshal")):
        _opened.extend(
            f"{event} {value}" for value in given if isinstance(value, str | bytes | os.PathLike)
        )
        if event == "subprocess.Popen":
            _opened.append(f"{event} {given[1]}")


@pytest.fixture(scope="module")
def listening():
    sys.addaudithook(
        _listen
    )  # there is no way to take one back; it does nothing while _opened is None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("configs") / "world"
    write_bert(root / "models/bert", **LAYERS)
    write_classifier(root / "models/teacher", ["entailment", "not_entailment"], **LAYERS)
    shape = config(**{**STUDENT_4L, **LAYERS})
    write_model(TinyBertForPreTraining.from_scratch(shape, fit_size=24), root / "models/student")
    write_student(root / "student_config", **{**STUDENT_4L, **LAYERS})
    write_task(root / "glue/RTE", "RTE")
    write_glove(root / "glove.txt")
    write_corpus(root / "corpus.txt")
    before = os.getcwd()
    os.chdir(root)
    succeed(COMMANDS["pregenerate"].replace("out/new", "pairs"))
    os.chdir(before)
    return root


def names(*more: str) -> dict[str, str]:
    """Each name with one of PATHS."""
    return {name: PATHS[i % len(PATHS)] for i, name in enumerate([*NAMES, *more])}


def hostile(values: dict, labels: bool) -> dict:
    """A configuration of the same model in which every name is one of PATHS."""
    values = values | names() | {"architectures": PATHS, "label2id": {PATHS[0]: 0, PATHS[2]: 1}}
    values["auto_map"] = names("AutoConfig", "AutoModel", "AutoModelForSequenceClassification")
    if labels and "id2label" in values:
        values["id2label"] = {"0": PATHS[0], "1": PATHS[2]}
    return values


def spoil(labels: bool) -> None:
    for folder in ("models/bert", "models/teacher", "models/student", "student_config"):
        file = Path(folder, "config.json")
        file.write_text(json.dumps(hostile(json.loads(file.read_text()), labels)))
        tokenizer = names() | {"do_lower_case": True}
        Path(folder, "tokenizer_config.json").write_text(json.dumps(tokenizer))
        Path(folder, "source.json").write_text(json.dumps(names("model", "commit")))


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def enter(world: Path, tmp_path: Path, monkeypatch) -> None:
    """Work in a copy of the world."""
    place = tmp_path / "a/b/world"
    shutil.copytree(world, place)
    monkeypatch.chdir(place)


def listened(command: str) -> tuple:
    """Run a command; return its outcome, and what it opened, made, moved, started or asked for."""
    global _opened
    _opened = []
    try:
        outcome = run_line(command)
    finally:
        events, _opened = _opened, None
    return outcome, events


@pytest.mark.parametrize(
    "told", [{"tokenizer_class": PATHS[-1]}, {"auto_map": {"AutoTokenizer": [PATHS[0], None]}}]
)
@pytest.mark.parametrize("name", ["predict", "pregenerate", "augment"])
def test_a_tokenizer_of_other_code_is_refused_and_not_looked_for(
    world, tmp_path, monkeypatch, listening, name, told
):
    enter(world, tmp_path, monkeypatch)
    for folder in ("models/bert", "models/teacher"):
        Path(folder, "tokenizer_config.json").write_text(json.dumps(told))
    outcome, events = listened(COMMANDS[name])
    assert outcome.status == 2
    assert "tokenizer_config.json: " in outcome.stderr and next(iter(told)) in outcome.stderr
    assert not [event for event in events if MARK in event]


CASES = [(name, False) for name in COMMANDS]
CASES += [(name, True) for name in ("scores", "predictions", "smart", "fix", "export", "predict")]


@pytest.mark.parametrize(("name", "labels"), CASES)
def test_no_name_in_a_configuration_becomes_a_path(
    world, tmp_path, monkeypatch, listening, name, labels
):
    """Nothing of such a name is opened, made, moved, started or asked for, and no file has it."""
    enter(world, tmp_path, monkeypatch)
    spoil(labels)
    before = tree(tmp_path)
    outcome, events = listened(COMMANDS[name])
    # Labels that are not the task's are refused where there is a task.
    assert outcome.status == (2 if labels and name in ("scores", "predictions") else 0), (
        outcome.stderr
    )
    assert "open models/teacher/config.json" in events or "open models/bert/vocab.txt" in events
    assert not [event for event in events if MARK in event]
    places = ("a/b/world/out", "a/b/world/glue/RTE/train_aug.tsv", "a/b/world/models/teacher")
    assert all(path.startswith(places) for path in tree(tmp_path) - before)
    assert not any(MARK in path for path in tree(tmp_path))
