"""Token stores: layout, truncation, files, batches."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.token_store import (
    TokenStore,
    TokenStoreWriter,
    encode_pairs,
    keep_longest_first,
    ranges,
    token_dtype,
)
from files.errors import UserError

CLS, SEP = 2, 3
WORDS = st.lists(st.text("abcde", max_size=12), max_size=8)


class LetterTokenizer:
    """One token a letter, so that expected ids can be written down."""

    cls_id, sep_id, separators = CLS, SEP, 1

    def __init__(self, size=30):
        self.size = size

    def __len__(self):
        return self.size

    def ids(self, text):
        return [10 + ord(letter) - ord("a") for letter in text if letter != " "]

    def encode_flat(self, texts):
        ids = [self.ids(text) for text in texts]
        flat = np.array([token for row in ids for token in row], dtype=np.int32)
        return flat, np.cumsum([0] + [len(row) for row in ids]).astype(np.int64)


def truncate_one_by_one(a, b, room):
    """The published loop: take from the longer side, from the second when they are equal."""
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        (a if len(a) > len(b) else b).pop()
    return a, b


def rows_of(store):
    return [
        store.tokens[begin:end].tolist()
        for begin, end in zip(store.offsets[:-1], store.offsets[1:], strict=True)
    ]


def random_store(count=50, seed=0, longest=20):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, longest, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = generator.integers(1, 100, offsets[-1]).astype(np.uint16)
    boundaries = generator.integers(2, lengths + 1).astype(np.uint16)
    return TokenStore(tokens, offsets, boundaries)


def assert_equal_stores(left, right):
    for name in ("tokens", "offsets", "boundaries"):
        ours, theirs = getattr(left, name), getattr(right, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_single_sentence_layout():
    store = encode_pairs(LetterTokenizer(), ["abc", ""], None, 10)
    assert rows_of(store) == [[CLS, 10, 11, 12, SEP], [CLS, SEP]]
    assert store.boundaries.tolist() == store.lengths.tolist() == [5, 2]


def test_pair_layout():
    store = encode_pairs(LetterTokenizer(), ["ab", ""], ["c", "dd"], 10)
    assert rows_of(store) == [[CLS, 10, 11, SEP, 12, SEP], [CLS, SEP, 13, 13, SEP]]
    assert store.boundaries.tolist() == [4, 2]


def test_pair_with_an_empty_second_text_is_a_single_sentence():
    store = encode_pairs(LetterTokenizer(), ["abcdefgh"], [" "], 8)
    assert rows_of(store) == [[CLS, 10, 11, 12, 13, 14, 15, SEP]]
    assert store.boundaries.tolist() == [8]


def test_no_rows_make_an_empty_store():
    assert len(encode_pairs(LetterTokenizer(), [], None, 8)) == 0


@pytest.mark.parametrize("max_length", range(3, 13))
def test_closed_form_truncation_equals_the_published_loop(max_length):
    length_a, length_b = (grid.ravel() for grid in np.mgrid[0:14, 0:14])
    keep_a, keep_b = keep_longest_first(length_a, length_b, max_length)
    for row in range(len(length_a)):
        room = max_length - 2 - (length_b[row] > 0)
        a, b = truncate_one_by_one(range(length_a[row]), range(length_b[row]), room)
        assert (keep_a[row], keep_b[row]) == (len(a), len(b))


@settings(max_examples=50, deadline=None)
@given(WORDS, st.data(), st.integers(3, 12))
def test_encoding_equals_a_loop_over_the_rows(text_a, data, max_length):
    text_b = data.draw(
        st.lists(st.text("abcde", max_size=12), min_size=len(text_a), max_size=len(text_a))
    )
    tokenizer = LetterTokenizer()
    expected = []
    for a, b in zip(text_a, text_b, strict=True):
        room = max_length - 2 - bool(b)
        a, b = truncate_one_by_one(tokenizer.ids(a), tokenizer.ids(b), room)
        expected.append([CLS, *a, SEP] + ([*b, SEP] if b else []))
    store = encode_pairs(tokenizer, text_a, text_b, max_length)
    assert rows_of(store) == expected
    assert all(len(row) <= max_length for row in expected)


def test_encoding_in_chunks_changes_nothing(monkeypatch):
    text = ["abcde"[: n % 6] for n in range(40)]
    whole = encode_pairs(LetterTokenizer(), text, text[::-1], 9)
    monkeypatch.setattr("corpus.token_store._ENCODE_ROWS", 7)
    assert_equal_stores(encode_pairs(LetterTokenizer(), text, text[::-1], 9), whole)


@pytest.mark.parametrize(
    "size, dtype", [(30522, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_tokens_take_two_bytes_when_the_vocabulary_fits(size, dtype):
    assert token_dtype(size) == dtype
    assert encode_pairs(LetterTokenizer(size), ["a"], None, 8).tokens.dtype == dtype


@pytest.mark.parametrize("max_length", [-1, 0, 2, 70_000])
def test_impossible_length_is_a_users_mistake(max_length):
    with pytest.raises(UserError, match="--max_seq_length"):
        encode_pairs(LetterTokenizer(), ["a"], None, max_length)


def test_ranges_concatenates_runs():
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_collate_pads_to_the_longest_row_of_the_batch():
    store = encode_pairs(LetterTokenizer(), ["ab", "a", "abcdefg"], ["c", "", "abc"], 20)
    batch = store.collate(np.array([1, 0]))
    assert batch["input_ids"].tolist() == [[CLS, 10, SEP, 0, 0, 0], [CLS, 10, 11, SEP, 12, SEP]]
    assert batch["token_type_ids"].tolist() == [[0] * 6, [0, 0, 0, 0, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize("pad_to, pad_id", [(None, 0), (32, 7)])
def test_collate_equals_a_loop_over_the_rows(pad_to, pad_id):
    store = random_store()
    rows = np.random.default_rng(1).permutation(len(store))[:17]
    batch = store.collate(rows, pad_to=pad_to, pad_id=pad_id)
    width = pad_to or max(store.lengths[rows])
    for place, row in enumerate(rows):
        tokens = store.tokens[store.offsets[row] : store.offsets[row + 1]].tolist()
        rest = width - len(tokens)
        second = len(tokens) - int(store.boundaries[row])
        assert batch["input_ids"][place].tolist() == tokens + [pad_id] * rest
        assert batch["attention_mask"][place].tolist() == [1] * len(tokens) + [0] * rest
        expected = [0] * (len(tokens) - second) + [1] * second + [0] * rest
        assert batch["token_type_ids"][place].tolist() == expected


def test_collate_refuses_rows_longer_than_asked_for():
    with pytest.raises(ValueError, match="does not fit"):
        random_store().collate(np.arange(50), pad_to=5)


@pytest.mark.parametrize("mmap", [True, False])
def test_store_comes_back_from_disk_unchanged(tmp_path, mmap):
    store = random_store()
    store.save(tmp_path / "deep" / "epoch_0")
    again = TokenStore.open(tmp_path / "deep" / "epoch_0", mmap=mmap)
    assert_equal_stores(again, store)
    assert isinstance(again.tokens, np.memmap) == mmap
    assert again.collate(np.array([3]))["input_ids"].tolist() == [rows_of(store)[3]]


def test_empty_store_comes_back_from_disk(tmp_path):
    encode_pairs(LetterTokenizer(), [], None, 8).save(tmp_path / "empty")
    assert len(TokenStore.open(tmp_path / "empty")) == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=4))
def test_writing_in_chunks_equals_writing_at_once(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("chunks")
    store = random_store()
    store.save(folder / "whole")
    edges = [0, *sorted(cuts), len(store)]
    with TokenStoreWriter(folder / "chunks", np.uint16) as writer:
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            tokens = store.tokens[store.offsets[begin] : store.offsets[end]]
            writer.append(tokens, store.lengths[begin:end], store.boundaries[begin:end])
    for name in ("tokens", "offsets", "boundaries"):
        whole, chunks = (folder / f"{which}.{name}.npy" for which in ("whole", "chunks"))
        assert whole.read_bytes() == chunks.read_bytes()


def test_failed_writer_leaves_the_folder_as_it_was(tmp_path):
    store = random_store()
    store.save(tmp_path / "kept")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(RuntimeError), TokenStoreWriter(tmp_path / "kept", np.uint16) as writer:
        writer.append(np.arange(4), np.array([4]), np.array([2]))
        raise RuntimeError
    assert sorted(os.listdir(tmp_path)) == before
    assert_equal_stores(TokenStore.open(tmp_path / "kept"), store)


def test_writer_refuses_arrays_that_disagree(tmp_path):
    with pytest.raises(ValueError), TokenStoreWriter(tmp_path / "x", np.uint16) as writer:
        writer.append(np.arange(5), np.array([4]), np.array([2]))
    assert not list(tmp_path.iterdir())


def test_writer_refuses_a_sequence_that_boundaries_cannot_describe(tmp_path):
    with pytest.raises(ValueError, match="65535"), TokenStoreWriter(tmp_path / "x", np.uint16) as w:
        w.append(np.zeros(70_000), np.array([70_000]), np.array([2]))


def test_missing_store_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        TokenStore.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["tokens", "offsets", "boundaries"])
@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("keep", [0, 5, 100, -2])
def test_torn_file_is_named(tmp_path, name, mmap, keep):
    random_store().save(tmp_path / "s")
    path = tmp_path / f"s.{name}.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"s.{name}.npy"):
        TokenStore.open(tmp_path / "s", mmap=mmap)


def test_files_of_two_runs_are_refused(tmp_path):
    random_store(50).save(tmp_path / "s")
    random_store(40).save(tmp_path / "other")
    (tmp_path / "other.offsets.npy").rename(tmp_path / "s.offsets.npy")
    with pytest.raises(UserError, match="does not belong"):
        TokenStore.open(tmp_path / "s")


def test_pickles_are_refused(tmp_path):
    random_store().save(tmp_path / "s")
    np.save(tmp_path / "s.tokens.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="s.tokens.npy"):
        TokenStore.open(tmp_path / "s", mmap=False)
