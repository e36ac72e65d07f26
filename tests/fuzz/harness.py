"""The rule that every reader is held to, whatever it is given."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import zlib
from collections.abc import Callable, Iterator

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from files.errors import run_script

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))  # for each reader; the nightly run has 2000
SECONDS = 10  # of processor time, for one input


def fuzz(strategy: st.SearchStrategy) -> Callable:
    """Run a test on mutated inputs: the same ones every time, and others with FUZZ_SEED."""

    def decorate(test: Callable) -> Callable:
        start = zlib.crc32(test.__name__.encode()) + int(os.environ.get("FUZZ_SEED", "0"))
        phases = (Phase.generate,)  # an input is at most four edits: there is little to shrink
        limits = settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        return seed(start)(limits(given(mutant=strategy)(test)))

    return decorate


def obeys(action: Callable[[], object], names: str) -> bool:
    """Assert that `action` works, or ends as a program of ours does on a user's mistake.

    That is: one line on standard error that begins with `error: ` and holds a match of the pattern
    `names` (the file or flag), and exit status 2; no other exception, and no more than SECONDS of work.

    Returns:
        Whether it worked.
    """
    errors = io.StringIO()
    try:
        with (
            _time_limit(),
            contextlib.redirect_stderr(errors),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            run_script(lambda: action() and None)
    except SystemExit as end:
        if end.code == 0:
            return True
        told = errors.getvalue()
        last = told.removesuffix("\n").rpartition("\n")[2]
        assert end.code == 2 and last.startswith("error: ") and last.isprintable(), told
        assert "Traceback" not in told and told.count("\nerror: ") == (told != f"{last}\n"), told
        assert re.search(names, last) and len(last) < 2000, told
        return False
    raise AssertionError("run_script returned")


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def out_of_time(*_: object) -> None:
        raise AssertionError(f"no end after {SECONDS} s of processor time")

    before = signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
