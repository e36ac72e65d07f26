"""Every command of the published reproduction, as typed, in order, in a tiny world."""

# ruff: noqa: E501  the command lines are as long as they were typed

from __future__ import annotations

import json
import math
import shlex
import zipfile
from pathlib import Path

from tests.integration.workspace import (
    LABELS,
    STUDENT_4L,
    STUDENT_6L,
    Outcome,
    run_line,
    write_bert,
    write_classifier,
    write_dump,
    write_glove,
    write_student,
    write_task,
)

COMMANDS = r"""
conda env create -f environment.yml
conda activate DLNLP_25W_Group4
mkdir -p data models
wget https://nlp.stanford.edu/data/glove.840B.300d.zip
mv glove.840B.300d.zip data/
unzip data/glove.840B.300d.zip
python download_glue.py
mv glue_data data/
python -m wikiextractor.WikiExtractor data/enwiki-20251101-pages-articles-multistream.xml.bz2 --json -o data/extracted_wiki
python prepare_data.py
python get_bert_models.py
python pregenerate_training_data.py --train_corpus wiki_for_bert.txt --bert_model models/bert-base-uncased --reduce_memory --do_lower_case --epochs_to_generate 3 --output_dir data/json_wiki
python general_distill.py --pregenerated_data json_wiki --teacher_model models/bert-base-uncased --student_model tinybert_4l_config --reduce_memory --do_lower_case --train_batch_size 64 --output_dir models/distilled_tinybert_4l --eval_step 10000
python general_distill.py --pregenerated_data json_wiki --teacher_model models/bert-base-uncased --student_model tinybert_4l_config --reduce_memory --do_lower_case --train_batch_size 64 --output_dir models/distilled_tinybert_4l --eval_step 10000   --learning_rate 1.25e-5
python general_distill.py --pregenerated_data json_wiki --teacher_model models/bert-base-uncased --student_model tinybert_6l_config --reduce_memory --do_lower_case --train_batch_size 256 --gradient_accumulation_steps 8 --output_dir models/distilled_tinybert_6l --eval_step 10000
cp $(ls -t models/distilled_tinybert_4l/step_*_pytorch_model.bin | head -n1) models/distilled_tinybert_4l/pytorch_model.bin
cp $(ls -t models/distilled_tinybert_6l/step_*_pytorch_model.bin | head -n1) models/distilled_tinybert_6l/pytorch_model.bin
python data_augmentation.py --pretrained_bert_model models/bert-base-uncased --glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name RTE
python data_augmentation.py --pretrained_bert_model models/bert-base-uncased --glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name SST-2
python data_augmentation.py --pretrained_bert_model models/bert-base-uncased --glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name CoLA
python data_augmentation.py --pretrained_bert_model models/bert-base-uncased --glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name MRPC
python fix_teacher_layers.py
python finetune_teacher.py --data_dir data/glue_data/RTE --bert_model models/bert-base-uncased-rte --output_dir models/final_rte_teacher --num_train_epochs 5 --train_batch_size 32 --learning_rate 2e-5
python finetune_teacher.py --data_dir data/glue_data/SST-2 --bert_model models/bert-base-uncased-sst2 --output_dir models/final_sst2_teacher --num_train_epochs 5 --train_batch_size 32 --learning_rate 2e-5
python finetune_teacher.py --data_dir data/glue_data/CoLA --bert_model models/bert-base-uncased-cola --output_dir models/final_cola_teacher --num_train_epochs 5 --train_batch_size 32 --learning_rate 2e-5
python finetune_teacher.py --data_dir data/glue_data/MRPC --bert_model models/bert-base-uncased-mrpc --output_dir models/final_mrpc_teacher --num_train_epochs 5 --train_batch_size 32 --learning_rate 2e-5
python task_distill.py --teacher_model models/final_rte_teacher --student_model models/distilled_tinybert_4l --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tmp_distilled_tinybert_4l_rte --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill --teacher_model models/final_rte_teacher --student_model models/tmp_distilled_tinybert_4l_rte --data_dir data/glue_data/RTE --task_name RTE --output_dir models/distilled_tinybert_4l_rte --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_cola_teacher --student_model models/distilled_tinybert_4l --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tmp_distilled_tinybert_4l_cola --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_cola_teacher --student_model models/tmp_distilled_tinybert_4l_cola --data_dir data/glue_data/CoLA --task_name cola --output_dir models/distilled_tinybert_4l_cola --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_sst2_teacher --student_model models/distilled_tinybert_4l --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tmp_distilled_tinybert_4l_sst2 --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_sst2_teacher --student_model models/tmp_distilled_tinybert_4l_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/distilled_tinybert_4l_sst2 --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_mrpc_teacher --student_model models/distilled_tinybert_4l --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tmp_distilled_tinybert_4l_mrpc --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_mrpc_teacher --student_model models/tmp_distilled_tinybert_4l_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/distilled_tinybert_4l_mrpc --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_rte_teacher --student_model models/distilled_tinybert_6l --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tmp_distilled_tinybert_6l_rte --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill --teacher_model models/final_rte_teacher --student_model models/tmp_distilled_tinybert_6l_rte --data_dir data/glue_data/RTE --task_name RTE --output_dir models/distilled_tinybert_6l_rte --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_cola_teacher --student_model models/distilled_tinybert_6l --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tmp_distilled_tinybert_6l_cola --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_cola_teacher --student_model models/tmp_distilled_tinybert_6l_cola --data_dir data/glue_data/CoLA --task_name cola --output_dir models/distilled_tinybert_6l_cola --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_sst2_teacher --student_model models/distilled_tinybert_6l --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tmp_distilled_tinybert_6l_sst2 --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_sst2_teacher --student_model models/tmp_distilled_tinybert_6l_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/distilled_tinybert_6l_sst2 --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_mrpc_teacher --student_model models/distilled_tinybert_6l --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tmp_distilled_tinybert_6l_mrpc --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_mrpc_teacher --student_model models/tmp_distilled_tinybert_6l_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/distilled_tinybert_6l_mrpc --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --do_eval --student_model models/distilled_tinybert_4l_rte --data_dir data/glue_data/RTE --task_name rte --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_4l_cola --data_dir data/glue_data/CoLA --task_name cola --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_4l_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_4l_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_6l_rte --data_dir data/glue_data/RTE --task_name rte --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_6l_cola --data_dir data/glue_data/CoLA --task_name cola --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_6l_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/distilled_tinybert_6l_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python tinybert_6_from_bert.py
python task_distill.py --teacher_model models/final_rte_teacher --student_model models/tinybert_6l_smart_init_direct_rte --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tmp_tinybert_6l_smart_init_direct_rte --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill --teacher_model models/final_rte_teacher --student_model models/tmp_tinybert_6l_smart_init_direct_rte --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tinybert_6l_smart_init_direct_rte_tsd --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_cola_teacher --student_model models/tinybert_6l_smart_init_direct_cola --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tmp_tinybert_6l_smart_init_direct_cola --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_cola_teacher --student_model models/tmp_tinybert_6l_smart_init_direct_cola --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tinybert_6l_smart_init_direct_cola_tsd --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_sst2_teacher --student_model models/tinybert_6l_smart_init_direct_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tmp_tinybert_6l_smart_init_direct_sst2 --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_sst2_teacher --student_model models/tmp_tinybert_6l_smart_init_direct_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tinybert_6l_smart_init_direct_sst2_tsd --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_mrpc_teacher --student_model models/tinybert_6l_smart_init_direct_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tmp_tinybert_6l_smart_init_direct_mrpc --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_mrpc_teacher --student_model models/tmp_tinybert_6l_smart_init_direct_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tinybert_6l_smart_init_direct_mrpc_tsd --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_direct_rte_tsd --data_dir data/glue_data/RTE --task_name rte --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_direct_cola_tsd --data_dir data/glue_data/CoLA --task_name cola --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_direct_sst2_tsd --data_dir data/glue_data/SST-2 --task_name sst-2 --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_direct_mrpc_tsd --data_dir data/glue_data/MRPC --task_name mrpc --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python general_distill.py --pregenerated_data data/json_wiki --teacher_model models/bert-base-uncased  --student_model models/tinybert_6l_smart_init_direct_base --reduce_memory --do_lower_case --train_batch_size 256 --gradient_accumulation_steps 8 --output_dir models/distilled_tinybert_6l_smart_init --eval_step 10000 --continue_train --num_train_epochs 1 --warmup_proportion 0.01
python task_distill.py --teacher_model models/final_rte_teacher --student_model models/distilled_tinybert_6l_smart_init --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tmp_tinybert_6l_smart_init_rte --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill --teacher_model models/final_rte_teacher --student_model models/tmp_tinybert_6l_smart_init_rte --data_dir data/glue_data/RTE --task_name RTE --output_dir models/tinybert_6l_smart_init_rte --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_cola_teacher --student_model models/distilled_tinybert_6l_smart_init --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tmp_tinybert_6l_smart_init_cola --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_cola_teacher --student_model models/tmp_tinybert_6l_smart_init_cola --data_dir data/glue_data/CoLA --task_name cola --output_dir models/tinybert_6l_smart_init_cola --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_sst2_teacher --student_model models/distilled_tinybert_6l_smart_init --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tmp_tinybert_6l_smart_init_sst2 --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_sst2_teacher --student_model models/tmp_tinybert_6l_smart_init_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --output_dir models/tinybert_6l_smart_init_sst2 --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --teacher_model models/final_mrpc_teacher --student_model models/distilled_tinybert_6l_smart_init --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tmp_tinybert_6l_smart_init_mrpc --max_seq_length 128 --train_batch_size 32 --num_train_epochs 10 --aug_train --do_lower_case
python task_distill.py --pred_distill  --teacher_model models/final_mrpc_teacher --student_model models/tmp_tinybert_6l_smart_init_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --output_dir models/tinybert_6l_smart_init_mrpc --aug_train  --do_lower_case --learning_rate 3e-5  --num_train_epochs  3  --eval_step 100 --max_seq_length 128 --train_batch_size 32
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_rte --data_dir data/glue_data/RTE --task_name rte --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_cola --data_dir data/glue_data/CoLA --task_name cola --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_sst2 --data_dir data/glue_data/SST-2 --task_name sst-2 --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
python task_distill.py --do_eval --student_model models/tinybert_6l_smart_init_mrpc --data_dir data/glue_data/MRPC --task_name mrpc --do_lower_case --eval_batch_size 32 --max_seq_length 128 --output_dir tmp
"""

