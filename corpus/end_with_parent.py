"""Run a command that ends, with all it has started, when whoever started this ends, however that ends.

    python -I end_with_parent.py COMMAND...

To be started in a session of its own, with a pipe as standard input: the pipe's other end closes with the
process that holds it, also when that is killed and can tell nobody.
"""

import os
import signal
import subprocess
import sys
import threading


def end_with_parent() -> None:
    while os.read(0, 1):
        pass
    end_all()


def end_all() -> None:
    """Kill all processes of this session, this one included."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    run = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    if run.wait():
        end_all()  # a command that has failed may have left others waiting for it
