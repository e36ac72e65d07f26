"""Progress bars that a terminal redraws and a log file can bear."""

from __future__ import annotations

import sys

from tqdm import tqdm

_LOG_SECONDS = 30  # between two lines where nothing is redrawn


def progress_bar(total: int | None, unit: str, description: str) -> tqdm:
    """Make a bar with count, rate and time left on standard error; `update(n)` moves it."""
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        unit_scale=True,
        mininterval=0.2 if sys.stderr.isatty() else _LOG_SECONDS,
    )
