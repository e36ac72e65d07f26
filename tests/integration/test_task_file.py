"""A task of one's own, from its file to a report: the demo's example, with tiny models."""

from __future__ import annotations

import json
import shutil

import pytest

from demo.make import main as make_demo
from tests.integration.workspace import (
    STUDENT_4L,
    TEACHER,
    run_line,
    succeed,
    write_bert,
    write_glove,
    write_student,
)

SHORT = "--max_seq_length 32 --no_cuda"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The demo's example, a BERT, a student's configuration and word vectors."""
    root = tmp_path_factory.mktemp("own")
    make_demo(["--stage", "own", "--output_dir", str(root), "--train_scale", "0.04",
               "--dev_size", "12", "--test_size", "7"])  # fmt: skip
    write_bert(root / "bert", **TEACHER)
    write_student(root / "student", **STUDENT_4L)
    shutil.copy(root / "bert/vocab.txt", root / "student/vocab.txt")
    write_glove(root / "glove.txt")
    return root


@pytest.fixture(scope="module")
def trained(world):
    """The folder with a teacher, augmented rows and a student in it."""
    task = f"--task_file {world}/subjects/task.json"
    short = f"{SHORT} --max_steps 4 --train_batch_size 4 --report_to none"
    distil = f"python task_distill.py {task} --teacher_model {world}/teacher --aug_train {short}"
    distil += " --allow_weak_teacher"
    for line in (
        f"python finetune_teacher.py {task} --bert_model {world}/bert --output_dir {world}/teacher {short}",
        f"python data_augmentation.py {task} --pretrained_bert_model {world}/bert "
        f"--glove_embs {world}/glove.txt --N 1",
        f"{distil} --student_model {world}/student --from_scratch --output_dir {world}/layers",
        f"{distil} --student_model {world}/layers --pred_distill --output_dir {world}/students/subjects",
    ):
        succeed(line)
    return world


def test_augmented_rows_lie_beside_the_data_under_the_tasks_name(trained):
    lines = (trained / "subjects/subjects.train_aug.tsv").read_text().splitlines()
    assert lines[0] == "text\tlabel"
    assert len(lines) == 1 + 2 * 60
    assert {line.split("\t")[1] for line in lines[1:]} <= set(
        json.loads((trained / "subjects/task.json").read_text())["labels"]
    )


def test_a_student_is_scored_predicts_and_is_reported(trained):
    task = f"--task_file {trained}/subjects/task.json"
    scored = succeed(
        f"python task_distill.py {task} --student_model {trained}/students/subjects --do_eval --do_predict "
        f"--output_dir {trained}/results/subjects {SHORT}"
    )
    assert "macro_f1" in scored.stdout + scored.stderr
    answers = (trained / "results/subjects/subjects.tsv").read_text().splitlines()
    assert len(answers) == 1 + 7
    succeed(f"python report.py {task} --results {trained}/results --models {trained}/students")
    assert "subjects" in (trained / "results/report/report.md").read_text()


def test_a_model_answers_files_of_the_tasks_kind_and_lines_of_text(trained, tmp_path):
    model = f"--model {trained}/students/subjects --no_cuda"
    task = f"--task_file {trained}/subjects/task.json"
    succeed(
        f"python predict.py {model} {task} --input {trained}/subjects/test.csv --output {tmp_path}/a.tsv"
    )
    rows = (tmp_path / "a.tsv").read_text().splitlines()
    assert len(rows) == 1 + 7
    labels = json.loads((trained / "subjects/task.json").read_text())["labels"]
    assert rows[0].split("\t") == ["label", "probability", *labels]
    lines = (trained / "subjects/test.csv").read_text().splitlines()[1:]
    (tmp_path / "lines.txt").write_text(
        "".join(f"{line.rpartition(',')[0].strip(chr(34))}\n" for line in lines)
    )
    succeed(f"python predict.py {model} --input {tmp_path}/lines.txt --output {tmp_path}/b.tsv")
    assert (tmp_path / "b.tsv").read_text() == (tmp_path / "a.tsv").read_text()


def test_a_changed_task_does_not_resume_a_run_or_use_its_data(trained, tmp_path):
    shutil.copytree(trained / "subjects", tmp_path / "subjects")
    definition = json.loads((tmp_path / "subjects/task.json").read_text())
    definition["labels"].reverse()
    (tmp_path / "subjects/task.json").write_text(json.dumps(definition))
    line = (
        f"python task_distill.py --task_file {tmp_path}/subjects/task.json --teacher_model {trained}/teacher "
        f"--student_model {trained}/student --from_scratch --output_dir {trained}/layers --aug_train "
        "--allow_weak_teacher --max_seq_length 32 --max_steps 4 --train_batch_size 4 --resume --no_cuda"
    )
    outcome = run_line(line)
    assert outcome.status == 2
    assert "task" in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            "--task_file {root}/subjects/task.json --task_name RTE",
            "--task_file and --task_name: give one",
        ),
        ("--task_file {root}/none.json", "none.json: no such file"),
        ("--data_dir {root}/subjects", "--task_name: expected it, or --task_file"),
        ("--task_name RTE", "--data_dir: expected it, or --task_file"),
    ],
)
def test_contradictions_are_one_line(world, tmp_path, flags, told):
    outcome = run_line(
        f"python task_distill.py {flags.format(root=world)} --teacher_model {world}/bert --student_model "
        f"{world}/student --output_dir {tmp_path}/out"
    )
    assert outcome.status == 2
    assert told in outcome.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
