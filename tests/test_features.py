"""Rows tokenised as they are read against the whole split in memory."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

from files.errors import UserError
from tasks.classifiers import load_split
from tasks.features import open_split, write_split
from tasks.glue import TASKS
from tasks.task import read_parts, read_split
from transformer.tokenization import BertTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_vocab):
    return BertTokenizer(tiny_vocab)


@pytest.fixture
def make_rte(tmp_path):
    """A function writing an RTE training set of so many rows and returning its folder."""

    def make(rows):
        lines = [
            f"{i}\tthe {'old ' * (i % 7)}man sees {i}\ta dog of {i * i}\t"
            f"{('entailment', 'not_entailment')[i % 3 == 0]}"
            for i in range(rows)
        ]
        text = "\n".join(["index\tsentence1\tsentence2\tlabel", *lines])
        (tmp_path / "train.tsv").write_text(text + "\n")
        return tmp_path

    return make


@pytest.mark.parametrize("part_rows", [1, 7, 20, 100])
def test_the_parts_of_a_split_are_the_split(make_rte, part_rows):
    folder = make_rte(20)
    whole = read_split(TASKS["rte"], folder, "train")
    parts = list(read_parts(TASKS["rte"], folder, "train", part_rows))
    assert [len(part) for part in parts[:-1]] == [part_rows] * (len(parts) - 1)
    assert [text for part in parts for text in part.text_a] == whole.text_a
    assert [text for part in parts for text in part.text_b] == whole.text_b
    for field in ("ids", "labels"):
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(joined, getattr(whole, field))


@pytest.mark.parametrize("name", ["rte", "sst2", "stsb"])
def test_a_split_on_disk_is_the_one_in_memory(tmp_path, tokenizer, name):
    header, row = {
        "rte": ("index\ta\tb\tlabel", "{i}\tthe man {i}\tsees a dog\tentailment"),
        "sst2": ("sentence\tlabel", "the {i} good films \t1"),
        "stsb": ("\t".join("abcdefghij"), "0\t1\t2\t3\t4\t5\t6\ta cat {i}\tthe bird\t{i}.5"),
    }[name]
    rows = [row.format(i=i % 5) for i in range(17)]
    (tmp_path / "train.tsv").write_text("\n".join([header, *rows]) + "\n")
    memory = load_split(TASKS[name], tmp_path, "train", tokenizer, 9)
    write_split(TASKS[name], tmp_path, "train", tokenizer, 9, tmp_path / "rows")
    disk = open_split(tmp_path / "rows")
    assert isinstance(disk.store.tokens, np.memmap) and isinstance(disk.labels, np.memmap)
    for ours, theirs in (
        (disk.store.tokens, memory.store.tokens),
        (disk.store.offsets, memory.store.offsets),
        (disk.store.boundaries, memory.store.boundaries),
        (disk.labels, memory.labels),
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_wrong_row_leaves_nothing_behind(make_rte, tokenizer):
    folder = make_rte(20_000)
    with (folder / "train.tsv").open("a") as file:
        file.write("20000\tthe man\ta dog\tmaybe\n")
    with pytest.raises(UserError, match="train.tsv:20002: label 'maybe'"):
        write_split(TASKS["rte"], folder, "train", tokenizer, 64, folder / "rows")
    assert [path.name for path in folder.iterdir()] == ["train.tsv"]


def test_labels_of_other_rows_are_refused(make_rte, tokenizer):
    folder = make_rte(5)
    write_split(TASKS["rte"], folder, "train", tokenizer, 64, folder / "rows")
    np.save(folder / "rows.labels.npy", np.zeros(4, np.int64))
    with pytest.raises(UserError, match="labels for 5 rows"):
        open_split(folder / "rows")


def test_memory_does_not_grow_with_the_rows(make_rte, tokenizer, monkeypatch):
    monkeypatch.setattr("tasks.features.read_parts", partial(read_parts, part_rows=256))

    def peak(rows):
        folder = make_rte(rows)
        tracemalloc.start()
        write_split(TASKS["rte"], folder, "train", tokenizer, 64, folder / "rows")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1024)  # what is made once
    few, many = peak(1024), peak(8192)
    # 8 bytes a label, twice while they are joined; the texts alone are 60 bytes a row.
    assert many - few < 7168 * 2 * 8 + 0.1 * few
