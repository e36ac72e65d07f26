"""Waiting for other processes: for a condition, however slow and busy the machine is."""

import time
from collections.abc import Callable

PATIENCE = (
    600  # seconds after which a test gives up what hangs; how fast anything is says nothing here
)


def wait_until(condition: Callable[[], bool], process=None) -> None:
    """Wait until `condition()` holds, and fail when a process that is to bring it about has ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process is None or process.poll() is None, "the process has ended before"
        assert time.monotonic() < deadline
        time.sleep(0.02)