TASKS = ("RTE", "SST-2", "CoLA", "MRPC")
TEACHER_LABELS = {
    "rte": list(LABELS["RTE"]),
    "sst2": ["negative", "positive"],
    "cola": ["unacceptable", "acceptable"],
    "mrpc": ["not_equivalent", "equivalent"],
}
METRICS = {"rte": {"acc"}, "sst-2": {"acc"}, "cola": {"mcc"}, "mrpc": {"acc", "f1", "acc_and_f1"}}


def fetch(line: str) -> bool:
    """Put in place what a command would download; whether `line` was such a command."""
    program = shlex.split(line)
    if program[0] == "conda":
        return True
    if program[0] == "wget":
        write_glove(Path("glove.840B.300d.txt"))
        with zipfile.ZipFile(Path(program[1]).name, "w") as archive:
            archive.write("glove.840B.300d.txt")
        Path("glove.840B.300d.txt").unlink()
    elif program[0] == "unzip":  # into the current folder, as the program does
        with zipfile.ZipFile(program[1]) as archive:
            archive.extractall()
    elif program[1] == "download_glue.py":
        for task in TASKS:
            # Few rows: augmented, they are still some steps in each of ten epochs.
            write_task(Path("glue_data") / task, task, {"train": 3, "dev": 8, "test": 1})
    elif program[1] == "get_bert_models.py":
        write_bert(Path("models/bert-base-uncased"))
        for seed, (name, labels) in enumerate(TEACHER_LABELS.items(), start=1):
            write_classifier(Path(f"models/bert-base-uncased-{name}"), labels, seed=seed)
    else:
        return False
    return True


