"""What stops a training run, what it leaves behind, and what it refuses to resume from."""

import signal

import pytest
import torch

from distillation import state
from distillation.checkpoint import (
    CHECKPOINT_NAME,
    PREVIOUS_CHECKPOINT_NAME,
    load_checkpoint,
)
from distillation.objective import Losses
from distillation.objectives import label_training
from distillation.state import TrainingSettings, make_optimizer
from files.errors import Stopped, UserError
from tests.training_run import (
    Killed,
    difference,
    killing,
    log_of,
    make_source,
    run,
    without_speed,
)
from transformer.file_utils import WEIGHTS_NAME


def after_call(number, action):
    """The loss of the labels, with `action(loss)` at one of its calls."""
    calls = []

    def losses(model, batch):
        calls.append(1)
        loss = label_training(model, batch).total()
        return Losses({"label_loss": action(loss) if len(calls) == number else loss})

    return losses


# Numbers that are not numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("eval_step, save_minutes", [(1, 9), (99, 0)])
def test_a_loss_that_is_no_number_stops_the_run_before_it_is_kept(
    make_model, tmp_path, eval_step, save_minutes, value
):
    """60 steps, logged at every third; the second breaks."""
    source = make_source(batch_size=2, rows=60)
    with pytest.raises(UserError, match="step 2: a loss or a gradient is not finite.*--nan_policy"):
        run(make_model(), tmp_path, source, after_call(2, lambda loss: loss * value),
            eval_step=eval_step, save_minutes=save_minutes)  # fmt: skip
    if eval_step == 1:
        kept = torch.load(tmp_path / WEIGHTS_NAME)
    else:
        kept = torch.load(tmp_path / CHECKPOINT_NAME)["model"]
    assert all(tensor.isfinite().all() for tensor in kept.values())


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_the_rows_of_the_bad_batch_are_written_down(make_model, tmp_path, policy):
    source = make_source(batch_size=2, rows=60)
    losses = after_call(5, lambda loss: loss * float("nan"))
    try:
        run(make_model(), tmp_path, source, losses, nan_policy=policy)
    except UserError:
        assert policy == "stop"
    (bad,) = (line for line in log_of(tmp_path) if "nonfinite_rows" in line)
    assert bad == {"step": 5, "epoch": 0, "nonfinite_rows": source.plan(0)[4].tolist()}


def test_a_gradient_that_is_no_number_is_seen_though_the_loss_is_one(make_model, tmp_path):
    model = make_model()
    model.classifier.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match="step 1: a loss or a gradient is not finite"):
        run(model, tmp_path)


def test_a_skipped_batch_changes_nothing_but_the_schedule(make_model, tmp_path):
    """The same run by hand, without that batch's step but with its tick of the clock."""
    model, by_hand = make_model(), make_model()
    losses = after_call(3, lambda loss: loss * float("nan"))
    run(model, tmp_path, losses=losses, epochs=1, eval_step=99, max_steps=3, nan_policy="skip")
    source = make_source()
    settings = TrainingSettings(epochs=1, learning_rate=1e-3)
    optimizer = make_optimizer(by_hand.train(), settings, total=3)
    for rows in source.plan(0)[:2]:
        optimizer.zero_grad()
        label_training(by_hand, source.collate(0, rows, source.width(0, rows))).total().backward()
        optimizer.step()
    assert difference(model, by_hand) == 0
    assert [line["step"] for line in log_of(tmp_path) if "loss" in line] == [1, 2]


def test_skipping_is_free_where_nothing_is_skipped(make_model, tmp_path):
    one, other = make_model(), make_model()
    run(one, tmp_path / "stop")
    run(other, tmp_path / "skip", nan_policy="skip")
    assert difference(one, other) == 0
    logs = [without_speed(log_of(tmp_path / name)) for name in ("stop", "skip")]
    assert logs[0] == logs[1]


