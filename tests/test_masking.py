"""Masking on the fly: the right share of the right places, the same whatever stands in the batch beside."""

import numpy as np
import pytest
import torch

from corpus.masking import MaskedBatches
from corpus.token_store import TokenStore
from transformer.tokenization import BertTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_vocab):
    return BertTokenizer(tiny_vocab)


def make_store(tokenizer, lengths, seed=0):
    """Rows [CLS] a [SEP] b [SEP] of the given total lengths (at least 5)."""
    generator = np.random.default_rng(seed)
    rows, boundaries = [], []
    for length in lengths:
        row = generator.integers(5, len(tokenizer), length)
        row[0], row[-1], row[length // 2] = tokenizer.cls_id, tokenizer.sep_id, tokenizer.sep_id
        rows.append(row)
        boundaries.append(length // 2 + 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenStore(
        np.concatenate(rows).astype(np.uint16), offsets, np.array(boundaries, np.uint16)
    )


@pytest.fixture(scope="module")
def batches(tokenizer):
    lengths = np.random.default_rng(1).integers(5, 60, 600)
    return MaskedBatches([make_store(tokenizer, lengths)], 32, seed=7, tokenizer=tokenizer)


def masks_of(batch, i):
    """Column -> (shown, hidden) of one row of a batch."""
    here = batch["masked_rows"] == i
    columns = batch["masked_columns"][here].tolist()
    labels = batch["masked_labels"][here].tolist()
    shown = batch["input_ids"][i, columns].tolist()
    return dict(zip(columns, zip(shown, labels, strict=True), strict=True))


def whole(batches, epoch=0, width=60):
    rows = np.arange(len(batches.store(epoch)))
    return batches.collate(epoch, rows, width), batches.store(epoch).collate(rows, width)


def test_labels_are_what_stood_there_and_the_rest_is_untouched(batches):
    masked, plain = whole(batches)
    places = masked["masked_rows"], masked["masked_columns"]
    assert torch.equal(plain["input_ids"][places], masked["masked_labels"])
    restored = masked["input_ids"].clone()
    restored[places] = masked["masked_labels"]
    assert torch.equal(restored, plain["input_ids"])
    for name in ("token_type_ids", "attention_mask"):
        assert torch.equal(masked[name], plain[name])


def test_fifteen_percent_are_chosen_and_shown_80_10_10(batches, tokenizer):
    chosen = hidden = kept = free = 0
    for epoch in range(5):
        masked, plain = whole(batches, epoch)
        shown = masked["input_ids"][masked["masked_rows"], masked["masked_columns"]]
        chosen += len(shown)
        hidden += int((shown == tokenizer.mask_id).sum())
        kept += int((shown == masked["masked_labels"]).sum())
        free += int(plain["attention_mask"].sum()) - 3 * len(plain["input_ids"])
    assert chosen / free == pytest.approx(0.15, abs=0.01)
    assert hidden / chosen == pytest.approx(0.8, abs=0.02)
    assert kept / chosen == pytest.approx(0.1, abs=0.02)


def test_random_tokens_come_from_the_whole_vocabulary(batches, tokenizer):
    seen = set()
    for epoch in range(8):
        masked, _ = whole(batches, epoch)
        shown = masked["input_ids"][masked["masked_rows"], masked["masked_columns"]]
        other = (shown != tokenizer.mask_id) & (shown != masked["masked_labels"])
        seen.update(shown[other].tolist())
    assert min(seen) >= 0 and max(seen) < len(tokenizer)
    assert len(seen) > 0.9 * len(tokenizer)


def test_special_tokens_and_padding_are_never_chosen(batches, tokenizer):
    for epoch in range(3):
        masked, plain = whole(batches, epoch)
        assert not set(masked["masked_labels"].tolist()) & {tokenizer.cls_id, tokenizer.sep_id}
        assert plain["attention_mask"][masked["masked_rows"], masked["masked_columns"]].all()


def test_every_row_has_something_to_learn(tokenizer):
    short = MaskedBatches([make_store(tokenizer, [5] * 200)], 32, seed=7, tokenizer=tokenizer)
    masked, _ = whole(short, width=5)
    assert set(masked["masked_rows"].tolist()) == set(range(200))


def test_a_row_without_words_is_left_alone(tokenizer):
    tokens = np.array([tokenizer.cls_id, tokenizer.sep_id], np.uint16)
    store = TokenStore(tokens, np.array([0, 2]), np.array([2], np.uint16))
    batch = MaskedBatches([store], 1, seed=7, tokenizer=tokenizer).collate(0, np.array([0]), 4)
    assert batch["input_ids"].tolist() == [[tokenizer.cls_id, tokenizer.sep_id, 0, 0]]
    assert batch["masked_labels"].shape == (0,)


def test_masks_do_not_depend_on_the_rest_of_the_batch(batches):
    together, _ = whole(batches, width=60)
    lengths = batches.store(0).lengths
    for row in range(0, 600, 23):
        alone = batches.collate(0, np.array([row]), int(lengths[row]))
        assert masks_of(alone, 0) == masks_of(together, row)


def test_masks_change_with_epoch_and_seed_but_not_from_call_to_call(batches, tokenizer):
    first, _ = whole(batches)
    again, _ = whole(batches)
    assert torch.equal(first["input_ids"], again["input_ids"])
    other_seed = MaskedBatches(batches.stores, 32, seed=8, tokenizer=tokenizer)
    for other in (whole(batches, epoch=1)[0], whole(other_seed)[0]):
        assert not torch.equal(first["input_ids"], other["input_ids"])
