"""MRPC as GLUE has it, made of Microsoft's two files: GLUE may not pass it on itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from files.errors import UserError
from tasks.tsv import read_rows

_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"  # GLUE's own has the mark, too
_TEST_HEADER = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def make_mrpc(train_file: Path, test_file: Path, dev_ids: Path, folder: Path) -> None:
    """Put GLUE's MRPC together: train, dev (the pairs of the list) and the unlabelled test set.

    Args:
        train_file, test_file: Microsoft's msr_paraphrase_train.txt and msr_paraphrase_test.txt.
        dev_ids: two sentence ids a line.
        folder: made here.

    Raises:
        UserError: one of them is not what it should be, or they do not belong together.
    """
    pairs = {tuple(ids) for _, ids in read_rows(dev_ids, columns=2) if "".join(ids).isdecimal()}
    folder.mkdir()
    found = set()
    with _open_new(folder / "train.tsv") as train, _open_new(folder / "dev.tsv") as dev:
        train.write(_HEADER)
        dev.write(_HEADER)
        for row in _rows(train_file):
            ids = tuple(row[1:3])
            (dev if ids in pairs else train).write("\t".join(row) + "\n")
            found.update({ids} & pairs)
    if not pairs or found != pairs:
        raise UserError(
            f"{dev_ids}: {len(found)} of its {len(pairs)} pairs are in {train_file}; "
            "expected all: the two belong together"
        )
    with _open_new(folder / "test.tsv") as test:
        test.write(_TEST_HEADER)
        for index, row in enumerate(_rows(test_file)):
            test.write("\t".join([str(index), *row[1:]]) + "\n")


def _open_new(path: Path):
    return open(path, "w", encoding="utf-8", newline="\n")


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows below the header of Microsoft's file, without blanks at their ends."""
    rows = read_rows(path, columns=5)
    _, header = next(rows)
    if header[0] != "Quality":
        raise UserError(
            f"{path}:1: expected the header Quality, #1 ID, #2 ID, #1 String, #2 String"
        )
    for _, row in rows:
        yield [row[0].lstrip(), *row[1:-1], row[-1].rstrip()]