def test_a_run_of_nothing_but_bad_batches_stops_though_they_are_skipped(make_model, tmp_path):
    def broken(model, batch):
        return Losses({"label_loss": label_training(model, batch).total() * float("nan")})

    source = make_source(batch_size=2, rows=440)
    with pytest.raises(
        UserError, match="step 11: 11 of 11 steps were left out.*The run was stopped"
    ):
        run(make_model(), tmp_path, source, broken, epochs=1, nan_policy="skip")


def breaking(numbers):
    """The loss of the labels, not finite at these of its calls."""
    calls = []

    def losses(model, batch):
        calls.append(1)
        loss = label_training(model, batch).total()
        return Losses({"label_loss": loss * float("nan") if len(calls) in numbers else loss})

    return losses


@pytest.mark.parametrize(
    "numbers, told",
    [
        (range(25, 35), "step 36: 10 of 36 steps were left out, 10 of them in a row"),
        (range(2, 61, 2), None),
        (
            [n for n in range(61) if n % 9],
            "step 20: 18 of 20 steps were left out;",
        ),
        (range(51, 60), None),
    ],
    ids=["ten in a row across three looks", "half", "more than half", "nine in a row"],
)
def test_steps_left_out_are_counted_across_looks(make_model, tmp_path, numbers, told):
    """60 steps, looked at after every fourth."""
    source = make_source(batch_size=2, rows=120)
    settings = {"epochs": 1, "eval_step": 4, "nan_policy": "skip"}
    if told:
        with pytest.raises(UserError, match=f"{told}.*--learning_rate"):
            run(make_model(hidden_size=8), tmp_path, source, breaking(numbers), **settings)
    else:
        facts = run(make_model(hidden_size=8), tmp_path, source, breaking(numbers), **settings)
        assert facts["skipped_steps"] == len(numbers)
        assert [line for line in log_of(tmp_path) if "loss" in line][-1]["skipped_steps"] == len(
            numbers
        )


@pytest.mark.parametrize("numbers, stops", [((2,), False), ((2, 3), True)])
def test_a_short_run_that_left_out_most_of_its_steps_is_not_done(
    make_model, tmp_path, numbers, stops
):
    def train():
        return run(make_model(), tmp_path, losses=breaking(numbers), epochs=1, nan_policy="skip")

    if stops:
        with pytest.raises(UserError, match="step 3: 2 of 3 steps were left out"):
            train()
    else:
        assert train()["skipped_steps"] == 1


def test_a_resumed_run_counts_the_steps_that_were_left_out_before(make_model, tmp_path):
    source = make_source(batch_size=2, rows=120)
    settings = {"epochs": 1, "eval_step": 4, "nan_policy": "skip", "save_steps": 1}
    with pytest.raises(Killed):
        run(make_model(hidden_size=8), tmp_path, source,
            killing(breaking((2, *range(25, 31))), 30), **settings)  # fmt: skip
    with pytest.raises(
        UserError, match="step 34: 11 of 34 steps were left out, 10 of them in a row"
    ):
        run(make_model(hidden_size=8), tmp_path, source, breaking(range(1, 5)), resume=True,
            **settings)  # fmt: skip


# Ctrl-C and SIGTERM


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_finishes_the_step_and_goes_on_from_there(make_model, tmp_path, signum):
    dropout = {"hidden_dropout_prob": 0.2}
    whole, model = make_model(**dropout), make_model(**dropout)

    def stop(loss):
        signal.raise_signal(signum)
        return loss

    before = signal.getsignal(signum)
    with pytest.raises(Stopped, match="after step 2 of 6; --resume") as stopped:
        run(model, tmp_path / "stopped", losses=after_call(2, stop))
    assert stopped.value.signum == signum and signal.getsignal(signum) == before
    assert load_checkpoint(tmp_path / "stopped" / CHECKPOINT_NAME)["step"] == 2
    resumed = make_model(seed=3, **dropout)
    run(resumed, tmp_path / "stopped", resume=True)
    run(whole, tmp_path / "whole")
    assert difference(whole, resumed) == 0
    logs = [without_speed(log_of(tmp_path / name)) for name in ("stopped", "whole")]
    assert logs[0] == logs[1]


