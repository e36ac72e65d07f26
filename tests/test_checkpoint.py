"""What a run keeps: the best and the last model, and a checkpoint that can be trusted or is refused."""

import os
import pickle

import numpy as np
import pytest
import torch

from distillation.checkpoint import (
    CHECKPOINT_NAME,
    LAST_WEIGHTS_NAME,
    PREVIOUS_CHECKPOINT_NAME,
    Checkpoints,
    ModelSaver,
    load_checkpoint,
)
from files.errors import UserError
from tasks.glue import TASKS
from tasks.metrics import compute_metrics
from transformer.file_utils import WEIGHTS_NAME

STATE = {
    "step": 7,
    "model": {"w": torch.arange(4.0)},
    "keeper": {"best_score": float("-inf"), "best": {"dev": {"acc": 0.5}}},
    "log_bytes": 120,
}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    Checkpoints(tmp_path).save(STATE)
    path, state = Checkpoints(tmp_path).load()
    assert path == tmp_path / CHECKPOINT_NAME
    assert torch.equal(state.pop("model")["w"], STATE["model"]["w"])
    assert state == {name: value for name, value in STATE.items() if name != "model"}


def test_where_there_is_none_there_is_nothing_to_load(tmp_path):
    assert Checkpoints(tmp_path).load() is None


def test_the_last_two_are_kept_and_both_are_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save({"step": step})
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME) == {"step": 3}
    assert load_checkpoint(tmp_path / PREVIOUS_CHECKPOINT_NAME) == {"step": 2}
    assert len(os.listdir(tmp_path)) == 2
    checkpoints.remove()
    assert os.listdir(tmp_path) == []


def tear(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else keep])


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1], ids=str)
def test_where_all_are_torn_they_are_refused_by_name(tmp_path, keep):
    Checkpoints(tmp_path).save(STATE)
    tear(tmp_path / CHECKPOINT_NAME, keep)
    with pytest.raises(UserError, match="checkpoint.pt: cannot be read.*--overwrite_output_dir"):
        Checkpoints(tmp_path).load()


def two_checkpoints(folder):
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save({"step": step, "w": torch.arange(100.0)})
    return folder / CHECKPOINT_NAME


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1], ids=str)
def test_a_torn_newest_one_falls_back_to_the_one_before_and_says_so(tmp_path, keep, capsys):
    tear(two_checkpoints(tmp_path), keep)
    path, state = Checkpoints(tmp_path).load()
    assert (path.name, state["step"]) == (PREVIOUS_CHECKPOINT_NAME, 1)
    assert f"{CHECKPOINT_NAME}: cannot be read" in capsys.readouterr().err


def test_every_flipped_bit_of_a_tensor_is_noticed(tmp_path):
    """torch writes checksums and compares none when it reads."""
    path = two_checkpoints(tmp_path)
    content = path.read_bytes()
    start = content.index(torch.arange(100.0).numpy().tobytes())
    for place in (start, start + 1, start + 200, start + 399):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert torch.load(path)["step"] == 2, "torch itself sees nothing"
        assert Checkpoints(tmp_path).load()[1]["step"] == 1


def test_a_torn_checkpoint_never_takes_the_place_of_a_whole_one(tmp_path):
    """Falls back, continues, and is killed while it saves: the whole one is still there."""
    tear(two_checkpoints(tmp_path), 0.5)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.load()
    checkpoints.save({"step": 3})
    assert load_checkpoint(tmp_path / PREVIOUS_CHECKPOINT_NAME)["step"] == 1
    checkpoints.save({"step": 4})
    assert load_checkpoint(tmp_path / PREVIOUS_CHECKPOINT_NAME)["step"] == 3


