"""The search: fronts, what is proposed, and a study that is killed, shared and resumed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from search.front import Evaluated, area, pareto_front, upper_hull
from search.lengths import uniform
from search.propose import Evolution, Space, evolution
from search.study import BACKENDS, Study
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
SPACE = Space(3, 48, 10)


def at(score, cost):
    return Evaluated((int(1000 * cost),), score, cost)


def test_a_front_holds_what_nothing_dominates():
    a, b, c = at(1, 0.1), at(2, 0.5), at(3, 0.9)
    dominated = [at(1, 0.2), at(2, 0.6), at(0.5, 0.9), at(2.9, 0.95)]
    assert pareto_front([*dominated, c, b, a]) == [a, b, c]
    equal = [at(1, 0.1), Evaluated((7,), 1, 0.1), Evaluated((8,), 0.9, 0.1)]
    assert pareto_front(equal) == [equal[0]]  # also of equal costs one alone is left
    assert pareto_front([]) == []


def test_area_and_hull_of_a_front():
    front = [at(1, 0.0), at(2, 0.5), at(2.2, 0.75), at(4, 1.0)]
    assert area(front, 0.0, 1.0) == pytest.approx(1 * 0.5 + 2 * 0.25 + 2.2 * 0.25)
    assert upper_hull(front) == [front[0], front[3]]
    assert upper_hull([at(1, 0), at(3, 0.5), at(4, 1)]) == [at(1, 0), at(3, 0.5), at(4, 1)]


def score(lengths):
    return sum(length**0.5 for length in lengths), sum(lengths) / 144, {"seen": 1}


@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_never_grow_and_stay_in_their_bounds(tmp_path, backend):
    study = Study(tmp_path / "study.log", SPACE, backend)
    study.run(score, 20)
    history = study.history()
    assert len(history) == 20
    assert {SPACE.full, SPACE.smallest} <= {trial.lengths for trial in history}
    for trial in history:
        assert all(a >= b for a, b in zip((48, *trial.lengths), trial.lengths, strict=False))
        assert min(trial.lengths) >= 10


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interrupted_search_finds_the_same(tmp_path, backend):
    """The third evaluation after the beginning fails; the study is opened again."""
    whole = Study(tmp_path / "whole.log", SPACE, backend)
    whole.run(score, 16)
    calls = []

    def fails_once(lengths):
        calls.append(lengths)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return score(lengths)

    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path / "parts.log", SPACE, backend).run(fails_once, 16)
    again = Study(tmp_path / "parts.log", SPACE, backend)
    again.run(score, 16)
    assert again.history() == whole.history()


def test_a_configuration_is_evaluated_once(tmp_path):
    tiny = Space(2, 6, 5)
    seen = []

    def note(lengths):
        seen.append(lengths)
        return score(lengths)

    Study(tmp_path / "study.log", tiny, "tpe").run(note, 15)
    assert len(seen) == len(set(seen)) <= 3


@pytest.mark.parametrize("backend", ["evolution", "random"])
def test_a_small_space_is_exhausted_and_the_search_ends(tmp_path, backend):
    study = Study(tmp_path / "study.log", Space(2, 6, 5, 0.5), backend)
    study.run(score, 50)
    assert {trial.lengths for trial in study.history()} <= {(6, 6), (6, 5), (5, 5)}


def test_evolution_changes_the_front_and_takes_means_of_it():
    numbers = Evolution(population=2, mutations=3, crossovers=2, probability=0.5)
    propose = evolution(SPACE, 0, numbers)
    history = []
    for _ in range(60):
        lengths = propose(history)
        assert lengths not in {trial.lengths for trial in history}
        assert all(a >= b for a, b in zip((48, *lengths), lengths, strict=False))
        history.append(Evaluated(lengths, *score(lengths)[:2]))
    assert history[0].lengths == SPACE.full and uniform(48, 3, 0.2, 10) in [
        t.lengths for t in history
    ]


SEARCH = """
    import os, signal, sys, time
    from search.propose import Space
    from search.study import Study

    path, count, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    done = []
    def score(lengths):
        done.append(lengths)
        if len(done) == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return sum(length**0.5 for length in lengths), sum(lengths) / 144, {}
    Study(path, Space(3, 48, 10), "tpe").run(score, count)
"""


def run_search(path, count, stop=0):
    words = [sys.executable, "-c", textwrap.dedent(SEARCH), str(path), str(count), str(stop)]
    return subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_killed_search_goes_on_to_the_same_trials(tmp_path):
    killed = run_search(tmp_path / "a.log", 14, stop=12)
    assert killed.wait(PATIENCE) == -signal.SIGKILL
    assert run_search(tmp_path / "a.log", 14).wait(PATIENCE) == 0
    assert run_search(tmp_path / "b.log", 14).wait(PATIENCE) == 0
    found = [Study(tmp_path / name, SPACE).history() for name in ("a.log", "b.log")]
    assert found[0] == found[1] and len(found[0]) == 14


def test_two_processes_share_a_search(tmp_path):
    both = [run_search(tmp_path / "study.log", 30) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    trials = Study(tmp_path / "study.log", SPACE).trials()
    owners = {json.dumps(trial.user_attrs["owner"]) for trial in trials}
    assert 30 <= len(trials) <= 31 and len(owners) == 2
