"""DistilBERT from a corpus to the cross grid, with tiny models."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from distillation.checkpoint import CHECKPOINT_NAME
from distillation.records import METRICS_NAME
from tests.integration.workspace import (
    LABELS,
    TEACHER,
    VOCABULARY,
    run_line,
    succeed,
    write_bert,
    write_classifier,
    write_corpus,
    write_task,
)
from tests.patience import PATIENCE, wait_until
from transformer.file_utils import WEIGHTS_NAME
from transformer.modeling import BertForMaskedLM, TinyBertForSequenceClassification

ROOT = Path(__file__).resolve().parents[2]
TASKS = {"sst2": "SST-2", "rte": "RTE"}
SHORT = "--max_seq_length 24 --train_batch_size 4 --report_to none --no_cuda"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A BERT, a DistilBERT's configuration, a corpus and two tasks with their teachers."""
    root = tmp_path_factory.mktemp("distilbert")
    write_bert(root / "bert", **TEACHER)
    write_corpus(root / "corpus.txt", 40)
    (root / "student").mkdir()
    shape = {
        "architectures": ["DistilBertForMaskedLM"], "model_type": "distilbert", "dim": 24, "n_layers": 2,
        "n_heads": 4, "hidden_dim": 24, "vocab_size": len(VOCABULARY), "max_position_embeddings": 64,
    }  # fmt: skip
    (root / "student/config.json").write_text(json.dumps(shape))
    for name, task in TASKS.items():
        write_task(root / "glue" / task, task, {"train": 24, "dev": 12, "test": 3})
        write_classifier(root / f"teachers/{name}", list(LABELS[task]), **TEACHER)
    return root


def pretrain(root: Path, output: str, more: str = "") -> str:
    return (
        f"python distilbert/pretrain.py --corpus {root}/corpus.txt --teacher_model {root}/bert "
        f"--student_model {root}/student --tokenized_dir {root}/tokenized --output_dir {root}/{output} "
        f"{SHORT} {more}"
    )


@pytest.fixture(scope="module")
def pretrained(world):
    """The folder of a student that has learned a little."""
    succeed(pretrain(world, "pretrained", "--num_train_epochs 2 --learning_rate 1e-3"))
    return world / "pretrained"


@pytest.fixture(scope="module")
def grid(world, pretrained):
    """The folder of the fine-tuned models and their cross grid."""
    succeed(
        f"python distilbert/finetune.py --student_model {pretrained} --tasks SST-2,RTE "
        f"--glue_dir {world}/glue --output_dir {world}/checkpoints --num_train_epochs 1 {SHORT}"
    )
    return world / "checkpoints"


def test_training_and_validation_report_the_same_losses_and_they_fall(pretrained):
    lines = [json.loads(line) for line in (pretrained / METRICS_NAME).read_text().splitlines()]
    found = [line["dev"]["validation"] for line in lines if "dev" in line]
    assert set(found[0]) == {"ce_loss", "mlm_loss", "cos_loss", "loss"}
    assert found[-1]["loss"] < found[0]["loss"]
    test = json.loads((pretrained / "test_losses.json").read_text())["test"]
    assert set(test) == set(found[0])


def test_a_student_has_a_card_of_its_own_family(pretrained):
    text = (pretrained / "README.md").read_text()
    assert "- distilbert\n- knowledge-distillation\n" in text
    assert "| validation | mlm_loss | " in text
    assert "AutoModelForMaskedLM" in text


