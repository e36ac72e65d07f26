"""Progress bars that a terminal redraws and a log file can bear."""

from __future__ import annotations

import io
import sys

from tqdm import tqdm

_LOG_SECONDS = 15  # between the first lines where nothing is redrawn
_LONGEST_LOG_SECONDS = 600
_FORMAT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


def progress_bar(total: int | None, unit: str, description: str, **options) -> tqdm:
    """Make a bar with count, rate and time left on standard error; `update(n)` moves it.

    Where standard error is not a terminal it is a line now and then: every 15 seconds at first, later at
    every fiftieth part of the time gone by, at the latest after ten minutes.

    Args:
        options: further options of `tqdm`, such as `initial=100` after a resume.
    """
    options = {"total": total, "unit": unit, "desc": description, "unit_scale": True, **options}
    if sys.stderr.isatty():
        return tqdm(mininterval=0.2, **options)
    if total is not None:
        options["bar_format"] = _FORMAT
    return _LogLines(mininterval=_LOG_SECONDS, miniters=1, file=_Lines(sys.stderr), **options)


class _LogLines(tqdm):
    """A bar as lines of a log: no bar of characters, and the longer it takes the fewer."""

    monitor_interval = 0  # no thread that redraws a bar which stands still
    _shown = None

    def display(self, msg=None, pos=None) -> None:
        if self.total is not None and self.n > self.total:
            self.total = self.n  # it was foreseen too low; tqdm would write "0% 324k/?"
        if (
            shown := (self.n, self.postfix)
        ) != self._shown:  # a line above it, or its end, repeats it
            super().display(msg, pos)
        self._shown = shown
        seconds = self.format_dict["elapsed"] / 50
        self.mininterval = min(max(_LOG_SECONDS, seconds), _LONGEST_LOG_SECONDS)


class _Lines(io.TextIOBase):
    """Passes on what has characters in it, each chunk as a line; the cursor's movements are dropped."""

    def __init__(self, stream: io.TextIOBase) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        for line in text.replace("\r", "\n").splitlines():
            if line.strip():
                self._stream.write(line.rstrip() + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
