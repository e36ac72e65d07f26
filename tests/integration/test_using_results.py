"""What a run leaves is used by others: `transformers`, flags files, exports, predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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


def test_a_head_cannot_be_chosen_once_a_model_is_trained():
    outcome = run_line(f"{DISTIL} --do_eval --head hf")
    assert outcome.status == 2 and "--head: is for training" in outcome.stderr
