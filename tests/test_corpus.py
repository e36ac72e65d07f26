"""Pregenerated data on disk: both formats, and what is refused."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from hashlib import sha256

import numpy as np
import pytest

from corpus.epoch_writing import remove_epochs, write_epoch, write_json_epoch
from corpus.epochs import (
    available_epochs,
    check_corpus,
    corpus_facts,
    open_epoch,
    start_check,
)
from corpus.masking import MaskedBatches
from corpus.sentence_pairs import Examples, Masks
from files.errors import UserError
from transformer.tokenization import BertTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##d"]
# [CLS] a [SEP] b c [SEP] and [CLS] [MASK] ##d [SEP] [MASK] [SEP]
MASKED = Examples(
    tokens=np.array([2, 5, 3, 6, 7, 3, 2, 4, 8, 3, 4, 3], np.uint16),
    lengths=np.array([6, 6]),
    boundaries=np.array([3, 4]),
    is_random_next=np.array([0, 1], np.uint8),
    masks=Masks(np.array([1, 4]), np.array([5, 6], np.uint16), np.array([0, 0, 2])),
)
PUBLISHED = {
    "tokens": ["[CLS]", "a", "[SEP]", "b", "##d", "[SEP]"],
    "segment_ids": [0, 0, 0, 1, 1, 1],
    "is_random_next": True,
    "masked_lm_positions": [3],
    "masked_lm_labels": ["c"],
}


@pytest.fixture
def tokenizer(tmp_path) -> BertTokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    return BertTokenizer(tmp_path / "vocab.txt")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write_flat(folder, tokenizer, epoch=0, parts=(MASKED,), masked=True) -> dict:
    facts = {
        "max_seq_len": 6,
        "vocab_hash": tokenizer.vocab_hash,
        "vocab_size": len(tokenizer),
    }
    return write_epoch(folder, epoch, parts, np.dtype(np.uint16), masked, facts)


def write_published(folder, lines, count=None, **changes):
    text = "".join(json.dumps(line) + "\n" if isinstance(line, dict) else line for line in lines)
    (folder / "epoch_0.json").write_text(text)
    metrics = {"num_training_examples": len(lines) if count is None else count, "max_seq_len": 6}
    (folder / "epoch_0_metrics.json").write_text(json.dumps(metrics | changes))


def equal(one, other) -> bool:
    pairs = [
        (one.store.tokens, other.store.tokens),
        (one.store.offsets, other.store.offsets),
        (one.store.boundaries, other.store.boundaries),
        (one.is_random_next, other.is_random_next),
        *zip(one.masked or (), other.masked or (), strict=True),
    ]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_what_is_written_as_tokens_is_read_back(folder, tokenizer):
    metrics = write_flat(folder, tokenizer, parts=(MASKED, MASKED))
    assert metrics["num_training_examples"] == 4 and metrics["complete"]
    epoch = open_epoch(folder, 0, tokenizer)
    assert epoch.max_seq_len == 6 and epoch.vocab_hash == tokenizer.vocab_hash
    assert epoch.store.tokens.tolist() == MASKED.tokens.tolist() * 2
    assert epoch.store.boundaries.tolist() == [3, 4, 3, 4]
    assert epoch.is_random_next.tolist() == [0, 1, 0, 1]
    assert epoch.masked.offsets.tolist() == [0, 0, 2, 2, 4]
    assert epoch.masked.positions.tolist() == [1, 4, 1, 4]
    assert epoch.masked.labels.tolist() == [5, 6, 5, 6]
    assert isinstance(epoch.store.tokens, np.memmap)


def test_the_checksum_is_that_of_the_tokens_however_they_were_cut(folder, tokenizer):
    written = write_flat(folder, tokenizer, parts=(MASKED, MASKED))
    epoch = open_epoch(folder, 0, tokenizer)
    assert epoch.sha256 == written["sha256"] == sha256(epoch.store.tokens.tobytes()).hexdigest()
    facts = corpus_facts(folder, [epoch])
    assert facts == {"path": str(folder), "rows": [4], "sha256": [epoch.sha256]}


def test_without_masking_there_are_no_masks_on_disk(folder, tokenizer):
    write_flat(folder, tokenizer, parts=(MASKED._replace(masks=None),), masked=False)
    assert open_epoch(folder, 0, tokenizer).masked is None
    assert not [name for name in os.listdir(folder) if "masked" in name]


def test_both_formats_hold_the_same_examples(folder, tmp_path, tokenizer):
    write_flat(folder, tokenizer)
    published = tmp_path / "published"
    published.mkdir()
    write_json_epoch(published, 0, [MASKED], tokenizer.ids_to_tokens, 6)
    lines = (published / "epoch_0.json").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "tokens": ["[CLS]", "[MASK]", "##d", "[SEP]", "[MASK]", "[SEP]"],
        "segment_ids": [0, 0, 0, 0, 1, 1],
        "is_random_next": True,
        "masked_lm_positions": [1, 4],
        "masked_lm_labels": ["a", "b"],
    }
    assert equal(open_epoch(folder, 0, tokenizer), open_epoch(published, 0, tokenizer))


def test_files_of_the_published_scripts_are_read(folder, tokenizer):
    write_published(folder, [PUBLISHED | {"masked_lm_positions": [], "masked_lm_labels": []}])
    epoch = open_epoch(folder, 0, tokenizer)
    assert epoch.store.tokens.tolist() == [2, 5, 3, 6, 8, 3]
    assert epoch.store.boundaries.tolist() == [3] and epoch.is_random_next.tolist() == [1]
    assert epoch.masked is None


def test_the_published_format_is_converted_once_and_again_when_it_changed(
    folder, tokenizer, capsys
):
    write_published(folder, [PUBLISHED])
    open_epoch(folder, 0, tokenizer)
    assert "once" in capsys.readouterr().err
    open_epoch(folder, 0, tokenizer)
    assert capsys.readouterr().err == ""
    write_published(folder, [PUBLISHED, PUBLISHED])
    assert len(open_epoch(folder, 0, tokenizer).store) == 2


def test_the_published_format_is_converted_elsewhere_in_a_folder_without_a_place(folder, tokenizer):
    write_published(folder, [PUBLISHED])
    (folder / ".flat").write_text("in the way")
    assert open_epoch(folder, 0, tokenizer).masked.labels.tolist() == [7]
    assert (folder / ".flat").read_text() == "in the way"


def test_epochs_count_when_finished(folder, tokenizer):
    with pytest.raises(UserError, match="no finished epoch"):
        available_epochs(folder)
    for epoch in (0, 1, 3):
        write_flat(folder, tokenizer, epoch)
    assert available_epochs(folder) == 2
    with pytest.raises(UserError, match="epoch 2 is missing"):
        open_epoch(folder, 2, tokenizer)


def test_an_epoch_that_fails_leaves_nothing(folder, tokenizer):
    def parts():
        yield MASKED
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_flat(folder, tokenizer, parts=parts())
    assert os.listdir(folder) == []


def test_only_epochs_are_removed(folder, tokenizer):
    write_flat(folder, tokenizer)
    write_published(folder, [PUBLISHED])
    open_epoch(folder, 0, tokenizer)
    (folder / "epoch_notes.txt").touch()
    remove_epochs(folder)
    assert os.listdir(folder) == ["epoch_notes.txt"]


@pytest.mark.parametrize("published", [False, True])
def test_data_of_another_vocabulary_is_refused(folder, tmp_path, tokenizer, published):
    if published:
        write_published(folder, [PUBLISHED])
    else:
        write_flat(folder, tokenizer)
    (tmp_path / "other.txt").write_text("\n".join([*TOKENS[:-1], "##e"]))
    with pytest.raises(UserError, match="vocabulary"):
        open_epoch(folder, 0, BertTokenizer(tmp_path / "other.txt"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "expected a JSON object"),
        ({}, "expected a JSON object"),
        (PUBLISHED | {"tokens": ["[CLS]"]}, "do not fit each other"),
        (PUBLISHED | {"masked_lm_positions": [6]}, "do not fit each other"),
        (PUBLISHED | {"masked_lm_positions": ["1"]}, "do not fit each other"),
        (PUBLISHED | {"masked_lm_labels": []}, "do not fit each other"),
        (PUBLISHED | {"tokens": ["[CLS]", "x", "[SEP]", "b", "c", "[SEP]"]}, "'x' is not in"),
        (PUBLISHED | {"tokens": [[], {}, 1, 2, 3, 4]}, "is not in"),
    ],
)
def test_a_bad_line_is_named(folder, tokenizer, line, message):
    write_published(folder, [PUBLISHED, line])
    with pytest.raises(UserError, match=rf"epoch_0\.json:2: .*{message}"):
        open_epoch(folder, 0, tokenizer)
    assert not (folder / ".flat" / "epoch_0_metrics.json").exists()


@pytest.mark.parametrize("metrics", ["", "{", "[1]", "{}", '{"num_training_examples": true}'])
def test_bad_metrics_are_named(folder, tokenizer, metrics):
    (folder / "epoch_0_metrics.json").write_text(metrics)
    with pytest.raises(UserError, match="epoch_0_metrics.json: expected"):
        open_epoch(folder, 0, tokenizer)


def test_torn_data_is_refused(folder, tokenizer):
    write_published(folder, [PUBLISHED], count=2)
    with pytest.raises(UserError, match="holds 1 examples"):
        open_epoch(folder, 0, tokenizer)
    (folder / "epoch_0.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        open_epoch(folder, 0, tokenizer)
    remove_epochs(folder)
    write_flat(folder, tokenizer)
    path = folder / "epoch_0.is_random_next.npy"
    whole = path.read_bytes()
    for torn in (b"", whole[:50], whole[:-1]):
        path.write_bytes(torn)
        with pytest.raises(UserError, match="torn"):
            open_epoch(folder, 0, tokenizer)
    np.save(path, np.zeros(1, np.uint8))
    with pytest.raises(UserError, match="do not belong together"):
        open_epoch(folder, 0, tokenizer)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        open_epoch(folder, 0, tokenizer)


def test_a_changed_token_is_found_by_its_checksum(folder, tokenizer):
    write_flat(folder, tokenizer)
    check_corpus(folder, [open_epoch(folder, 0, tokenizer)])
    path = folder / "epoch_0.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="epoch_0.tokens.npy: has changed since it was written"):
        check_corpus(folder, [open_epoch(folder, 0, tokenizer)])


def test_a_token_that_is_none_is_named_by_the_first_batch_that_meets_it(folder, tokenizer):
    write_flat(folder, tokenizer)
    path = folder / "epoch_0.tokens.npy"
    tokens = np.load(path)
    tokens[-2] = len(tokenizer)
    np.save(path, tokens)
    store = open_epoch(folder, 0, tokenizer).store
    last = len(store) - 1
    store.collate(np.arange(last))
    with pytest.raises(
        UserError,
        match=rf"epoch_0\.tokens\.npy: sequence {last} holds the id {len(tokenizer)}, the vocabulary",
    ):
        store.collate(np.arange(len(store))[::-1])


def test_a_large_corpus_is_checked_beside_what_follows(folder, tokenizer, monkeypatch):
    write_flat(folder, tokenizer)
    epochs = [open_epoch(folder, 0, tokenizer)]
    start_check(folder, epochs)()  # whole: nothing to say
    path = folder / "epoch_0.tokens.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged = [open_epoch(folder, 0, tokenizer)]
    with pytest.raises(UserError, match="has changed since it was written"):
        start_check(folder, damaged)  # a small one is known before any step

    go = threading.Event()

    def slow_check(*given):
        go.wait(30)
        check_corpus(*given)

    monkeypatch.setattr("corpus.epochs.check_corpus", slow_check)
    checked = start_check(folder, damaged)
    go.set()
    with pytest.raises(UserError, match="has changed since it was written"):
        checked()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("offsets", [0, 20, 12]),  # a sequence longer than max_seq_len
        ("offsets", [0, 12, 12]),  # one without tokens
        ("offsets", [0, -6, 12]),
        ("masked_offsets", [[0, 0, 2]]),
        ("is_random_next", [0.0, 1.0]),
    ],
)
def test_arrays_that_a_batch_would_trip_over_are_refused_at_the_door(
    folder, tokenizer, name, change
):
    write_flat(folder, tokenizer)
    np.save(folder / f"epoch_0.{name}.npy", np.array(change))
    with pytest.raises(UserError, match="epoch_0.* again"):
        open_epoch(folder, 0, tokenizer)


def test_an_id_beyond_the_vocabulary_is_found_though_the_checksum_is_right(folder, tokenizer):
    tokens = MASKED.tokens.copy()
    tokens[8] = len(TOKENS)
    write_flat(folder, tokenizer, parts=(MASKED._replace(tokens=tokens),))
    with pytest.raises(UserError, match=r"epoch_0\.tokens\.npy: holds the id 9, .* 9 tokens"):
        check_corpus(folder, [open_epoch(folder, 0, tokenizer)])


@pytest.mark.parametrize("damage", [b"\0", b"(((", b"\n'''", b"{'descr': '|O'"], ids=repr)
def test_a_torn_header_is_named_whatever_numpy_makes_of_it(folder, tokenizer, damage):
    write_flat(folder, tokenizer)
    for name in ("boundaries", "is_random_next"):
        path = folder / f"epoch_0.{name}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:12] + damage + whole[12 + len(damage) :])
        with pytest.raises(UserError, match=rf"{name}\.npy: not a complete .npy array"):
            open_epoch(folder, 0, tokenizer)
        path.write_bytes(whole)


@pytest.mark.parametrize("offsets", [[0, 20, 30], [0, 12, 12], [0, -6, 12]])
def test_the_rows_of_a_large_epoch_are_looked_at_by_the_check_alone(
    folder, tokenizer, monkeypatch, offsets
):
    """A run begins without reading them; what a small store is refused for at the door is found there."""
    for place in ("epochs", "token_store"):
        monkeypatch.setattr(f"corpus.{place}.LARGE", 1)
    tokens = np.full(offsets[-1], 5, MASKED.tokens.dtype)
    write_flat(folder, tokenizer)
    np.save(folder / "epoch_0.offsets.npy", np.array(offsets))
    np.save(folder / "epoch_0.tokens.npy", tokens)
    epoch = open_epoch(folder, 0, tokenizer)
    with pytest.raises(UserError, match="epoch_0.*belong.* again"):
        check_corpus(folder, [epoch])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("offsets", [0, 7, 12]),  # a sequence longer than max_seq_len
        ("offsets", [0, 12, 12]),
        ("offsets", [0, -6, 12]),
        ("offsets", [0, 2**62, 12]),
        ("offsets", [0, -(2**63), 12]),
        ("boundaries", [3, 7]),
    ],
)
def test_a_batch_that_meets_a_sequence_that_is_none_names_it(
    folder, tokenizer, monkeypatch, name, change
):
    """Whatever is asked of the batch first: in a large epoch the batches come before the check."""
    for module in ("epochs", "token_store", "batches"):
        monkeypatch.setattr(f"corpus.{module}.LARGE", 1)
    write_flat(folder, tokenizer)
    path = folder / f"epoch_0.{name}.npy"
    np.save(path, np.array(change, np.load(path).dtype))
    source = MaskedBatches([open_epoch(folder, 0, tokenizer).store], 2, 0, tokenizer=tokenizer)
    (rows,) = source.plan(0)
    for ask in (source.width, source.tokens, source.weights, partial(source.collate, width=6)):
        with pytest.raises(
            UserError, match=r"epoch_0\.offsets\.npy, .boundaries\.npy: sequence \d "
        ):
            ask(0, rows)


def test_an_epoch_without_examples_is_refused(folder, tokenizer):
    write_flat(folder, tokenizer, parts=())
    with pytest.raises(UserError, match="epoch_0_metrics.json: an epoch without examples"):
        open_epoch(folder, 0, tokenizer)
