"""What a run keeps: the best and the last model, and a checkpoint that can be trusted or is refused."""

import os
import pickle

import numpy as np
import pytest
import torch

from distillation.checkpoint import (
    LAST_WEIGHTS_NAME,
    ModelKeeper,
    load_checkpoint,
    save_checkpoint,
)
from tasks.glue import TASKS
from tasks.metrics import compute_metrics
from transformer.errors import UserError
from transformer.file_utils import WEIGHTS_NAME

STATE = {
    "step": 7,
    "model": {"w": torch.arange(4.0)},
    "keeper": {"best_score": float("-inf"), "best": {"dev": {"acc": 0.5}}},
    "log_bytes": 120,
}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(state.pop("model")["w"], STATE["model"]["w"])
    assert state == {name: value for name, value in STATE.items() if name != "model"}


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1], ids=str)
def test_a_torn_checkpoint_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else keep])
    with pytest.raises(UserError, match="checkpoint.pt: cannot be read.*--overwrite_output_dir"):
        load_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps({"step": Bomb()}, protocol=2))
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "executed").exists()


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)

    def full(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        save_checkpoint(path, {"step": 8})
    assert load_checkpoint(path)["step"] == 7
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.key)
def test_the_metrics_of_every_task_survive_a_checkpoint(tmp_path, task):
    """A checkpoint is read without running code: it may hold no numpy scalar."""
    if task.labels is None:
        predictions, labels = (
            np.array([1.0, 2.5, 4.0], np.float32),
            np.array([1.0, 3.0, 4.0], np.float32),
        )
    else:
        predictions, labels = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    metrics = compute_metrics(task, predictions, labels)
    keeper = ModelKeeper(
        torch.nn.Linear(1, 1),
        tmp_path,
        lambda: {"dev": metrics},
        lambda m: m["dev"][task.main_metric],
    )
    keeper(1)
    save_checkpoint(tmp_path / "checkpoint.pt", {"keeper": keeper.state_dict()})
    again = ModelKeeper(torch.nn.Linear(1, 1), tmp_path)
    again.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt")["keeper"])
    assert again.state_dict() == keeper.state_dict()


def test_without_an_evaluation_the_newest_model_is_the_one(tmp_path):
    model = torch.nn.Linear(2, 1)
    keeper = ModelKeeper(model, tmp_path)
    for step in (1, 2):
        torch.nn.init.constant_(model.weight, step)
        assert keeper(step) == {}
    assert keeper.best_step == 2
    assert torch.load(tmp_path / WEIGHTS_NAME)["weight"].eq(2).all()
    assert os.listdir(tmp_path) == [WEIGHTS_NAME]


def test_the_first_of_equally_good_models_is_kept(tmp_path):
    model = torch.nn.Linear(2, 1)
    keeper = ModelKeeper(model, tmp_path, lambda: {"dev": {"acc": 0.5}}, lambda m: m["dev"]["acc"])
    for step in (1, 2):
        torch.nn.init.constant_(model.weight, step)
        keeper(step)
    assert keeper.best_step == 1
    assert torch.load(tmp_path / WEIGHTS_NAME)["weight"].eq(1).all()
    assert torch.load(tmp_path / LAST_WEIGHTS_NAME)["weight"].eq(2).all()


def test_a_process_that_may_not_write_still_knows_the_best(tmp_path):
    keeper = ModelKeeper(
        torch.nn.Linear(1, 1), tmp_path, lambda: {"dev": {"acc": 1.0}}, lambda m: 1.0
    )
    keeper(3, write=False)
    assert keeper.best_step == 3 and os.listdir(tmp_path) == []


def test_a_kept_step_is_a_file_of_its_own(tmp_path):
    """`cp step_N_pytorch_model.bin pytorch_model.bin` refuses two names of one file."""
    ModelKeeper(torch.nn.Linear(1, 1), tmp_path, keep_steps=True)(5)
    step, newest = tmp_path / f"step_5_{WEIGHTS_NAME}", tmp_path / WEIGHTS_NAME
    assert step.read_bytes() == newest.read_bytes() and not step.samefile(newest)
