"""What a run leaves is used by others: `transformers`, flags files, exports, predictions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from tests.integration.workspace import (
    STUDENT_4L,
    config,
    run_line,
    succeed,
    write_classifier,
    write_model,
    write_task,
)
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification

TEACHER = {"num_hidden_layers": 4}
DISTIL = (
    "python task_distill.py --pred_distill --data_dir glue/RTE --task_name RTE "
    "--teacher_model teacher --student_model student --max_steps 2 --learning_rate 1e-3 "
    "--allow_weak_teacher --output_dir out"
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_classifier(Path("teacher"), ["entailment", "not_entailment"], **TEACHER)
    torch.manual_seed(3)
    student = config(**STUDENT_4L | {"num_hidden_layers": 2})
    write_model(TinyBertForPreTraining.from_scratch(student, fit_size=24), Path("student"))
    write_task(Path("glue/RTE"), "RTE")
    return tmp_path


# transformers


@pytest.mark.parametrize("head, options", [("hf", {}), ("tinybert", {"trust_remote_code": True})])
def test_a_student_gives_the_same_logits_in_transformers(head, options, monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers")
    cache = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", cache)
    succeed(f"{DISTIL} --head {head}")
    ours = TinyBertForSequenceClassification.from_pretrained("out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained("out", **options)
    assert ours.config.classifier_head == head
    ids = torch.randint(5, ours.config.vocab_size, (3, 20))
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits
        torch.testing.assert_close(ours(ids).output, expected, rtol=0, atol=1e-5)


def test_a_student_has_a_model_card():
    succeed(DISTIL)
    card = ModelCard.load("out/README.md")
    record = json.loads(Path("out/run.json").read_text())
    score = record["metrics"]["dev"]["acc"]
    assert card.data.eval_results is None and "not known to be GLUE's" in card.text
    # The same files, noted as GLUE's.
    files = {f"{s}.tsv": facts["sha256"] for s, facts in record["data"].items()}
    note = Path(record["data"]["dev"]["path"]).with_name("origin.json")
    note.write_text(json.dumps({"dataset": "GLUE", "files": files}))
    succeed(f"{DISTIL} --overwrite_output_dir")
    card = ModelCard.load("out/README.md")
    (result,) = card.data.eval_results
    assert (result.dataset_config, result.metric_type, result.metric_value) == (
        "rte",
        "accuracy",
        score,
    )


def test_an_exported_student_has_one_too():
    succeed(DISTIL)
    succeed("python export.py --model out --to hf --output_dir exported --max_seq_length 8")
    card = ModelCard.load("exported/README.md")
    assert card.data.model_name == "exported" and "| `model.safetensors` |" in card.text


def test_a_head_that_is_asked_for_is_read_and_said():
    line = "python task_distill.py --do_eval --data_dir glue/RTE --task_name RTE --output_dir out"
    for flag, told in (
        ("", "teacher: classifier head hf, classifier(dropout(pooled)) (config.json names"),
        (
            "--head tinybert",
            "teacher: classifier head tinybert, classifier(relu(pooled)) (as asked;",
        ),
    ):
        assert told in succeed(f"{line} --student_model teacher {flag}").stderr


# Flags files and dry runs


def test_a_runs_flags_file_repeats_it_bit_for_bit():
    succeed(f"{DISTIL} --seed 7")
    succeed("python task_distill.py --config out/flags.json --output_dir again")
    assert (
        Path("out/pytorch_model.bin").read_bytes() == Path("again/pytorch_model.bin").read_bytes()
    )
    flags, again = (json.loads(Path(f, "flags.json").read_text()) for f in ("out", "again"))
    assert flags["max_seq_length"] == 128  # the task's own, as resolved
    assert again == flags | {"output_dir": "again"}


def test_a_student_made_of_layers_is_made_again_from_its_flags_file():
    line = "python tinybert_6_from_bert.py --source teacher --output_dir smart --keep_layers 0,2"
    succeed(line)
    succeed("python tinybert_6_from_bert.py --config smart/flags.json --output_dir again")
    for name in ("pytorch_model.bin", "config.json"):
        assert Path("smart", name).read_bytes() == Path("again", name).read_bytes()
    assert ModelCard.load("smart/README.md").data.model_name == "smart"


def test_a_mistake_in_a_flags_file_leaves_nothing_behind():
    Path("run.yaml").write_text("learning_rte: 3e-5\n")
    outcome = run_line(f"{DISTIL} --config run.yaml")
    assert outcome.status == 2 and not Path("out").exists()
    assert outcome.stderr.splitlines() == [
        "error: --config run.yaml: learning_rte is not a flag of task_distill.py; did you mean learning_rate?"
    ]


@pytest.mark.parametrize(
    "line",
    [
        DISTIL,
        DISTIL.replace("--pred_distill ", ""),
        "python finetune_teacher.py --data_dir glue/RTE --bert_model teacher --output_dir out",
    ],
)
def test_a_dry_run_checks_and_tells_and_writes_nothing(line):
    before = sorted(map(str, Path().rglob("*")))
    outcome = succeed(f"{line} --dry_run")
    assert sorted(map(str, Path().rglob("*"))) == before
    for told in ("rows of train.tsv", "tokens on average", "in the encoder", "of 32 rows"):
        assert told in outcome.stderr
    assert re.search(r"^expected: about \d+ s for \d steps? of [\d.]+ m?s", outcome.stderr, re.M)
    assert outcome.stderr.endswith("dry run: out is unchanged\n")


@pytest.mark.parametrize(
    "stage, flags, told",
    [
        ("", "", "2 of 32 rows, by --max_steps; an epoch has 1"),
        ("", "", "learning rate 0.001, constant; weight decay 0.01"),
        ("--pred_distill ", "", "learning rate up to 0.001 in 0.1 of the steps, then down to 0;"),
        ("", "--no_max_steps --num_train_epochs 3", "3 of 32 rows, 3 epochs of 1\n"),
        ("", "--no_max_steps --num_train_epochs 1", "1 of 32 rows, 1 epoch of 1\n"),
    ],
)
def test_what_will_be_done_is_told_as_it_will_be(stage, flags, told):
    line = DISTIL.replace("--pred_distill ", stage)
    assert told in succeed(f"{line} {flags} --dry_run").stderr


def test_a_run_ends_with_its_time_and_its_best_score():
    outcome = succeed(DISTIL)
    score = json.loads(Path("out/run.json").read_text())["metrics"]["dev"]["acc"]
    last = outcome.stderr.splitlines()[-1]
    assert re.fullmatch(rf"done in \d+ s: out; best at step \d: dev acc {score:.4f}", last)


def test_a_dry_run_refuses_what_a_run_would_refuse():
    Path("out").mkdir()
    Path("out/thesis.tex").touch()
    outcome = run_line(f"{DISTIL} --dry_run")
    assert outcome.status == 2 and "is not empty (holds thesis.tex)" in outcome.stderr
    outcome = run_line(f"{DISTIL} --dry_run --do_eval")
    assert outcome.status == 2 and "--dry_run: only applies to training" in outcome.stderr
