"""The one way a program of this project says that its user made a mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line: the file, line or flag; what was expected; what to do.
    """


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit with its status.

    A `UserError`, or an `OSError` about a named file (disk full, no permission), becomes one line on
    standard error and exit status 2; Ctrl-C exits with 130. Anything else is a fault of ours and keeps
    its traceback.
    """
    try:
        status = main()
    except UserError as error:
        sys.exit(_say(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(_say(f"{error.filename}: {error.strerror}"))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status or 0)


def _say(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
