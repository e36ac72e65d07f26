"""Work spread over processes, its results in order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # items waiting per worker: keeps it busy, and bounds what finished results occupy


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of the items.

    With one worker nothing but this process is used. With more, `function` must be picklable; only
    a few items a worker are taken from `items` before their results are asked for, so that neither
    a long input nor a slow consumer fills the memory. An error in a worker is raised here.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    # Not fork: the tokenizer's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
