"""ablation.sh: which commands it runs on top of reproduction.sh."""

import importlib
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def script(*flags: str, folder: Path = ROOT, name: str = "ablation.sh", status: int = 0) -> str:
    done = subprocess.run(
        ["bash", name, *flags], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def commands(*flags: str, name: str = "ablation.sh") -> list[list[str]]:
    lines = script("--dry-run", *flags, name=name).splitlines()
    return [shlex.split(line)[1:] for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def planned():
    return commands("--profile", "full", "--tasks", "CoLA")


@pytest.fixture(scope="module")
def reproduced():
    planned = commands("--profile", "full", name="reproduction.sh")
    return [command for command in planned if "--output_dir" in command]


def output(command):
    return Path(command[command.index("--output_dir") + 1]).name


def trainings(commands):
    return {output(command): command for command in commands if "--do_eval" not in command}


def without_names(command):
    return [word for word in command if "ablation_4l" not in word and "tinybert_4l" not in word]


def test_every_published_ablation_is_made_and_scored(planned, reproduced):
    rows = json.loads((ROOT / "published.json").read_text())["ablations"]
    scored = {output(command) for command in planned if "--do_eval" in command}
    wanted = {row["model"] for row in rows} - {"distilled_tinybert_4l", "tinybert_4l_no_gd"}
    assert scored == {f"{model}_cola" for model in wanted}
    made = {output(command) for command in reproduced if "--do_eval" in command}
    assert {"distilled_tinybert_4l_cola", "tinybert_4l_no_gd_cola"} <= made  # are there already


@pytest.mark.parametrize(
    ("variant", "flags"),
    [
        ("no_emb", "--emb_weight 0"), ("no_att", "--att_weight 0"), ("no_hid", "--rep_weight 0"),
        ("no_trm", "--att_weight 0 --rep_weight 0"), ("top", "--layer_map top"),
        ("bottom", "--layer_map bottom"),
    ],
)  # fmt: skip
def test_a_loss_is_left_out_of_both_distillations_and_nothing_else_is(
    planned, reproduced, variant, flags
):
    made, whole = trainings(planned), trainings(reproduced)
    for ours, plain, extra in (
        (f"ablation_4l_{variant}", "distilled_tinybert_4l", flags.split()),
        (f"tmp_ablation_4l_{variant}_cola", "tmp_distilled_tinybert_4l_cola", flags.split()),
        (f"ablation_4l_{variant}_cola", "distilled_tinybert_4l_cola", []),
    ):
        assert without_names(made[ours]) == [*without_names(whole[plain]), *extra]
    assert f"models/ablation_4l_{variant}" in made[f"tmp_ablation_4l_{variant}_cola"]


def test_labels_alone_are_learned_without_the_flags_of_learning_from_a_teacher(tmp_path):
    profile = tmp_path / "own.env"
    flags = (
        "--temperature 2 --ce_reduction=batchmean --num_train_epochs 5 --allow_weak_teacher --bf16"
    )
    profile.write_text(f'source profiles/full.env\nPREDICTION_FLAGS="{flags}"\n')
    made = trainings(commands("--profile", str(profile), "--tasks", "CoLA"))
    command = made["ablation_4l_no_pred_cola"]
    finetune_teacher = importlib.import_module("finetune_teacher")
    args = finetune_teacher.parse_args(command[1:])  # it knows every one of them
    assert args.num_train_epochs == 5 and args.bf16
    assert flags.split()[0] in made["ablation_4l_no_da_cola"]


def test_the_other_ablations_leave_out_what_they_say(planned):
    made = trainings(planned)
    for stage in ("tmp_ablation_4l_no_da_cola", "ablation_4l_no_da_cola"):
        assert "--aug_train" not in made[stage] and "--teacher_model" in made[stage]
    no_td, no_pred = made["ablation_4l_no_td_cola"], made["ablation_4l_no_pred_cola"]
    assert no_td[0] == no_pred[0] == "finetune_teacher.py"
    assert "models/distilled_tinybert_4l" in no_td and "--aug_train" not in no_td
    assert "models/tmp_distilled_tinybert_4l_cola" in no_pred and "--aug_train" not in no_pred


def test_every_command_is_one_its_program_understands(planned):
    for name, *flags in planned:
        importlib.import_module(name.removesuffix(".py")).parse_args(flags)


def test_further_tasks_and_seeds_multiply_task_distillation_alone():
    plain, more = commands("--tasks", "RTE"), commands("--tasks", "RTE,CoLA", "--seeds", "7")
    assert sum(c[0] == "general_distill.py" for c in more) == 6
    scored = [output(c) for c in more if "--do_eval" in c]
    assert len(scored) == 4 * sum("--do_eval" in c for c in plain)
    assert "ablation_4l_top_cola-seed7" in scored and "ablation_4l_top_rte" in scored


def test_what_reproduction_sh_must_make_first_is_named(tmp_path):
    for name in ("reproduction.sh", "reproduction_engine.sh", "ablation.sh"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    told = script("--profile", "demo", folder=tmp_path, status=2)
    assert "distilled_tinybert_4l: run ./reproduction.sh --profile demo first" in told
    assert "final_cola_teacher" in told
    assert sorted(os.listdir(tmp_path)) == [
        "ablation.sh", "profiles", "reproduction.sh", "reproduction_engine.sh",
    ]  # fmt: skip


def test_its_help_is_its_own():
    assert script("--help").startswith("What each part of the method is worth")
    assert script("--list").splitlines()[0].startswith("ablation_general")