def test_a_second_signal_stops_at_once(make_model, tmp_path):
    # A suite started in the background of a shell ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(loss):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return loss

    try:
        with pytest.raises(KeyboardInterrupt):
            run(make_model(), tmp_path, losses=after_call(2, stop))
    finally:
        signal.signal(signal.SIGINT, before)


# Checkpoints


def interrupted(make_model, folder, after=3, **settings):
    """A run that was killed after some steps, with a checkpoint after each."""
    with pytest.raises(Killed):
        run(make_model(), folder, losses=killing(label_training, after),
            **{"save_minutes": 0, **settings})  # fmt: skip
    return folder / CHECKPOINT_NAME


def test_save_steps_writes_checkpoints_by_count(make_model, tmp_path):
    interrupted(make_model, tmp_path, after=5, save_minutes=9, save_steps=2)
    assert load_checkpoint(tmp_path / CHECKPOINT_NAME)["step"] == 4
    assert load_checkpoint(tmp_path / PREVIOUS_CHECKPOINT_NAME)["step"] == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_torn_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    make_model, tmp_path, damage, capsys
):
    path = interrupted(make_model, tmp_path / "torn", after=4)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-200] if damage == "truncated" else content)
    resumed, whole = make_model(seed=4), make_model()
    run(resumed, tmp_path / "torn", resume=True)
    told = capsys.readouterr().err
    assert "checkpoint.pt: cannot be read" in told and "resuming after step 3 of 6" in told
    run(whole, tmp_path / "whole")
    assert difference(whole, resumed) == 0
    logs = [without_speed(log_of(tmp_path / name)) for name in ("torn", "whole")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    "other, told",
    [
        ({"learning_rate": 2e-3}, "with learning_rate 0.001, this one has 0.002"),
        ({"seed": 7}, "with seed 42, this one has 7"),
        ({"schedule": "none"}, "with schedule warmup_linear, this one has none"),
        ({"precision": "bf16"}, "in fp32, this one is in bf16"),
        ({"optimizer_name": "adamw"}, "with optimizer bertadam, this one has adamw"),
        ({"clip": "global"}, "with clip tensor, this one has global"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(make_model, tmp_path, other, told):
    interrupted(make_model, tmp_path)
    with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: belongs to a run {told}"):
        run(make_model(), tmp_path, resume=True, **other)


@pytest.mark.parametrize("here", ["as before", "AuthenticAMD AVX-512, matrix products by oneDNN"])
def test_a_checkpoint_computed_on_another_processor_is_resumed_and_that_is_said(
    make_model, tmp_path, capsys, monkeypatch, here
):
    """Its bits are not those of an uninterrupted run; on the same processor nothing is said."""
    interrupted(make_model, tmp_path)
    there = state.arithmetic(torch.device("cpu"))
    if here != "as before":
        monkeypatch.setattr(state, "arithmetic", lambda device: here)
    capsys.readouterr()
    assert run(make_model(), tmp_path, resume=True)["steps"] == 6
    told = f"was computed by {there}, this run is by {here}: what follows equals"
    assert capsys.readouterr().err.count(told) == (here != "as before")


@pytest.mark.parametrize(
    "other, told",
    [
        ({}, None),
        ({"optimizer_name": "adamw"}, "optimizer bertadam, this one has adamw"),
        ({"clip": "global"}, "clip tensor, this one has global"),
    ],
    ids=str,
)
def test_a_checkpoint_that_names_no_optimizer_is_bertadams(make_model, tmp_path, other, told):
    """Those of earlier versions."""
    path = interrupted(make_model, tmp_path)
    state = load_checkpoint(path)
    torch.save({k: v for k, v in state.items() if k not in ("optimizer_name", "clip")}, path)
    if told is None:
        assert run(make_model(), tmp_path, resume=True)["steps"] == 6
    else:
        with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: belongs to a run with {told}"):
            run(make_model(), tmp_path, resume=True, **other)


@pytest.mark.parametrize(
    "free",
    [{"accumulation": 2}, {"eval_step": 2}, {"nan_policy": "skip"}, {"save_steps": 1}],
    ids=lambda free: next(iter(free)),
)
def test_what_does_not_change_what_is_learned_may_change(make_model, tmp_path, free):
    """More micro-steps, say, after the memory ran out."""
    interrupted(make_model, tmp_path)
    assert run(make_model(), tmp_path, resume=True, **free)["steps"] == 6


@pytest.mark.parametrize(
    "name, told",
    [
        ("data", "on other data"),
        ("teacher", "with another teacher"),
        ("att_weight", "with att_weight one, this one has other"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(make_model, tmp_path, name, told):
    interrupted(make_model, tmp_path, identity={name: "one"})
    with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: belongs to a run {told}"):
        run(make_model(), tmp_path, resume=True, identity={name: "other"})


STATE = ("step", "model", "optimizer", "scaler", "keeper", "log", "log_bytes", "rng", "cuda_rng")


def damaged(make_model, folder, change):
    path = interrupted(make_model, folder)
    state = load_checkpoint(path)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize("name", STATE)
def test_a_checkpoint_that_lacks_something_is_refused_in_one_line(make_model, tmp_path, name):
    damaged(make_model, tmp_path, lambda state: state.pop(name))
    with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: lacks '{name}', of another version"):
        run(make_model(), tmp_path, resume=True)


@pytest.mark.parametrize("name", STATE[:3] + STATE[4:8])  # the others mean nothing on a CPU
@pytest.mark.parametrize("value", ["abc", {}, -1], ids=repr)
def test_a_checkpoint_that_holds_something_else_is_refused_in_one_line(
    make_model, tmp_path, name, value
):
    damaged(make_model, tmp_path, lambda state: state.update({name: value}))
    with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: (lacks|belongs to)"):
        run(make_model(), tmp_path, resume=True)


def test_a_checkpoint_of_a_run_of_another_length_is_refused(make_model, tmp_path):
    interrupted(make_model, tmp_path)
    with pytest.raises(UserError, match="belongs to a run of 6 steps, this one has 9"):
        run(make_model(), tmp_path, resume=True, epochs=3)


def test_a_checkpoint_of_another_model_is_refused(make_model, tmp_path):
    interrupted(make_model, tmp_path)
    for other in ({"hidden_size": 12}, {"num_hidden_layers": 3}):
        with pytest.raises(UserError, match=f"{CHECKPOINT_NAME}: belongs to another model"):
            run(make_model(**other), tmp_path, resume=True)


# What checkpoints had before objectives, schedules' steps and patience were part of them.
LATER = ("losses", "seconds", "max_grad_norm", "warmup_steps", "betas", "epsilon")


def as_before(path):
    state = load_checkpoint(path)
    for name in LATER:
        del state[name]
    del state["keeper"]["without_gain"]
    torch.save(state, path)


def test_a_checkpoint_of_before_resumes_to_the_same_weights(make_model, tmp_path):
    whole, resumed = make_model(), make_model(9)
    run(whole, tmp_path / "whole")
    as_before(interrupted(make_model, tmp_path / "old"))
    run(resumed, tmp_path / "old", resume=True)
    assert difference(whole, resumed) == 0


@pytest.mark.parametrize(
    "settings", [{"betas": (0.8, 0.999)}, {"epsilon": 1e-3}, {"max_grad_norm": 2.0}, {"warmup_steps": 1}]
)  # fmt: skip
def test_a_checkpoint_of_before_has_the_numbers_there_were(make_model, tmp_path, settings):
    as_before(interrupted(make_model, tmp_path))
    with pytest.raises(UserError, match=f"a run with {next(iter(settings))}"):
        run(make_model(), tmp_path, resume=True, **settings)
