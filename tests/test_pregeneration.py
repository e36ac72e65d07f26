"""Sentence pairs: what holds for any corpus, and what holds on average."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.documents import Documents, tokenize_corpus
from corpus.sentence_pairs import Examples, PairRecipe, make_examples, plan_pairs
from files.errors import UserError
from transformer.tokenization import BertTokenizer

CLS, SEP, MASK, PLACEHOLDER, FIRST = 1, 2, 3, 4, 10
RECIPE = PairRecipe(
    max_seq_len=16,
    short_seq_prob=0.1,
    one_seq=False,
    seed=42,
    cls_id=CLS,
    sep_id=SEP,
    mask_id=MASK,
    vocab_size=60_000,
)
# documents as the lengths of their sentences
CORPORA = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=2, max_size=8)


def make_documents(folder: str | Path, corpus: list[list[int]], blocks: tuple[int, ...]):
    """A corpus whose every token tells its place: token i is FIRST + i."""
    lengths = [length for document in corpus for length in document]
    tokens = np.append(np.arange(sum(lengths)) + FIRST, PLACEHOLDER).astype(np.uint16)
    tokens.tofile(Path(folder) / "tokens")
    np.cumsum([0, *lengths]).tofile(Path(folder) / "sentences")
    np.cumsum([0, *map(len, corpus)]).tofile(Path(folder) / "documents")
    return Documents(Path(folder), tokens.dtype, len(corpus), len(lengths), sum(lengths), blocks)


def examples_of(corpus, recipe=RECIPE, epoch=0, blocks=None) -> list[Examples]:
    blocks = blocks or (0, len(corpus))
    with TemporaryDirectory() as folder:
        documents = make_documents(folder, corpus, blocks)
        return [make_examples(documents, recipe, epoch, i) for i in range(len(blocks) - 1)]


def rows_of(examples: Examples):
    """(tokens, boundary, is_random_next) of each sequence."""
    rows = np.split(examples.tokens, np.cumsum(examples.lengths)[:-1])
    return list(zip(rows, examples.boundaries, examples.is_random_next, strict=True))


def document_of(corpus, token: int) -> int:
    ends = np.cumsum([sum(document) for document in corpus])
    return int(np.searchsorted(ends, token - FIRST, side="right"))


@settings(max_examples=60, deadline=None)
@given(CORPORA, st.integers(5, 40), st.floats(0, 1), st.booleans(), st.integers(0, 2**70))
def test_every_sequence_is_a_pair_of_runs_of_text(corpus, max_seq_len, short, one_seq, seed):
    recipe = replace(
        RECIPE, max_seq_len=max_seq_len, short_seq_prob=short, one_seq=one_seq, seed=seed
    )
    (examples,) = examples_of(corpus, recipe)
    assert examples.masks is None
    for tokens, boundary, is_random in rows_of(examples):
        assert len(tokens) <= max_seq_len
        assert tokens[0] == CLS and tokens[boundary - 1] == SEP and tokens[-1] == SEP
        first, second = tokens[1 : boundary - 1], tokens[boundary:-1]
        assert len(first) >= 1 and len(second) >= 1
        assert (np.diff(first.astype(int)) == 1).all() and (first >= FIRST).all()
        if one_seq and second[0] == PLACEHOLDER:
            assert len(second) == 1 and not is_random
            continue
        assert (np.diff(second.astype(int)) == 1).all() and (second >= FIRST).all()
        documents = [document_of(corpus, text[i]) for text in (first, second) for i in (0, -1)]
        assert documents[0] == documents[1] and documents[2] == documents[3]
        if is_random:
            assert not one_seq and documents[0] != documents[2]
        else:
            assert documents[0] == documents[2] and first[-1] < second[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.booleans(), st.randoms())
def test_every_sentence_is_used_in_order_and_what_a_random_text_replaced_is_put_back(
    lengths, one_seq, random
):
    ends = np.cumsum([100, *lengths]).tolist()
    documents = Documents(Path(), np.dtype(np.uint16), 2, len(lengths) + 5, 10_000, (0, 2))
    draws = iter(random.random, None)
    place = ends[0]
    for a_begin, a_length, b_begin, b_length, other, room in plan_pairs(
        ends, 3, documents, replace(RECIPE, one_seq=one_seq), draws
    ):
        assert a_begin == place and a_length > 0 and a_begin in ends
        place += a_length
        if other >= 0:
            assert 0 <= other < documents.num_sentences
            assert not 3 <= other < 3 + len(lengths)
            assert room <= RECIPE.max_seq_len - 3 - a_length
        elif b_begin == documents.num_tokens:
            assert one_seq and b_length == 1
        else:
            assert b_begin == place and b_length > 0
            place += b_length
        assert place in ends
    assert place == ends[-1]


@settings(max_examples=30, deadline=None)
@given(CORPORA, st.data())
def test_examples_do_not_depend_on_how_the_work_is_cut(corpus, data):
    recipe = replace(RECIPE, masked_lm_prob=0.3)
    cuts = data.draw(st.sets(st.integers(1, len(corpus) - 1)))
    (whole,) = examples_of(corpus, recipe)
    parts = examples_of(corpus, recipe, blocks=(0, *sorted(cuts), len(corpus)))
    for name in ("tokens", "lengths", "boundaries", "is_random_next"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(together, getattr(whole, name))
    for name in ("positions", "labels"):
        together = np.concatenate([getattr(part.masks, name) for part in parts])
        assert np.array_equal(together, getattr(whole.masks, name))


@settings(max_examples=60, deadline=None)
@given(CORPORA, st.floats(0.01, 1), st.integers(1, 20), st.booleans())
def test_masking_hides_as_many_tokens_as_asked_and_labels_restore_them(
    corpus, probability, most, whole_words
):
    continuation = np.arange(RECIPE.vocab_size) % 3 == 0
    plain = replace(RECIPE, max_seq_len=40)
    recipe = replace(
        plain,
        masked_lm_prob=probability,
        max_predictions_per_seq=most,
        continuation=continuation if whole_words else None,
    )
    (original,) = examples_of(corpus, plain)
    (masked,) = examples_of(corpus, recipe)
    positions, labels, offsets = masked.masks
    assert np.array_equal(original.lengths, masked.lengths)
    for row, ((before, boundary, _), (after, _, _)) in enumerate(
        zip(rows_of(original), rows_of(masked), strict=True)
    ):
        places = positions[offsets[row] : offsets[row + 1]].astype(int)
        assert (np.diff(places) > 0).all()
        assert not set(places) & {0, boundary - 1, len(before) - 1}
        restored = after.copy()
        restored[places] = labels[offsets[row] : offsets[row + 1]]
        assert np.array_equal(restored, before)
        wanted = min(most, max(1, round(len(before) * probability)))
        ordinary = len(before) - 3
        if not whole_words:
            assert len(places) == min(wanted, ordinary)
            continue
        assert len(places) <= wanted
        chosen = set(places)
        for place, following in pairwise(range(1, len(before) - 1)):
            same_text = boundary - 1 not in (place, following)
            if same_text and continuation[before[following]]:
                assert (place in chosen) == (following in chosen)


def test_masks_are_eight_in_ten_the_mask_token_and_one_in_ten_another_token():
    corpus = [[9, 11, 7, 12] * 10] * 60
    recipe = replace(RECIPE, max_seq_len=64, masked_lm_prob=0.15)
    (examples,) = examples_of(corpus, recipe)
    row = np.repeat(np.arange(len(examples.lengths)), np.diff(examples.masks.offsets))
    begins = np.cumsum(examples.lengths) - examples.lengths
    now = examples.tokens[begins[row] + examples.masks.positions]
    assert len(now) > 3000
    assert np.mean(now == MASK) == pytest.approx(0.8, abs=0.03)
    assert np.mean(now == examples.masks.labels) == pytest.approx(0.1, abs=0.02)


def test_half_the_long_chunks_get_a_random_second_text_and_documents_weigh_by_sentences():
    corpus = [[4] * 400, [4] * 300, [4] * 100]
    recipe = replace(RECIPE, max_seq_len=67, short_seq_prob=0.0)
    random, chosen = [], []
    for epoch in range(40):
        (examples,) = examples_of(corpus, recipe, epoch)
        for tokens, boundary, is_random in rows_of(examples):
            if document_of(corpus, tokens[1]) == 0:
                random.append(is_random)
                if is_random:
                    chosen.append(document_of(corpus, tokens[boundary]))
    assert np.mean(random) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(chosen) == 1) == pytest.approx(0.75, abs=0.05)


def test_a_tenth_of_the_documents_is_cut_shorter():
    corpus = [[1] * 150] * 400
    recipe = replace(RECIPE, max_seq_len=103, one_seq=True)
    (examples,) = examples_of(corpus, recipe)
    of_document = np.array([document_of(corpus, row[0][1]) for row in rows_of(examples)])
    longest = [examples.lengths[of_document == i].max() for i in range(len(corpus))]
    assert np.mean(np.array(longest) < 103) == pytest.approx(0.1, abs=0.05)


def test_long_texts_lose_tokens_from_the_front_and_from_the_back():
    corpus = [[100], [100]]
    front = back = 0
    for epoch in range(20):
        (examples,) = examples_of(corpus, epoch=epoch)
        for tokens, boundary, _ in rows_of(examples):
            assert len(tokens) == RECIPE.max_seq_len
            front += (tokens[1] - FIRST) % 100
            back += 99 - (tokens[boundary - 2] - FIRST) % 100
    assert front / (front + back) == pytest.approx(0.5, abs=0.05)


def test_epochs_and_seeds_differ_and_repeat():
    corpus = [[5, 6, 7] * 5] * 4
    tokens = {
        (seed, epoch): examples_of(corpus, replace(RECIPE, seed=seed), epoch)[0].tokens.tobytes()
        for seed in (1, 2, -1)
        for epoch in (0, 1)
    }
    assert len(set(tokens.values())) == 6
    assert tokens[1, 1] == examples_of(corpus, replace(RECIPE, seed=1), 1)[0].tokens.tobytes()


@pytest.fixture
def tokenizer(tmp_path) -> BertTokenizer:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "b", "c", "##d", "中"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return BertTokenizer(tmp_path / "vocab.txt")


def test_a_corpus_becomes_flat_arrays_without_empty_sentences_or_documents(tokenizer, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes("\ufeff\n\na b.\r\n\u200b\nAD\n  \n\n\u200b\n\n中中 c".encode())
    folder = tmp_path / "flat"
    folder.mkdir()
    seen = []
    documents = tokenize_corpus(corpus, tokenizer, folder, seen.append)
    assert (documents.num_documents, documents.num_sentences, documents.num_tokens) == (2, 3, 8)
    assert documents.read("tokens").tolist() == [6, 7, 5, 6, 9, 10, 10, 8, 5]
    assert documents.read("sentences").tolist() == [0, 3, 5, 8]
    assert documents.read("documents").tolist() == [0, 2, 3]
    assert documents.blocks == (0, 2)
    assert sum(seen) == corpus.stat().st_size


def test_a_corpus_is_read_the_same_whatever_the_size_of_the_reads(tokenizer, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(["a", "b", "cd", "中"], rng.integers(0, 9))) for _ in range(300)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(lines), encoding="utf-8")
    found = []
    for size in (7, 64, 1 << 20):
        monkeypatch.setattr("corpus.documents._READ_BYTES", size)
        monkeypatch.setattr("corpus.documents.BLOCK_TOKENS", 100)
        folder = tmp_path / str(size)
        folder.mkdir()
        documents = tokenize_corpus(corpus, tokenizer, folder)
        assert documents.blocks[-1] == documents.num_documents and len(documents.blocks) > 5
        found.append([documents.read(n).tolist() for n in ("tokens", "sentences", "documents")])
        found[-1].append(documents.blocks)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b"\n \n\n", "holds no text"),
        (b"a\nb\n\xff\xfe c\n", r"corpus\.txt:3: is not UTF-8"),
    ],
)
def test_a_bad_corpus_is_named_with_its_line(tokenizer, tmp_path, content, message):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(content)
    (tmp_path / "flat").mkdir()
    with pytest.raises(UserError, match=message):
        tokenize_corpus(corpus, tokenizer, tmp_path / "flat")


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from corpus.documents import Documents
from corpus.sentence_pairs import PairRecipe, make_examples

sentences = int(sys.argv[2])
blocks = tuple(range(0, sentences // 25 + 1, 500))
documents = Documents(
    Path(sys.argv[1]), np.dtype("uint16"), sentences // 25, sentences, sentences * 20, blocks
)
recipe = PairRecipe(128, 0.1, False, 42, 2, 3, 4, 11)
for block in range(3):
    make_examples(documents, recipe, 0, block)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's account of memory"
)
def test_pairs_of_a_large_corpus_take_no_more_memory_than_those_of_a_small_one(tmp_path):
    """Arrays of 5 MB and of 480 MB: random second texts are read from all over them."""
    peaks = []
    for sentences in (100_000, 10_000_000):
        (np.arange(sentences + 1) * 20).tofile(tmp_path / "sentences")
        (np.arange(sentences // 25 + 1) * 25).tofile(tmp_path / "documents")
        with open(tmp_path / "tokens", "wb") as tokens:
            tokens.truncate(2 * (sentences * 20 + 1))
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, tmp_path, str(sentences)],
            cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(run.stdout) / 1024)
    assert peaks[1] < peaks[0] + 30