def test_a_student_is_what_transformers_reads(pretrained, grid):
    ids = torch.randint(5, len(VOCABULARY), (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    for folder, ours, theirs in (
        (pretrained, BertForMaskedLM, transformers.DistilBertForMaskedLM),
        (
            grid / "rte/distilbert_finetune",
            TinyBertForSequenceClassification,
            transformers.DistilBertForSequenceClassification,
        ),
    ):
        own = ours.from_pretrained(folder)
        model, found = theirs.from_pretrained(folder, output_loading_info=True)
        assert not any(found["missing_keys"])
        with torch.no_grad():
            expected = model.eval()(input_ids=ids, attention_mask=mask).logits
            torch.testing.assert_close(
                own(ids, attention_mask=mask).output, expected, rtol=0, atol=1e-5
            )


def test_every_model_is_scored_on_every_task(grid):
    found = json.loads((grid / "glue_cross_eval_metrics.json").read_text())
    assert list(found) == list(TASKS)
    for row in found.values():
        assert list(row) == list(TASKS)
        for cell in row.values():
            assert 0 <= cell["accuracy"] <= 1
            assert cell["loss"] > 0
    assert (grid / "glue_cross_eval.png").read_bytes().startswith(b"\x89PNG")


def test_fine_tuning_goes_on_where_it_was_stopped(world, grid, tmp_path):
    shutil.copytree(grid, tmp_path / "checkpoints")
    kept = tmp_path / "checkpoints/sst2/distilbert_finetune" / WEIGHTS_NAME
    before = kept.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "checkpoints/rte")
    succeed(
        f"python distilbert/finetune.py --student_model {world}/pretrained --tasks SST-2,RTE "
        f"--glue_dir {world}/glue --output_dir {tmp_path}/checkpoints --num_train_epochs 1 --resume {SHORT}"
    )
    assert kept.stat().st_mtime_ns == before
    one, other = (
        folder / "rte/distilbert_finetune" / WEIGHTS_NAME
        for folder in (grid, tmp_path / "checkpoints")
    )
    assert one.read_bytes() == other.read_bytes()


def test_the_seeds_division_has_its_sizes_and_shares_no_row(world, pretrained, tmp_path):
    outcome = succeed(
        f"python distilbert/finetune.py --student_model {pretrained} --tasks RTE --splits seed "
        f"--glue_dir {world}/glue --output_dir {tmp_path} --num_train_epochs 1 {SHORT}"
    )
    assert (
        "28 rows of 80 % of train and dev" in outcome.stderr
    )  # of 36: 4 for test, 4 for validation


def test_direct_distillation_tells_student_and_teacher(world, tmp_path):
    outcome = succeed(
        f"python distilbert/direct_distil.py --student_model {world}/student --tasks SST-2,RTE "
        f"--teacher_model {world}/teachers/{{task}} --glue_dir {world}/glue --output_dir {tmp_path} "
        f"--num_train_epochs 1 --allow_weak_teacher {SHORT}"
    )
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert list(found) == list(TASKS)
    assert set(found["rte"]) == {"student", "teacher"}
    assert "rte: accuracy" in outcome.stdout


def test_a_teacher_at_chance_is_refused(world, tmp_path):
    outcome = run_line(
        f"python distilbert/direct_distil.py --student_model {world}/student --tasks RTE --teacher_model "
        f"{world}/teachers/{{task}} --glue_dir {world}/glue --output_dir {tmp_path} {SHORT}"
    )
    assert outcome.status == 2
    assert "--allow_weak_teacher" in outcome.stderr.splitlines()[-1]


def test_a_killed_pre_training_resumes_to_the_same_bits(world, pretrained, tmp_path):
    """With dropout 0.1, SIGKILL, and a checkpoint after every step."""
    flags = "--num_train_epochs 2 --learning_rate 1e-3 --save_steps 1"
    words = pretrain(world, "killed", flags).split()[1:]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until((world / "killed" / CHECKPOINT_NAME).exists, process)
    process.kill()
    process.wait(PATIENCE)
    succeed(pretrain(world, "killed", f"{flags} --resume"))
    for name in (WEIGHTS_NAME, "test_losses.json"):
        assert (world / "killed" / name).read_bytes() == (pretrained / name).read_bytes()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--layers 0,1", "--layers: is for --init teacher"),
        ("--losses seed --restrict_to_masked", "give one of them"),
        ("--alpha_ce 0 --alpha_mlm 0 --alpha_cos 0", "are all 0"),
        ("--validation_fraction 0.6 --test_fraction 0.4", "nothing is left to train on"),
        ("--init teacher --layers 0,99", "--layers 0,99: expected layers among"),
        ("--temperature 0", "--temperature 0.0: expected a number above 0"),
        ("--max_seq_length 100", "has positions for 64 tokens"),
    ],
)
def test_contradictions_are_one_line_and_leave_nothing(world, more, told):
    outcome = run_line(pretrain(world, "refused", more))
    assert outcome.status == 2
    assert told in outcome.stderr.splitlines()[-1]
    assert not (world / "refused").exists()


