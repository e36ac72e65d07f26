"""Augmentation: which words, candidates and variants, and that the fast way is the slow way."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from cli.augmentation import language_model
from tasks.augmentation import Augmenter, augmented_rows, draw_variants, survey
from tasks.likely_tokens import likely_tokens
from tasks.sentence_words import STOP_WORDS, SentenceSplitter, is_replaceable, replacement_tokens
from transformer.configuration import BertConfig
from transformer.modeling import BertForMaskedLM
from transformer.tokenization import BertTokenizer

WORDS = """the cat dog bird house tree river stone sees finds likes paints green old small bright
sleepy north south water fire song story night day man woman child king queen bread apple table
chair window door road hill field cloud rain snow wind sun moon star ship""".split()  # noqa: SIM905
TOKENS = ["##ing", "##ed", "##ly", "##er", "play", "walk", "wat", "##ch", ".", ",", "'"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
VOCAB = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]"]
POSITIONS = 40


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    vocab = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    tokens = [*VOCAB, *WORDS, *TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS), "\u2028"]
    vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return BertTokenizer(vocab)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
    )
    return BertForMaskedLM.from_scratch(config).eval()


@pytest.fixture(scope="module")
def splitter(tokenizer):
    return SentenceSplitter(tokenizer, POSITIONS)


def sentences(count, seed=0, longest=24):
    """Random sentences of known, unknown and cut words, stop words, marks and odd things."""
    generator = np.random.default_rng(seed)
    words = [*WORDS, "plays", "walking", "watched", "zebra", ".", ",", "it's", "3", "naïve", "Cat"]
    return [
        " ".join(generator.choice(words, size=generator.integers(1, longest))) for _ in range(count)
    ]


def slow_candidates(text, tokenizer, model, count, limit=POSITIONS):
    """The likely tokens of each word of one token: one pass a word, batch of one, full sort.

    Written from the description in the paper and the published behaviour; shares no code with the
    fast way but the tokenizer's `tokenize` and the model.
    """
    tokens = tokenizer.tokenize(text)
    groups = []  # positions, counted from [CLS], of the tokens of each word
    for position, token in enumerate(tokens, start=1):
        if token.startswith("##"):
            groups[-1].append(position)
        else:
            groups.append([position])
    result = {}
    for index, group in enumerate(groups):
        word = tokens[group[0] - 1]
        if len(group) > 1 or re.search("[^a-z]", word) or word in STOP_WORDS:
            continue
        if group[0] >= limit - 1:
            continue
        first = ["[CLS]", *tokens, "[SEP]"]
        first[group[0]] = "[MASK]"
        sequence = [*first, *tokens, "[SEP]"]
        if len(sequence) > limit:
            sequence = [*sequence[: limit - 1], "[SEP]"]
        segments = [0 if place < len(first) else 1 for place in range(len(sequence))]
        with torch.inference_mode():
            scores = model(
                torch.tensor([tokenizer.convert_tokens_to_ids(sequence)]), torch.tensor([segments])
            ).output[0, group[0]]
        ranked = [tokenizer.ids_to_tokens[i] for i in scores.argsort(descending=True).tolist()]
        whole = [p for p in ranked if not p.startswith("##") and p not in VOCAB[:7] and p.strip()]
        result[index] = set(whole[:count])
    return result


def fast_candidates(texts, tokenizer, model, count, batch_size, splitter, **options):
    predict = language_model(model, replacement_tokens(tokenizer), bf16=False)
    split = [splitter(text) for text in texts]
    found = likely_tokens(split, predict, tokenizer, count, batch_size, POSITIONS, **options)
    return [
        {
            index: {tokenizer.ids_to_tokens[token] for token in row}
            for (index, _), row in zip(sentence.masked, tokens.tolist(), strict=True)
        }
        for sentence, tokens in zip(split, found, strict=True)
    ]


def test_words_of_letters_that_are_no_stop_words_are_replaceable():
    assert all(is_replaceable(word) for word in ("cat", "Cat", "NASA"))
    assert not any(is_replaceable(w) for w in ("the", "The", "it's", "3", "b2", "", ".", "naïve"))


def test_the_stop_words_are_the_published_ones():
    assert len(STOP_WORDS) == 173
    assert {"wouldn't", "'s", "'re", "ain", "y", "i", "themselves"} <= STOP_WORDS


def test_a_sentence_is_split_as_the_tokenizer_does(tokenizer, splitter):
    for text in [
        *sentences(50),
        "",
        "  ",
        "[MASK] cat",
        "\u4e2d\u6587 cat",
        "e\u0301t\u00e9",
        "a##b",
    ]:
        sentence = splitter(text)
        tokens = tokenizer.tokenize(text)
        assert tokenizer.convert_ids_to_tokens(sentence.ids) == tokens
        assert all(tokens[position - 1] == sentence.words[i] for i, position in sentence.masked)


def test_words_of_one_token_are_masked_and_words_of_several_looked_up(splitter):
    sentence = splitter("The old cat plays it's 3 songs.")
    words = sentence.words
    assert [words[index] for index, _ in sentence.masked] == ["old", "cat"]
    assert [words[index] for index in sentence.compound] == ["plays", "songs"]


def test_neither_continuations_nor_special_tokens_may_replace_a_word(tokenizer):
    allowed = replacement_tokens(tokenizer)
    tokens = [token for token, ok in zip(tokenizer.ids_to_tokens, allowed, strict=True) if ok]
    assert tokens == ["[", "]", *WORDS, *(p for p in TOKENS if not p.startswith("##")), *LETTERS]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batched_candidates_equal_one_pass_a_word(tokenizer, model, splitter, batch_size):
    texts = sentences(30)
    fast = fast_candidates(texts, tokenizer, model, 5, batch_size, splitter)
    assert fast == [slow_candidates(text, tokenizer, model, 5) for text in texts]
    assert sum(map(len, fast)) > 100


def test_sentences_longer_than_the_model_are_cut_and_counted(tokenizer, model, splitter):
    texts = [" ".join(WORDS * 2), "cat " * (POSITIONS - 2), "cat " * (POSITIONS // 2), "bird"]
    split = [splitter(text) for text in texts]
    assert [sentence.beyond for sentence in split] == [2 * len(WORDS) - 1 - 38, 0, 0, 0]
    fast = fast_candidates(texts, tokenizer, model, 5, 16, splitter)
    assert fast == [slow_candidates(text, tokenizer, model, 5) for text in texts]


def test_places_too_close_to_call_are_computed_alone(tokenizer, splitter):
    """A model whose batches disturb the scores still gives what a batch of one gives."""
    exact = np.linspace(0, 1e-3, len(tokenizer))  # neighbours in rank 1e-5 apart

    def predict(ids, segments, mask, columns, count):
        noise = np.random.default_rng(len(ids)).normal(scale=2e-5, size=(len(ids), len(exact)))
        scores = exact + noise * (len(ids) > 1)
        best = np.argsort(-scores, axis=1)[:, :count]
        return np.take_along_axis(scores, best, axis=1), best

    split = [splitter(text) for text in sentences(10)]
    for size in (2, 5, 16):
        for rows in likely_tokens(split, predict, tokenizer, 4, size, POSITIONS):
            assert (rows == np.arange(len(exact) - 4, len(exact))).all()
    rough = likely_tokens(split, predict, tokenizer, 4, 16, POSITIONS, exact=False)
    assert any((rows != np.arange(len(exact) - 4, len(exact))).any() for rows in rough)


def test_a_vocabulary_smaller_than_M_gives_what_there_is(tokenizer, model, splitter):
    allowed = int(replacement_tokens(tokenizer).sum())
    (found,) = fast_candidates(["old cat"], tokenizer, model, allowed, 8, splitter)
    assert all(len(words) == allowed for words in found.values())


def augmenter(tokenizer, splitter, seen=None, seed=42, window=50, neighbours=None, draws=6):
    def likely(split):
        if seen is not None:
            seen.extend(" ".join(sentence.words) for sentence in split)
        cat, dog = tokenizer.convert_tokens_to_ids(["river", "stone"])
        return [
            np.array([[cat, dog]] * len(s.masked), dtype=np.int64).reshape(-1, 2) for s in split
        ]

    return Augmenter(
        splitter, tokenizer.ids_to_tokens, likely, neighbours or {}, draws, 0.4, seed, window
    )


def test_variants_do_not_depend_on_the_window_or_on_other_rows(tokenizer, splitter):
    a, b = sentences(40), sentences(40, seed=1)
    wide = list(augmenter(tokenizer, splitter, window=10_000).variants([a, b]))
    assert list(augmenter(tokenizer, splitter, window=1).variants([a, b])) == wide
    first = list(augmenter(tokenizer, splitter).variants([a[:10], b[:10]]))
    assert first == wide[:10]
    other = list(augmenter(tokenizer, splitter, seed=43).variants([a, b]))
    assert other != wide


def test_a_repeated_sentence_is_computed_once_and_varied_each_time(tokenizer, splitter):
    texts = sentences(20) * 3
    seen = []
    made = augmenter(tokenizer, splitter, seen, window=5)
    variants = list(made.variants([texts, texts[::-1]]))
    assert len(seen) == len(set(texts))
    long = max(range(20), key=lambda i: len(texts[i]))
    assert len({tuple(variants[i][0]) for i in (long, long + 20, long + 40)}) == 3


def test_sentences_that_come_again_wait_in_a_file(tokenizer, splitter, monkeypatch):
    texts = sentences(20) * 3
    wide = list(augmenter(tokenizer, splitter, window=10_000).variants([texts]))
    monkeypatch.setattr("tasks.augmentation._IN_MEMORY", 10)
    assert list(augmenter(tokenizer, splitter, window=5).variants([texts])) == wide


def test_some_of_the_rows_get_what_they_get_among_all(tokenizer, splitter):
    a, b = sentences(40), sentences(40, seed=1)
    whole = list(augmenter(tokenizer, splitter).variants([a, b]))
    assert list(augmenter(tokenizer, splitter).variants([a, b], range(7, 19))) == whole[7:19]


def test_a_window_of_repeated_sentences_ends(tokenizer, splitter):
    made = augmenter(tokenizer, splitter, window=5)
    lengths = []
    object.__setattr__(made, "likely", lambda s, f=made.likely: lengths.append(len(s)) or f(s))
    list(made.variants([["old cat"] * 23]))
    assert lengths == [1, 0, 0, 0, 0]


def test_counts_tell_where_candidates_came_from(tokenizer, splitter):
    neighbours = {"plays": ["walk", "sleepy"]}
    made = augmenter(tokenizer, splitter, neighbours=neighbours)
    list(made.variants([["old cat plays", "old cat plays", "zebra", "cat " * 50]]))
    counts = made.counts
    assert (counts.model_words, counts.vector_words) == (2 * 2 + 38, 2)
    assert (counts.words_without_candidates, counts.words_beyond_model) == (1, 50 - 38)


def test_a_title_case_word_gets_title_case_neighbours(tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join([*VOCAB, "Pl", "pl", "##ay", "Cat"]) + "\n")
    cased = BertTokenizer(vocab)
    splitter = SentenceSplitter(cased, POSITIONS)
    neighbours = {"Play": ["new york", "walk"], "play": ["Run"]}
    made = augmenter(cased, splitter, neighbours=neighbours, draws=60)
    made = Augmenter(**{**vars(made), "likely": lambda split: [np.empty((0, 1), int)] * len(split)})
    (capital,), (small,) = made.variants([["Play", "play"]])
    assert (set(capital), set(small)) == ({"New York", "Walk"}, {"Run"})


def test_variants_are_new_different_and_differ_only_in_words_with_candidates():
    words = ["a", "b", "c", "d"]
    candidates = [(1, ["x", "y", "z"]), (3, ["v", "w"])]
    variants = draw_variants("a b c d", words, candidates, 90, 0.5, np.random.default_rng(0))
    assert "a b c d" not in variants
    assert len(set(variants)) == len(variants) == (3 + 1) * (2 + 1) - 1
    assert all(re.fullmatch(r"a [bxyz] c [dvw]", variant) for variant in variants)


@pytest.mark.parametrize(("probability", "expected"), [(0.0, set()), (1.0, {"x b", "y b"})])
def test_probability_zero_changes_nothing_and_one_everything(probability, expected):
    generator = np.random.default_rng(0)
    candidates = [(0, ["x", "y"])]
    assert set(draw_variants("a b", ["a", "b"], candidates, 40, probability, generator)) == expected


def test_words_are_replaced_as_often_as_asked():
    candidates = [(i, ["x"]) for i in range(50)]
    variants = draw_variants("", ["a"] * 50, candidates, 400, 0.4, np.random.default_rng(1))
    share = np.mean([variant.split().count("x") / 50 for variant in variants])
    assert abs(share - 0.4) < 0.015


def test_a_sentence_without_candidates_gives_its_words_if_they_read_differently():
    generator = np.random.default_rng(0)
    assert draw_variants("of the.", ["of", "the", "."], [], 5, 0.4, generator) == ["of the ."]
    assert draw_variants("of the", ["of", "the"], [], 5, 0.4, generator) == []


def test_pairs_vary_one_side_while_the_other_is_as_in_the_file():
    rows = list(augmented_rows(["0", "a", "b", "no"], [1, 2], [["a1", "a2"], ["b1"]]))
    sides = [("a", "b"), ("a1", "b"), ("a2", "b"), ("a", "b1")]
    assert rows == [["0", *side, "no"] for side in sides]


def test_the_legacy_mode_varies_the_second_beside_the_last_of_the_first():
    rows = list(augmented_rows(["a", "b"], [0, 1], [["a1", "a2"], ["b1"]], "legacy"))
    assert rows == [["a", "b"], ["a1", "b"], ["a2", "b"], ["a2", "b"], ["a2", "b1"]]


def test_single_sentences_are_the_same_in_both_modes():
    rows = [list(augmented_rows(["s", "1"], [0], [["t", "u"]], mode)) for mode in
            ("independent", "legacy")]  # fmt: skip
    assert rows[0] == rows[1] == [["s", "1"], ["t", "1"], ["u", "1"]]


def test_the_survey_counts_passes_and_collects_cut_words(splitter):
    assert survey(["old cat plays", "the cat walking plays"], splitter) == (3, {"plays", "walking"})
