"""Text files read as blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus import text_files
from corpus.text_files import read_blocks
from files.errors import UserError


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("ab中 \n\r\u2028\ufeff"), max_size=60), st.integers(1, 20))
def test_blocks_are_whole_lines_with_their_numbers(tmp_path, text, size):
    path = tmp_path / "text.txt"
    data = text.encode()
    for compress in (bytes, bz2.compress, gzip.compress):
        path.write_bytes(compress(data))
        blocks = list(read_blocks(path, size))
        assert b"".join(block.data for block in blocks) == data
        lines = [line for block in blocks for line in block.lines()]
        expected = text.removeprefix("\ufeff").removesuffix("\n").split("\n") if text else []
        assert lines == expected
        assert all(block.data.endswith(b"\n") for block in blocks[:-1])
        number = 1
        for block in blocks:
            assert block.first_line == number
            number += block.data.count(b"\n")


def test_what_is_not_utf8_is_named_with_its_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"a\n" * 10 + b"\xe4\xb8\xad\n\xe4\xb8\n")
    for size in (1, 5, 1000):
        with pytest.raises(UserError, match=r"text\.txt:12: is not UTF-8"):
            for block in read_blocks(path, size):
                block.lines()


def test_missing_and_wrong_files_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file"):
        list(read_blocks(tmp_path / "nowhere", 10))
    with pytest.raises(UserError, match="is a folder"):
        list(read_blocks(tmp_path, 10))


def test_a_long_line_is_read_in_linear_time_and_an_endless_one_refused(tmp_path, monkeypatch):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"x" * 20_000_000 + b"\ny", mtime=0))
    blocks = list(read_blocks(path, 1000))  # quadratic, this takes minutes
    assert [len(block.data) for block in blocks] == [20_000_001, 1]
    monkeypatch.setattr(text_files, "LONGEST_LINE", 10_000_000)
    with pytest.raises(UserError, match=r"text\.gz:1: a line of more than 10,000,000 bytes"):
        list(read_blocks(path, 1000))
