"""The one way a program of this project says that its user made a mistake."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

# What a disk says that takes no more; these come without a file's name where a stream is written.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LONGEST_MESSAGE = 2000  # characters


# The exit status, once `run_script` has seen its program fail: what runs at the interpreter's end cannot ask
# for it.
failed_with = 0


# How the running program spells its settings, where that is not `--NAME`.
_spelled: dict[str, str] = {}


def spell_settings(spelled: dict[str, str]) -> None:
    """Say how the program that runs has its user give each setting: name -> flag."""
    _spelled.clear()
    _spelled.update(spelled)


def setting(name: str) -> str:
    """A setting as the user of the running program gives it: what is no script knows no flags."""
    return _spelled.get(name, f"--{name}")


class UserError(Exception):
    """A mistake the user can correct.

    The message is one line: the file, line or flag; what was expected; what to do.
    """


class Mishap(UserError):
    """One that lies in the machine, not in what the program was given: what it has done is worth keeping."""


class Stopped(Exception):
    """The program was asked to stop (Ctrl-C, SIGTERM), and what it had done is safe on disk.

    The message says what to do.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class StopRequest:
    """Notes SIGINT and SIGTERM while its block runs, so that a step can be finished first.

    `signum` is the first that came, or 0. The second has its usual effect.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others may set no handler
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        name = signal.Signals(signum).name
        print(f"\n{name}: finishing the step; repeat it to stop at once", file=sys.stderr)
        self.__exit__()


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit with its status.

    A `UserError`, an `OSError` about a named file or a full disk, or a want of memory becomes one line on
    standard error and exit status 2; Ctrl-C exits with 130, SIGTERM with 143, both after temporary files
    have been removed. Anything else is a fault of ours and keeps its traceback.
    """
    global failed_with
    failed_with = 1  # for what keeps its traceback
    try:
        with _exit_on_sigterm():
            status = main() or 0
        failed_with = 0
    except UserError as error:
        status = failed_with = _say(str(error))
    except OSError as error:
        if error.filename is None and error.errno not in _NO_ROOM:
            raise
        where = error.filename2 or error.filename or "output"  # of two, what was to be made
        status = failed_with = _say(f"{where}: {error.strerror}")
    except (MemoryError, RuntimeError) as error:
        if not _wants_memory(error):
            raise
        status = failed_with = _say(
            f"not enough memory ({str(error).partition(chr(10))[0]}); make batches smaller, or have them "
            f"computed in parts ({setting('gradient_accumulation_steps')}), or use a smaller model"
        )
    except Stopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        status, failed_with = 128 + stop.signum, 0
    except KeyboardInterrupt:
        status = failed_with = 130
    except SystemExit as end:
        failed_with = end.code
        raise
    sys.exit(status)


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the program, which removes what is half done, instead of ending it on the spot."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wants_memory(error: Exception) -> bool:
    """Whether that is what Python, NumPy, or torch on a GPU or a CPU, mean."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(
        error
    )


def _say(message: str) -> int:
    """Print one line; what a file has smuggled into it can neither steer nor flood the terminal."""
    line = "error: " + " ".join(message.split())
    if len(line) > _LONGEST_MESSAGE:
        line = f"{line[: _LONGEST_MESSAGE - 500]} … {line[-400:]}"
    plain = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    print("".join(plain), file=sys.stderr)
    return 2
