"""How long a run will take, from the time of its own first steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_WARM_UP = 3  # steps that are slower than those to come
_MEASURED = 20
_WORTH_SAYING = 200  # steps


class Forecast:
    """Says once, after the first steps, how long those to come will take."""

    def __init__(self, steps: int, say: Callable[[str], None]) -> None:
        """
        Args:
            steps: that are to come.
            say: is given a line, unless the run is short.
        """
        self._left, self._say = steps, say
        self._times: list[float] = []
        self._done = steps < _WORTH_SAYING

    def step(self) -> None:
        """Count a step; the median of their times leaves evaluations between them out."""
        if self._done:
            return
        self._left -= 1
        self._times.append(time.perf_counter())
        if len(self._times) == _WARM_UP + _MEASURED + 1:
            times = self._times[_WARM_UP:]
            spans = [end - begin for begin, end in zip(times, times[1:], strict=False)]
            self._say(f"expected: {time_of(self._left, statistics.median(spans))}")
            self._done = True


def time_of(steps: int, seconds: float) -> str:
    """Say how long steps of so many seconds each take."""
    each = f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:,.2f} s"
    told = duration(steps * seconds)
    return f"{told} for {steps:,} step{'s' * (steps != 1)} of {each}; evaluations come on top"


def duration(seconds: float) -> str:
    """Say how long something takes: 75 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
