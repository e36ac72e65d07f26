"""Progress in a log file: whole lines, few of them, with rate and time left."""

import re

import pytest

from distillation import forecast
from distillation.forecast import Forecast, time_of
from files import progress
from files.progress import progress_bar


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


@pytest.mark.parametrize("total", [0, 200])
def test_more_than_was_foreseen_is_all_of_it(capsys, total):
    with progress_bar(total, "B", "splitting") as bar:
        bar.update(324_000)
    assert lines(capsys)[-1].startswith("splitting: 100% 324k/324k B")


def test_a_line_comes_when_its_time_has_come_with_rate_and_time_left(capsys, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    with progress_bar(10, "B", "fetching") as bar:
        for _ in range(4):
            clock[0] += progress._LOG_SECONDS + 1
            bar.update()
        bar.set_postfix(loss="0.3", refresh=False)
    told = lines(capsys)
    assert len(told) == 6
    assert re.fullmatch(r"fetching:  20% 2.00/10.0 B \[00:\d\d<0\d:\d\d, +[\d.]+s/B\]", told[2])
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


def forecasts(monkeypatch, steps, spans, scored, evaluation=0.0):
    """What is told by a run of so many steps whose first ones take `spans` seconds."""
    clock, told = [0.0], []
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: clock[0])
    ahead = Forecast(steps, told.append, scored)
    for step, span in enumerate(spans, start=1):
        clock[0] += span
        ahead.step()
        clock[0] += evaluation if step % 10 == 0 else 0.0
    return told


START = [9.0] * 3 + [0.5] * 21


@pytest.mark.parametrize("scored", [True, False])
def test_the_forecast_leaves_evaluations_out(monkeypatch, scored):
    told = forecasts(monkeypatch, 6024, START, scored, 60.0)
    more = "; evaluations come on top" if scored else ""
    assert told == [f"expected: about 50 min for 6,000 steps of 500 ms{more}"]


@pytest.mark.parametrize("rest", [0.4, 0.7])
def test_a_forecast_that_proves_right_is_told_once(monkeypatch, rest):
    assert len(forecasts(monkeypatch, 6024, START + [rest] * 6000, True)) == 1


@pytest.mark.parametrize("rest, told", [(2.0, "2 h 56 min"), (0.1, "10 min")])
def test_a_forecast_that_proves_wrong_is_corrected_once(monkeypatch, rest, told):
    first, *more = forecasts(monkeypatch, 6024, START + [rest] * 6000, False)
    (corrected,) = more
    assert corrected.startswith(f"expected by now: about {told} for 5,422 steps of ")
    assert "evaluations" not in corrected


def test_a_correction_counts_evaluations_in(monkeypatch):
    _, corrected = forecasts(monkeypatch, 6024, START + [0.5] * 6000, True, 60.0)
    assert corrected.endswith(", evaluations included") and " of 6.52 s" in corrected


def test_a_run_of_a_few_steps_is_not_forecast(monkeypatch):
    assert forecasts(monkeypatch, 100, [0.5] * 100, True) == []


@pytest.mark.parametrize(
    "steps, seconds, told",
    [
        (1, 0.0123, "about 0 s for 1 step of 12.3 ms"),
        (3, 0.5, "about 2 s for 3 steps of 500 ms"),
        (660, 1, "about 11 min for 660 steps of 1.00 s"),
        (660, 0.9996, "about 11 min for 660 steps of 1.00 s"),
        (66_000, 0.25, "about 4 h 35 min for 66,000 steps of 250 ms"),
    ],
)
def test_times_are_told_as_people_tell_them(steps, seconds, told):
    assert time_of(steps, seconds) == told