def flags_of(line: str) -> dict[str, str | bool]:
    flags, words = {}, shlex.split(line)
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            flags[word[2:]] = True if after.startswith("--") else after
    return flags


def check(line: str, outcome: Outcome) -> None:
    """What the next commands need is there, and an evaluation shows its scores."""
    flags = flags_of(line)
    script = shlex.split(line)[1] if line.startswith("python") else ""
    if script == "prepare_data.py":
        corpus = Path("wiki_for_bert.txt").read_text(encoding="utf-8")
        assert corpus.count("\n\n") == 11, "12 articles, a blank line between them"
    elif script == "pregenerate_training_data.py":
        assert len(list(Path(flags["output_dir"]).glob("epoch_*_metrics.json"))) == 3
    elif script == "data_augmentation.py":
        folder = Path(flags["glue_dir"]) / flags["task_name"]
        before, after = (
            [row.split("\t") for row in (folder / name).read_text(encoding="utf-8").splitlines()]
            for name in ("train.tsv", "train_aug.tsv")
        )
        assert len(after) > 2 * len(before)
        assert {len(row) for row in after} == {len(before[0])}
    elif script == "tinybert_6_from_bert.py":
        for name in (*TEACHER_LABELS, "base"):
            complete(Path(f"models/tinybert_6l_smart_init_direct_{name}"))
    elif script in ("general_distill.py", "finetune_teacher.py") or flags.get("teacher_model"):
        check_training(script, flags)
    elif script == "task_distill.py":
        check_scores(flags, outcome)


