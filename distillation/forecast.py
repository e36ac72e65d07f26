"""How long a run will take, from the time of its own first steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_WARM_UP = 3  # steps that are slower than those to come
_MEASURED = 20
_WORTH_SAYING = 200  # steps
_SHARE = 10  # after a tenth of the steps the forecast is looked at again
_OFF = 1.5  # factor by which it may be wrong in silence
ON_TOP = "; evaluations come on top"


class Forecast:
    """Says after the first steps how long those to come will take, and again if that proves wrong."""

    def __init__(self, steps: int, say: Callable[[str], None], scored: bool) -> None:
        """
        Args:
            steps: that are to come.
            say: is given a line, unless the run is short.
            scored: whether the model is evaluated between the steps.
        """
        self._steps, self._say, self._scored = steps, say, scored
        self._count, self._times = 0, []
        self._told = 0.0  # seconds a step
        self._look_again = max(steps // _SHARE, 2 * (_WARM_UP + _MEASURED))
        self._done = steps < _WORTH_SAYING

    def step(self) -> None:
        """Count a step."""
        if self._done:
            return
        self._count += 1
        left = self._steps - self._count
        if self._count <= _WARM_UP + _MEASURED + 1:
            self._times.append(time.perf_counter())
        if self._count == _WARM_UP + _MEASURED + 1:
            # The median leaves evaluations between the steps out.
            times = self._times[_WARM_UP:]
            spans = [end - begin for begin, end in zip(times, times[1:], strict=False)]
            self._told = statistics.median(spans)
            self._say(f"expected: {time_of(left, self._told)}{ON_TOP * self._scored}")
        elif self._count == self._look_again:
            # By the clock: the first steps may be shorter than most, or a GPU still ahead of its work.
            taken = time.perf_counter() - self._times[_WARM_UP]
            seconds = taken / (self._count - _WARM_UP - 1)
            if not self._told / _OFF <= seconds <= self._told * _OFF:
                included = ", evaluations included" * self._scored
                self._say(f"expected by now: {time_of(left, seconds)}{included}")
            self._done = True


def time_of(steps: int, seconds: float) -> str:
    """Say how long steps of so many seconds each take."""
    each = f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:,.2f} s"
    return f"about {duration(steps * seconds)} for {steps:,} step{'s' * (steps != 1)} of {each}"


def duration(seconds: float) -> str:
    """Say how long something takes: 75 s, 12 min, 3 h 5 min."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