def test_killed_between_the_two_renamings_it_has_lost_nothing(tmp_path):
    two_checkpoints(tmp_path).rename(tmp_path / PREVIOUS_CHECKPOINT_NAME)
    assert Checkpoints(tmp_path).load()[1]["step"] == 2


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps({"step": Bomb()}, protocol=2))
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    torch.save({"step": Bomb()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "executed").exists()


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(STATE)

    def full(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError):
        checkpoints.save({"step": 8})
    assert checkpoints.load()[1]["step"] == 7
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
    keeper = ModelSaver(
        torch.nn.Linear(1, 1),
        tmp_path,
        lambda: {"dev": metrics},
        lambda m: m["dev"][task.main_metric],
    )
    keeper(1)
    Checkpoints(tmp_path).save({"keeper": keeper.state_dict()})
    again = ModelSaver(torch.nn.Linear(1, 1), tmp_path)
    again.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt")["keeper"])
    assert again.state_dict() == keeper.state_dict()


def test_without_an_evaluation_the_newest_model_is_the_one(tmp_path):
    model = torch.nn.Linear(2, 1)
    keeper = ModelSaver(model, tmp_path)
    for step in (1, 2):
        torch.nn.init.constant_(model.weight, step)
        assert keeper(step) == {}
    assert keeper.best_step == 2
    assert torch.load(tmp_path / WEIGHTS_NAME)["weight"].eq(2).all()
    assert os.listdir(tmp_path) == [WEIGHTS_NAME]


def test_the_first_of_equally_good_models_is_kept(tmp_path):
    model = torch.nn.Linear(2, 1)
    keeper = ModelSaver(model, tmp_path, lambda: {"dev": {"acc": 0.5}}, lambda m: m["dev"]["acc"])
    for step in (1, 2):
        torch.nn.init.constant_(model.weight, step)
        keeper(step)
    assert keeper.best_step == 1
    assert torch.load(tmp_path / WEIGHTS_NAME)["weight"].eq(1).all()
    assert torch.load(tmp_path / LAST_WEIGHTS_NAME)["weight"].eq(2).all()


SCORES = {3: 0.87, 5: 0.2, 7: 1.0, 9: 0.3, 10: 0.77}


class Run:
    """A keeper whose model's only weight is the step it was evaluated after."""

    def __init__(self, folder, scored=True, **options):
        self.folder, self.model, self.now = folder, torch.nn.Linear(1, 1, bias=False), 0
        evaluate = (lambda: {"dev": {"acc": SCORES[self.now]}}) if scored else None
        self.keeper = ModelSaver(self.model, folder, evaluate, lambda m: m["dev"]["acc"], **options)

    def after(self, *steps):
        for step in steps:
            self.now = step
            torch.nn.init.constant_(self.model.weight, step)
            self.keeper(step)
        return self

    def saved(self):
        Checkpoints(self.folder).save({"keeper": self.keeper.state_dict()})
        return self

    def resumed(self):
        self.keeper.load_state_dict(Checkpoints(self.folder).load()[1]["keeper"])
        return self

    def kept(self, pattern=WEIGHTS_NAME):
        """The steps that files are of."""
        return [int(torch.load(p)["weight"]) for p in sorted(self.folder.glob(pattern))]


def test_a_better_model_of_an_abandoned_stretch_is_not_the_one_that_the_record_speaks_of(
    tmp_path, capsys
):
    """Saved after step 5, killed after 7, resumed with other evaluation steps."""
    Run(tmp_path).after(3, 5).saved().after(7)
    run = Run(tmp_path).resumed()
    assert run.kept() == [3], "at once"
    run.after(10)
    assert run.kept() == [run.keeper.best_step] == [3] and run.keeper.best["dev"]["acc"] == 0.87
    assert run.kept("last_*") == [10]
    assert run.kept("abandoned-1/*") == [7], "nothing is lost"
    assert (
        "pytorch_model.bin came after the checkpoint; kept in abandoned-1"
        in capsys.readouterr().err
    )


def test_an_abandoned_model_that_comes_about_again_is_no_abandoned_one(tmp_path):
    Run(tmp_path).after(3, 5).saved().after(7)
    run = Run(tmp_path).resumed().after(7, 10)
    assert run.kept() == [run.keeper.best_step] == [7]
    assert not list(tmp_path.glob("abandoned*"))


def test_the_best_model_of_the_past_comes_back_whatever_became_of_its_file(tmp_path):
    for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b"torn"), lambda p: None):
        Run(tmp_path).after(3).saved().after(5)
        damage(tmp_path / WEIGHTS_NAME)
        assert Run(tmp_path).resumed().kept() == [3]


def test_abandoned_twice_and_resumed_from_the_checkpoint_before(tmp_path):
    """Each stretch keeps its own; with the newest checkpoint torn, its best model is an abandoned one."""
    checkpoints = Checkpoints(tmp_path)
    run = Run(tmp_path).after(3)
    checkpoints.save({"keeper": run.keeper.state_dict()})
    checkpoints.save({"keeper": run.after(5, 7).keeper.state_dict()})
    tear(checkpoints.newest, 0.5)
    assert Run(tmp_path).resumed().after(9).kept() == [3]
    SCORES[9] = 0.99
    Run(tmp_path).resumed().after(9)
    assert Run(tmp_path).resumed().kept() == [3]
    SCORES[9] = 0.3
    assert Run(tmp_path).kept("abandoned-1/*") == [7] and Run(tmp_path).kept("abandoned-2/*") == [9]


def test_kept_steps_of_an_abandoned_stretch_are_moved_aside(tmp_path):
    options = {"scored": False, "keep_steps": True}
    Run(tmp_path, **options).after(3, 5).saved().after(7, 9)
    run = Run(tmp_path, **options).resumed()
    assert run.kept("step_*") == [3, 5] and run.kept("abandoned-1/*") == [7, 9]
    run.after(7, 10)
    assert run.kept("step_*") == [10, 3, 5, 7] and run.kept("abandoned-1/*") == [9]
    assert run.kept() == [run.keeper.best_step] == [10]


def test_models_of_a_run_that_left_no_checkpoint_are_moved_aside(tmp_path):
    Run(tmp_path, keep_steps=True).after(3, 7)
    run = Run(tmp_path, keep_steps=True)
    run.keeper.set_aside()
    run.after(5)
    assert run.kept() == [5] and run.kept("step_*") == [5]
    assert run.kept("abandoned-1/*") == [7, 3, 7]


def test_a_kept_step_is_a_file_of_its_own(tmp_path):
    """`cp step_N_pytorch_model.bin pytorch_model.bin` refuses two names of one file."""
    ModelSaver(torch.nn.Linear(1, 1), tmp_path, keep_steps=True)(5)
    step, newest = tmp_path / f"step_5_{WEIGHTS_NAME}", tmp_path / WEIGHTS_NAME
    assert step.read_bytes() == newest.read_bytes() and not step.samefile(newest)


def test_no_model_is_written_of_what_proves_damaged(tmp_path):
    def damaged():
        raise UserError("data: has changed")

    keeper = ModelSaver(torch.nn.Linear(1, 1), tmp_path, check=damaged)
    with pytest.raises(UserError, match="has changed"):
        keeper(1)
    assert list(tmp_path.iterdir()) == []
