"""Ordered work over processes."""

from __future__ import annotations

import os
import time

import pytest

from files.errors import UserError
from files.parallel import ordered_map


def slow_at_first(item: int) -> tuple[int, int]:
    time.sleep(0.05 if item == 0 else 0)
    return item, os.getpid()


def refuse_seven(item: int) -> int:
    if item == 7:
        raise UserError("item 7")
    return item


def die(item: int) -> None:
    os._exit(9)


def test_results_come_in_the_order_of_the_items_from_several_processes():
    results = list(ordered_map(slow_at_first, range(20), 2))
    assert [item for item, _ in results] == list(range(20))
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(("items", "workers"), [([], 4), ([5], 4), ([5, 6, 7], 1)])
def test_a_single_worker_or_item_stays_in_this_process(items, workers):
    assert list(ordered_map(slow_at_first, items, workers)) == [(i, os.getpid()) for i in items]


def test_items_are_taken_only_as_results_are_wanted():
    taken = []
    results = ordered_map(slow_at_first, (taken.append(i) or i for i in range(1000)), 2)
    next(results)
    assert len(taken) < 10
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers):
    with pytest.raises(UserError, match="item 7"):
        list(ordered_map(refuse_seven, range(10), workers))


def test_a_killed_worker_is_one_line():
    with pytest.raises(UserError, match="--num_workers 2: a worker was killed"):
        list(ordered_map(die, range(10), 2))
