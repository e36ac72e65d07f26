"""The commands of the learning version, as typed, in its folders: 1_pre_data to 5_task_distill_out."""

# ruff: noqa: E501  the command lines are as long as they were typed

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from corpus.epochs import open_epoch
from tests.integration.workspace import (
    STUDENT_4L,
    run_line,
    succeed,
    write_bert,
    write_corpus,
    write_glove,
    write_student,
    write_task,
)
from transformer.tokenization import BertTokenizer

AUGMENT = "python data_augmentation.py --pretrained_bert_model teacher_model --glove_embs 1_pre_data/glove.6B.100d.txt --glue_dir . --task_name SST-2"
PREGENERATE = "python pregenerate_training_data.py --train_corpus 1_pre_data/documents.txt --output_dir 2_pregenerate_data --bert_model teacher_model --do_whole_word_mask"
GENERAL = "python general_distill.py --pregenerated_data 2_pregenerate_data --teacher_model teacher_model --student_model student_model --output_dir 3_general_distill --do_lower_case"
# The guide takes the two stages in the opposite order to the paper.
FIRST_STAGE = "python task_distill.py --data_dir SST-2 --teacher_model teacher_model --student_model 3_general_distill --task_name sst-2 --output_dir 4_task_distill_mid --aug_train --do_lower_case --pred_distill"
SECOND_STAGE = "python task_distill.py --data_dir SST-2 --teacher_model teacher_model --student_model 4_task_distill_mid --task_name sst-2 --output_dir 5_task_distill_out --aug_train --do_lower_case"
RESULTS = ("2_pregenerate_data", "3_general_distill", "4_task_distill_mid", "5_task_distill_out")
EVALUATE = "python task_distill.py --do_eval --student_model 5_task_distill_out --data_dir SST-2 --task_name SST-2 --output_dir scores --do_lower_case --eval_batch_size 32 --max_seq_length 128"
FINE_TUNE = "python finetune_teacher.py --data_dir SST-2 --bert_model teacher_model --output_dir fine_tuned --num_train_epochs 1"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bert(Path("teacher_model"))
    write_student(Path("student_model"), **STUDENT_4L)
    write_task(Path("SST-2"), "SST-2")
    write_glove(Path("1_pre_data/glove.6B.100d.txt"))
    write_corpus(Path("1_pre_data/documents.txt"))
    for folder in RESULTS:  # they come with the guide's repository, empty
        Path(folder).mkdir()
        Path(folder, ".gitkeep").touch()
    return tmp_path


def test_the_commands_run_as_typed(place, monkeypatch):
    # The teacher's weights are random; a real one is better than chance and needs no flag.
    monkeypatch.setattr("tasks.classifiers.chance_score", lambda task, labels: -1.0)
    succeed(AUGMENT)
    assert len(Path("SST-2/train_aug.tsv").read_text().splitlines()) > 10

    outcome = succeed(PREGENERATE)
    assert "nothing is masked" in outcome.stderr, "--do_whole_word_mask without a share to mask"

    succeed(GENERAL)
    newest = max(
        Path("3_general_distill").glob("step_*_pytorch_model.bin"),
        key=lambda p: p.stat().st_mtime_ns,
    )
    newest.rename("3_general_distill/pytorch_model.bin")  # as the guide asks

    # BERT as downloaded has no classifier, so it can teach layers on plain text but not SST-2.
    outcome = run_line(FIRST_STAGE)
    assert outcome.status == 2 and "classifier" in outcome.stderr.splitlines()[-1]
    assert [path.name for path in Path("4_task_distill_mid").iterdir()] == [".gitkeep"]
    succeed(FINE_TUNE)
    shutil.rmtree("teacher_model")
    Path("fine_tuned").rename("teacher_model")

    succeed(FIRST_STAGE)
    succeed(SECOND_STAGE)
    records = [
        json.loads(Path(folder, "run.json").read_text())
        for folder in ("3_general_distill", "4_task_distill_mid", "5_task_distill_out")
    ]
    assert [record["stage"] for record in records] == ["general", "prediction", "intermediate"]
    assert [record["arguments"]["num_train_epochs"] for record in records] == [3, 3, 10]
    assert records[1]["metrics"]["dev"].keys() == {"acc"}
    assert Path("5_task_distill_out/pytorch_model.bin").is_file()
    succeed(EVALUATE)
    assert Path("scores/eval_results.txt").read_text().startswith("acc = ")
    assert not list(Path().glob("*.previous-*")), "an empty folder was moved aside"


def test_an_uncased_vocabulary_lowers_the_text_without_being_told(place):
    outcome = succeed(PREGENERATE)
    assert "uncased" in outcome.stdout + outcome.stderr
    tokenizer = BertTokenizer.from_pretrained("teacher_model")
    tokens = np.asarray(open_epoch("2_pregenerate_data", 0, tokenizer).store.tokens)
    assert len(tokens) > 100 and not (tokens == tokenizer.unk_id).any()
