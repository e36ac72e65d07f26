"""Work spread over processes, its results in order."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, TypeVar

from files.errors import Mishap, setting

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # items waiting per worker: keeps it busy, and bounds what finished results occupy
_worker_function: Callable[[Any], Any] | None = None  # in a worker: what it was started for


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in the order of the items.

    With one worker or one item nothing but this process is used. Else `function` must be picklable;
    only a few items a worker are taken from `items` before their results are asked for, so that
    neither a long input nor a slow consumer fills the memory. An error in a worker is raised here.

    Raises:
        Mishap: a worker was killed, for want of memory most likely.
    """
    items = iter(items)
    first = list(islice(items, 2))
    items = chain(first, items)
    if workers <= 1 or len(first) <= 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(
        workers,
        # Not fork: the tokenizer's threads do not survive it.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(function,),
    )
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_run_worker, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise Mishap(
            f"{setting('num_workers')} {workers}: a worker was killed, most likely for want of memory; "
            "use fewer"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _worker_function
    _worker_function = function
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that hands out the work is gone: killed, it cannot say so."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_worker(item: Any) -> Any:
    return _worker_function(item)