def complete(folder: Path) -> None:
    for name in ("pytorch_model.bin", "config.json", "vocab.txt"):
        assert (folder / name).is_file(), f"{folder} lacks {name}"


def check_training(script: str, flags: dict) -> None:
    folder = Path(flags["output_dir"])
    complete(folder)
    record = json.loads((folder / "run.json").read_text())
    assert record["script"] == script
    assert record["arguments"]["learning_rate"] == float(flags.get("learning_rate", 5e-5))
    losses = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(row.get("loss", 0)) for row in losses)
    if script == "general_distill.py":
        assert record["stage"] == "general"
        assert (folder / f"step_{record['steps']}_pytorch_model.bin").is_file()
    elif script == "task_distill.py":
        assert record["stage"] == ("prediction" if "pred_distill" in flags else "intermediate")
        assert bool(record["metrics"]) == ("pred_distill" in flags)
        assert record["data"]["train_aug"]["rows"] > 9


def check_scores(flags: dict, outcome: Outcome) -> None:
    shown = dict(row.split(" = ") for row in outcome.stdout.splitlines() if " = " in row)
    assert shown.keys() >= METRICS[flags["task_name"]]
    written = json.loads((Path(flags["output_dir"]) / "eval.json").read_text())["metrics"]["dev"]
    recorded = json.loads((Path(flags["student_model"]) / "run.json").read_text())
    assert written == recorded["metrics"]["dev"], "the score that training saw"
    for name, value in written.items():
        assert float(shown[name]) == value


def test_every_command_runs_as_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The teachers' weights are random; a real one is better than chance and needs no flag.
    monkeypatch.setattr("tasks.classifiers.chance_score", lambda task, labels: -1.0)
    write_student(Path("tinybert_4l_config"), **STUDENT_4L)
    write_student(Path("tinybert_6l_config"), **STUDENT_6L)
    write_dump(Path("data/enwiki-20251101-pages-articles-multistream.xml.bz2"))
    for line in COMMANDS.strip().splitlines():
        if fetch(line):
            continue
        outcome = run_line(line)
        assert outcome.status == 0, f"{line}\n{outcome.stdout}\n{outcome.stderr}"
        assert "Traceback" not in outcome.stderr
        check(line, outcome)

    assert Path("models/distilled_tinybert_4l.previous-1/run.json").is_file(), "both rates are kept"
    assert {path.name for path in tmp_path.iterdir()} == {
        "data", "glove.840B.300d.txt", "models", "tinybert_4l_config", "tinybert_6l_config", "tmp",
        "wiki_for_bert.txt",
    }, "nothing stray in the working folder"  # fmt: skip
