"""Models that other programs, other tasks or other teachers left behind, in the scripts that take them."""

from __future__ import annotations

import json
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
    write_model,
    write_student,
    write_task,
)
from transformer.file_utils import CONFIG_NAME
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification

SMALL = {"num_hidden_layers": 2}
FINE_TUNE = "python finetune_teacher.py --max_steps 1 --max_seq_length 16 --output_dir out"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reconfigure(folder: str, remove: tuple[str, ...] = (), **values) -> None:
    path = Path(folder, CONFIG_NAME)
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove}
    path.write_text(json.dumps(kept | values))


@pytest.mark.parametrize("start", ["", "--from_scratch"])
@pytest.mark.parametrize("task, classes", [("STS-B", 1), ("MNLI", 3)])
@pytest.mark.parametrize(
    "labels", [{"num_labels": 2}, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}]
)
def test_labels_of_an_encoder_without_classifier_mean_nothing(start, task, classes, labels):
    write_bert(Path("bert"), **SMALL)
    reconfigure("bert", **labels)
    write_task(Path("glue", task), task)
    succeed(f"{FINE_TUNE} --data_dir glue/{task} --bert_model bert {start}")
    model = TinyBertForSequenceClassification.from_pretrained("out")
    assert model.classifier.weight.shape[0] == model.config.num_labels == classes


def test_a_classifier_of_another_task_gives_its_encoder_when_its_head_is_dropped():
    write_task(Path("glue/STS-B"), "STS-B")
    write_classifier(Path("mnli"), ["contradiction", "entailment", "neutral"], **SMALL)
    reconfigure("mnli", problem_type="single_label_classification")
    line = f"{FINE_TUNE} --data_dir glue/STS-B --bert_model mnli"
    outcome = run_line(line)
    assert outcome.status == 2 and "; --drop_head starts with a new classifier" in outcome.stderr
    assert not Path("out").exists()
    told = succeed(f"{line} --drop_head").stderr
    assert "mnli/model.safetensors holds classifier, left out as asked: starting from fresh" in told
    assert TinyBertForSequenceClassification.from_pretrained("out").config.num_labels == 1


@pytest.mark.parametrize("stage", ["", "--pred_distill"])
def test_a_student_of_another_teacher_and_task_starts_from_the_beginning_where_it_does_not_fit(
    stage,
):
    write_task(Path("glue/RTE"), "RTE")
    write_classifier(Path("teacher"), ["entailment", "not_entailment"], num_hidden_layers=4)
    student = config(**STUDENT_4L | SMALL)
    model = TinyBertForSequenceClassification.from_scratch(
        student, fit_size=40, id2label=["a", "b", "c"]
    )
    write_model(model, Path("student"))
    line = (
        f"python task_distill.py {stage} --data_dir glue/RTE --task_name RTE --teacher_model teacher "
        "--student_model student --max_steps 1 --allow_weak_teacher --output_dir out"
    )
    for flags, advice in (("", "--drop_"), ("--drop_head", "--drop_projection starts with a new")):
        outcome = run_line(f"{line} {flags}")
        assert outcome.status == 2 and advice in outcome.stderr
    told = succeed(f"{line} --drop_head --drop_projection").stderr
    assert "holds classifier, fit_dense, left out as asked" in told
    out = TinyBertForSequenceClassification.from_pretrained("out")
    assert (out.config.fit_size, out.config.num_labels) == (24, 2)


def test_a_guess_of_the_teachers_head_is_said_with_its_own_flag():
    write_task(Path("glue/RTE"), "RTE")
    write_classifier(Path("teacher"), ["entailment", "not_entailment"], num_hidden_layers=2)
    reconfigure("teacher", architectures=["BertForMaskedLM"])
    shape = config(**STUDENT_4L | SMALL)
    write_model(TinyBertForPreTraining.from_scratch(shape, fit_size=24), Path("student"))
    line = (
        "python task_distill.py --data_dir glue/RTE --task_name RTE --teacher_model teacher "
        "--student_model student --max_steps 1 --allow_weak_teacher --output_dir out --dry_run"
    )
    told = succeed(line).stderr
    assert "note: teacher: classifier head hf" in told and "--teacher_head tinybert makes" in told
    assert told.count("teacher: classifier head") == told.count("student: classifier head") == 1
    told = succeed(f"{line} --teacher_head tinybert").stderr
    assert "teacher: classifier head tinybert, classifier(relu(pooled)) (as asked;" in told


def test_a_student_made_of_a_teachers_layers_has_the_head_that_is_read():
    write_classifier(Path("teacher"), ["no", "yes"], **SMALL)
    reconfigure("teacher", architectures=[])
    line = "python tinybert_6_from_bert.py --source teacher --keep_layers 0"
    assert "is a guess" in succeed(f"{line} --output_dir a").stderr
    succeed(f"{line} --output_dir b --head tinybert")
    heads = [TinyBertForSequenceClassification.from_pretrained(folder).head for folder in "ab"]
    assert [head.kind for head in heads] == ["hf", "tinybert"]
    assert not any(head.guessed for head in heads)


def test_predictions_and_exports_read_the_same_head():
    write_classifier(Path("model"), ["no", "yes"], **SMALL)
    reconfigure("model", architectures=["BertForMaskedLM"], finetuning_task="sst-2")
    Path("lines.txt").write_text("the cat is good\nwalk\n")
    answers = {}
    for head in ("hf", "tinybert"):
        succeed(f"python export.py --model model --to hf --head {head} --output_dir {head}")
        for model, flag in (("model", f"--head {head}"), (head, "")):
            line = f"python predict.py --model {model} --input lines.txt {flag}"
            answers[model, head] = succeed(line).stdout
    assert answers["hf", "hf"] == answers["model", "hf"] != answers["model", "tinybert"]
    assert answers["tinybert", "tinybert"] == answers["model", "tinybert"]
    guessed = succeed("python predict.py --model model --input lines.txt")
    assert guessed.stdout == answers["model", "hf"] and guessed.stderr.count("is a guess") == 1


def test_a_graph_holds_its_head():
    write_classifier(Path("model"), ["no", "yes"], **SMALL)
    Path("model/model.onnx").write_bytes(b"x")
    outcome = run_line("python predict.py --model model/model.onnx --input lines.txt --head hf")
    assert outcome.status == 2 and "--head hf: model/model.onnx holds its head" in outcome.stderr


def test_general_distillation_drops_a_projection_that_does_not_fit():
    write_bert(Path("bert"), **SMALL)
    write_student(Path("shape"), **STUDENT_4L | SMALL)
    write_corpus(Path("corpus.txt"))
    shape = config(**STUDENT_4L | SMALL)
    write_model(TinyBertForPreTraining.from_scratch(shape, fit_size=40), Path("student"))
    succeed(
        "python pregenerate_training_data.py --train_corpus corpus.txt --bert_model bert "
        "--max_seq_len 24 --output_dir pairs"
    )
    line = (
        "python general_distill.py --pregenerated_data pairs --teacher_model bert --student_model "
        "student --continue_train --max_steps 1 --output_dir out --dry_run"
    )
    outcome = run_line(line)
    assert outcome.status == 2 and "; --drop_projection starts with a new" in outcome.stderr
    succeed(f"{line} --drop_projection")
