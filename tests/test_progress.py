"""Progress in a log file: whole lines, few of them, with rate and time left."""

import re
import time

import pytest

from distillation import forecast
from distillation.forecast import Forecast, time_of
from transformer import progress
from transformer.progress import progress_bar


def lines(capsys):
    text = capsys.readouterr().err
    assert "\r" not in text
    return text.splitlines()


def test_a_short_job_has_a_first_and_a_last_line(capsys):
    with progress_bar(1000, "step", "training", unit_scale=False) as bar:
        for _ in range(1000):
            bar.update()
    first, last = lines(capsys)
    assert first.startswith("training:   0% 0/1000 step")
    assert re.fullmatch(r"training: 100% 1000/1000 step \[00:0\d<00:00, [\d.]+step/s\]", last)


def test_a_line_comes_when_its_time_has_come_with_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.05)
    with progress_bar(10, "B", "fetching") as bar:
        for _ in range(4):
            time.sleep(0.06)
            bar.update()
        bar.set_postfix(loss="0.3", refresh=False)
    told = lines(capsys)
    assert len(told) == 6
    assert re.fullmatch(r"fetching:  20% 2.00/10.0 B \[00:00<00:0\d, [\d.]+B/s\]", told[2])
    assert told[-1].endswith(", loss=0.3]")


def test_the_longer_it_takes_the_fewer_the_lines(monkeypatch):
    bar = progress_bar(10**6, "step", "training")
    for minutes, seconds in ((1, 15), (60, 72), (24 * 60, 600)):
        bar.start_t = bar._time() - 60 * minutes
        bar.refresh()
        assert bar.mininterval == pytest.approx(seconds, abs=0.1)
    bar.close()


def test_what_is_written_above_the_bar_is_a_line(capsys):
    with progress_bar(10, "step", "training") as bar:
        bar.write("step 20: dev acc 0.7", file=bar.fp)
    assert "step 20: dev acc 0.7" in lines(capsys)


def test_without_a_total_count_and_rate_are_told(capsys):
    with progress_bar(None, "tok", "epoch 0") as bar:
        bar.update(12_000)
    assert lines(capsys)[-1].startswith("epoch 0: 12.0ktok [00:00, ")


def test_the_forecast_is_made_once_and_leaves_evaluations_out(monkeypatch):
    clock, told = [0.0], []
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: clock[0])
    ahead = Forecast(6024, told.append)
    for step in range(1, 60):
        clock[0] += 9.0 if step < 4 else 0.5
        ahead.step()
        clock[0] += 60.0 if step % 10 == 0 else 0.0
    assert told == ["expected: 50 min for 6,000 steps of 500 ms; evaluations come on top"]


def test_a_run_of_a_few_steps_is_not_forecast():
    told = []
    ahead = Forecast(100, told.append)
    for _ in range(100):
        ahead.step()
    assert told == []


@pytest.mark.parametrize(
    "steps, seconds, told",
    [
        (1, 0.0123, "0 s for 1 step of 12.3 ms; "),
        (3, 0.5, "2 s for 3 steps of 500 ms; "),
        (660, 1, "11 min for 660 steps of 1.00 s; "),
        (660, 0.9996, "11 min for 660 steps of 1.00 s; "),
        (66_000, 0.25, "4 h 35 min for 66,000 steps of 250 ms; "),
    ],
)
def test_times_are_told_as_people_tell_them(steps, seconds, told):
    assert time_of(steps, seconds).startswith(told)
