"""What a user is told on a mistake: one line that can neither steer nor flood the terminal."""

import numpy as np
import pytest
import torch

from files.errors import UserError, run_script


def told(capsys, message):
    def main():
        raise UserError(message)

    with pytest.raises(SystemExit) as end:
        run_script(main)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_a_mistake_is_one_line_and_status_2(capsys):
    assert told(capsys, "train.tsv:3: label 'x'\n  expected 0 or 1") == (
        "error: train.tsv:3: label 'x' expected 0 or 1\n"
    )


def test_control_characters_of_a_file_do_not_reach_the_terminal(capsys):
    line = told(capsys, "vocab.txt: \x1b[2J\u202e中 appears twice")
    assert line == "error: vocab.txt: \\x1b[2J\\u202e中 appears twice\n"


def test_a_long_value_is_cut_in_the_middle(capsys):
    line = told(capsys, f"config.json: hidden_act is {'x' * 100_000!r}; expected gelu or relu")
    assert len(line) < 2000
    assert line.startswith("error: config.json: hidden_act is 'xxx")
    assert line.endswith("xxx'; expected gelu or relu\n")


def gpu_is_full():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")


@pytest.mark.parametrize(
    "allocate",
    [lambda: bytes(2**62), lambda: np.ones(2**57), lambda: torch.ones(2**57), gpu_is_full],
    ids=["Python", "NumPy", "torch", "CUDA"],
)
def test_a_want_of_memory_is_a_line_that_says_what_needs_less(capsys, allocate):
    with pytest.raises(SystemExit) as end:
        run_script(allocate)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith("error: not enough memory (") and "--gradient_accumulation_steps" in line


def test_a_fault_of_ours_keeps_its_traceback():
    def main():
        raise RuntimeError("a shape does not fit")

    with pytest.raises(RuntimeError, match="a shape"):
        run_script(main)
