"""What is worth its cost: Pareto fronts of evaluated configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from search.lengths import Lengths


class Evaluated(NamedTuple):
    """A configuration, how well it does, and what it costs."""

    lengths: Lengths
    score: float
    cost: float


def pareto_front(trials: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that no other one dominates, the cheapest first; of equal ones the first.

    a dominates b if it scores no less and costs no more, and one of the two strictly.
    """
    front: list[Evaluated] = []
    for trial in sorted(trials, key=lambda t: (t.cost, -t.score)):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front


def area(front: Sequence[Evaluated], least: float, most: float) -> float:
    """Score over cost between two costs, divided by their difference: how far a search has come."""
    costs = [trial.cost for trial in front] + [most]
    steps = zip(costs, costs[1:], front, strict=False)
    return sum((b - a) * trial.score for a, b, trial in steps) / max(most - least, 1e-12)


def upper_hull(front: Sequence[Evaluated]) -> list[Evaluated]:
    """Those of a front that lie on its upper convex hull."""
    hull: list[Evaluated] = []
    for point in front:
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_up(a: Evaluated, b: Evaluated, c: Evaluated) -> bool:
    """Whether b lies below or on the line from a to c."""
    cross = (b.cost - a.cost) * (c.score - a.score) - (b.score - a.score) * (c.cost - a.cost)
    return cross >= 0
