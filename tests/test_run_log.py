"""metrics.jsonl: what a line holds, and what it costs to gather it."""

import io
import json

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from distillation.distributed import Runtime
from distillation.global_batches import GlobalBatch
from distillation.objective import Losses
from distillation.run_log import RunLog
from files.errors import UserError

CPU = Runtime(torch.device("cpu"))
FINE, BROKEN = torch.tensor(False), torch.tensor(True)


class NoReading(TorchDispatchMode):
    """Fails where a tensor's value is read: on a GPU the host would wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.name() not in ("aten::_local_scalar_dense", "aten::_to_copy"), func.name()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def log():
    return RunLog(io.StringIO(), tqdm(file=io.StringIO()), CPU)


def count(log, step, loss=1.0, layers=(0.25, 0.75), tokens=40, bad=FINE, rescaled=False):
    losses = {"attention_loss": torch.tensor(loss), "hidden_loss": torch.tensor(2.0)}
    losses = Losses(losses, {"attention_loss": torch.tensor(layers)})
    log.count(step, GlobalBatch(0, False, np.arange(4), tokens, []), losses, bad, rescaled)


def lines(log):
    return [json.loads(line) for line in log._file.getvalue().splitlines()]


def test_a_line_holds_means_over_the_steps_since_the_last(log):
    count(log, 1, 1.0, (0.25, 0.75))
    count(log, 2, 3.0, (0.75, 2.25))
    log.write_losses(2, 0, 1e-3)
    count(log, 3, 5.0, (1.0, 4.0))
    log.write_losses(3, 0, 1e-3)
    first, second = lines(log)
    assert first["attention_loss"] == 2.0 and first["loss"] == 4.0
    assert first["attention_loss_by_layer"] == [0.5, 1.5]
    assert second["attention_loss_by_layer"] == [1.0, 4.0]


def test_rows_and_tokens_are_counted_by_the_second(log, monkeypatch):
    log._since = 100.0
    monkeypatch.setattr("distillation.run_log.time.monotonic", lambda: 102.0)
    count(log, 1, tokens=30)
    count(log, 2, tokens=50)
    log.write_losses(2, 0, 1e-3)
    (line,) = lines(log)
    assert (line["examples_per_second"], line["tokens_per_second"]) == (4.0, 40.0)
    assert (log.examples, log.tokens) == (8, 80)


def test_counting_a_step_reads_no_value_from_the_device(log):
    count(log, 1)
    batch = GlobalBatch(0, False, np.arange(4), 40, [])
    losses, by_layer = {"a_loss": torch.tensor(1.0)}, {"a_loss": torch.tensor([0.5, 0.5])}
    with NoReading():
        for step in range(2, 5):
            log.count(step, batch, Losses(losses, by_layer), FINE)
    with pytest.raises(AssertionError, match="local_scalar"), NoReading():
        losses["a_loss"].item()


def test_a_step_left_out_counts_in_no_layer_either():
    log = RunLog(io.StringIO(), tqdm(file=io.StringIO()), CPU, skip_nonfinite=True)
    count(log, 1, 1.0, (0.25, 0.75))
    count(log, 2, float("nan"), (float("nan"), 1.0), bad=BROKEN)
    log.write_losses(2, 0, 1e-3)
    assert lines(log)[-1]["attention_loss_by_layer"] == [0.25, 0.75]


def test_a_log_goes_on_with_what_it_had_added_up(log):
    count(log, 1, 1.0, (0.25, 0.75))
    state = log.state_dict()
    RunLog.check_state(state)
    again = RunLog(io.StringIO(), tqdm(file=io.StringIO()), CPU)
    again.load_state_dict(state, torch.device("cpu"))
    for each in (log, again):
        count(each, 2, 3.0, (0.75, 2.25))
        each.write_losses(2, 0, 1e-3)
    assert lines(again)[0]["attention_loss_by_layer"] == lines(log)[0]["attention_loss_by_layer"]
    assert again.tokens == log.tokens


@pytest.mark.parametrize(("skipped", "stops"), [(20, False), (31, False), (32, True)])
def test_a_scaler_may_leave_out_steps_until_a_scale_fits_and_not_for_ever(skipped, stops):
    """Looked at one by one; 15 steps of use come first."""
    log = RunLog(io.StringIO(), tqdm(file=io.StringIO()), CPU, scaled=True)
    for step in range(1, 16):
        count(log, step)
    for step in range(16, 15 + skipped):
        count(log, step, rescaled=True)
        log.check()
    count(log, 15 + skipped, rescaled=True)
    if stops:
        with pytest.raises(UserError, match="32 of them in a row.*--fp16"):
            log.check()
    else:
        log.check()
        assert log.skipped == skipped and lines(log) == []