@pytest.mark.parametrize("more", ["--losses seed", "--restrict_to_masked", "--init teacher"])
def test_the_variants_run(world, more):
    succeed(
        pretrain(world, "variant", f"{more} --max_steps 2 --overwrite_output_dir --eval_windows 2")
    )


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("pretrain", "prepare_data.py makes it"),
        ("finetune", "download_glue.py fetches"),
        ("direct_distil", "download_glue.py fetches"),
    ],
)
def test_without_a_flag_a_script_names_the_command_that_makes_its_input(script, what, tmp_path):
    shutil.copytree(ROOT / "distilbert", tmp_path / "repository/distilbert")
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, tmp_path / f"repository/distilbert/{script}.py", "--no_cuda"],
        cwd=tmp_path / "elsewhere", env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 2
    assert what in done.stderr.splitlines()[-1]
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_report_compares_the_ways(world, grid, tmp_path):
    for name, weights in (("direct", ""), ("labels", "--alpha_soft 0 --alpha_cos 0")):
        succeed(
            f"python distilbert/direct_distil.py --student_model {world}/student --tasks SST-2,RTE "
            f"--teacher_model {world}/teachers/{{task}} --glue_dir {world}/glue --allow_weak_teacher "
            f"--output_dir {tmp_path}/{name} --max_steps 1 {weights} {SHORT}"
        )
    outcome = succeed(
        f"python distilbert/report.py --runs finetuned={grid} finetuned={grid} direct={tmp_path}/direct "
        f"labels={tmp_path}/labels --output_dir {tmp_path}/report"
    )
    text = (tmp_path / "report/report.md").read_text()
    assert text in outcome.stdout
    accuracy = json.loads((grid / "glue_cross_eval_metrics.json").read_text())["rte"]["rte"][
        "accuracy"
    ]
    assert f"| {100 * accuracy:.1f} ± 0.0 |" in text
    assert "pre-trained and fine-tuned 2, distilled directly 1" in text
    assert (tmp_path / "report/scores.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("runs", ["finetuned", "other=folder", "teacher=folder", "direct=nowhere"])
def test_a_report_of_what_is_not_there_is_refused(runs, tmp_path):
    outcome = run_line(f"python distilbert/report.py --runs {runs} --output_dir {tmp_path}/report")
    assert outcome.status == 2
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "report").exists()


def plan_of(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", ROOT / "distilbert/reproduction.sh", "--dry-run", *words],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize("profile", ["demo", "full"])
def test_every_command_of_the_plan_is_one_that_its_script_knows(profile):
    found = plan_of("--profile", profile)
    assert found.returncode == 0, found.stderr
    found.stdout += plan_of("--profile", profile, "--only", "distilbert_ablation").stdout
    lines = [line for line in found.stdout.splitlines() if line.startswith("python distilbert/")]
    assert len(lines) == 5 + 11
    for line in lines:
        _, script, *argv = shlex.split(line)
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).parse_args(argv)


def test_a_profile_without_its_settings_is_told_what_it_lacks(tmp_path):
    lines = (ROOT / "profiles/demo.env").read_text().splitlines()
    profile = tmp_path / "old.env"
    profile.write_text("\n".join(line for line in lines if "DISTILBERT" not in line) + "\n")
    found = plan_of("--profile", str(profile))
    assert found.returncode == 2
    assert "no DISTILBERT_TASKS; profiles/full.env" in found.stderr
