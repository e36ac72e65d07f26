"""Progress bars that a terminal redraws and a log file can bear."""

from __future__ import annotations

import sys

from tqdm import tqdm

_LOG_SECONDS = 15  # between two lines where nothing is redrawn


def progress_bar(total: int | None, unit: str, description: str, **options) -> tqdm:
    """Make a bar with count, rate and time left on standard error; `update(n)` moves it.

    Args:
        options: further options of `tqdm`, such as `initial=100` after a resume.
    """
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        mininterval=0.2 if sys.stderr.isatty() else _LOG_SECONDS,
        **{"unit_scale": True, **options},
    )
