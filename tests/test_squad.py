"""SQuAD: files, windows, labels, answers and scores, against slow readings of their definitions."""

import functools
import json
import re
import string
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from files.errors import UserError
from tasks.spans import answer, best_answers, best_spans
from tasks.squad import Questions, read_questions
from tasks.squad_metrics import best_threshold, f1, metrics_of, normalise, question_scores
from tasks.windows import Cut, Windows, make_windows
from transformer.byte_bpe import ByteBPETokenizer
from transformer.tokenization import BertTokenizer

CONTEXT = (
    "The old man reads a book. The child sees the red bird near the river, and the dog eats it."
)


def squad_file(tmp_path, rows, context=CONTEXT, name="dev-v1.1.json", **other):
    """A file of one paragraph; rows are (question, answer, start)."""
    qas = [
        {"id": f"q{i}", "question": q, "answers": [{"text": a, "answer_start": s}], **other}
        for i, (q, a, s) in enumerate(rows)
    ]
    path = tmp_path / name
    data = {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def one(context, answer_text="", start=None, question="who sees it?"):
    """One question, in memory."""
    start = context.find(answer_text) if start is None else start
    return Questions(
        None, ["q"], [question], [context], np.zeros(1, np.int32), np.zeros(1, np.int32),
        [[answer_text]] if answer_text else [[]], [[start]] if answer_text else [[]],
        np.array([not answer_text]),
    )  # fmt: skip


@pytest.fixture
def tokenizer(tiny_vocab):
    return BertTokenizer(tiny_vocab)


def label_text(questions, windows, window):
    """The characters that a window's labels name."""
    (begin, end), boundary = windows.labels[window], int(windows.store.boundaries[window])
    first = windows.windows[window, 1] - boundary
    return questions.context(0)[windows.spans[first + begin, 0] : windows.spans[first + end, 1]]


# --- files ---------------------------------------------------------------------------------------------


def test_official_flat_and_line_files_are_the_same(tmp_path):
    official = read_questions(squad_file(tmp_path, [("who?", "The child", 26)]))
    row = {"id": "q0", "context": CONTEXT, "question": "who?",
           "answers": {"text": ["The child"], "answer_start": [26]}}  # fmt: skip
    for name, text in (
        ("a.json", json.dumps([row])), ("b.json", json.dumps({"data": [row]})),
        ("c.jsonl", json.dumps(row) + "\n\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = read_questions(tmp_path / name)
        assert (found.ids, found.texts, found.contexts, found.answers, found.starts) == (
            official.ids, official.texts, official.contexts, official.answers, official.starts
        )  # fmt: skip


def test_wrong_starts_are_mended_and_said(tmp_path, capsys):
    rows = [("a?", "the", 0), ("b?", "The child", 27), ("c?", "a whale", 3)]
    found = read_questions(squad_file(tmp_path, rows))
    assert found.starts == [[CONTEXT.index("the")], [26], [-1]]
    told = capsys.readouterr().err
    assert "2 answers do not begin where answer_start says" in told and "(q0, q1)" in told
    assert "1 answers are not in their text" in told and "(q2)" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"), ('{"data": 3}', "expected a list"), ('{"data": []}', "no question"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', 'a text under "context"'),
        ('[{"context": "a", "id": "1"}]', 'a text under "question"'),
        ('[{"context": "a", "id": "1", "question": "b", "answers": [{}]}]', 'a text under "text"'),
        ('[{"context": "a", "id": "1", "question": "b", "answers": 3}]', 'a list under "answers"'),
        (
            '[{"context": "a", "id": "1", "question": "b"}, {"context": "a", "id": "1", "question": "c"}]',
            "the id 1 has been used by",
        ),
        ('[{"context": "a", "id": "1", "question": "b", "is_impossible": true}]', "SQuAD 2.0"),
    ],
)  # fmt: skip
def test_files_that_are_not_questions_are_refused(tmp_path, text, told):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(told)) as refusal:
        read_questions(path)
    assert str(path) in str(refusal.value)


def test_a_line_that_is_no_question_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "1", "context": "a", "question": "b"}\n{\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"x\.jsonl:2: not JSON"):
        read_questions(path)


# --- windows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["step", "hf"])
def test_windows_cover_the_text_and_surround_every_token_once(tokenizer, mode):
    questions = one(CONTEXT * 9, "The child")
    windows = make_windows(questions, tokenizer, Cut(40, 9, 5, mode))
    assert len(windows) > 5 and windows.store.lengths.max() <= 40
    size = windows.store.lengths - windows.store.boundaries - 1
    begin = windows.windows[:, 1]
    covered = np.unique(
        np.concatenate([b + np.arange(n) for b, n in zip(begin, size, strict=True)])
    )
    assert covered.tolist() == list(range(len(windows.spans)))
    best = np.concatenate(
        [b + np.arange(lo, hi) for b, (lo, hi) in zip(begin, windows.windows[:, 2:4], strict=True)]
    )
    assert sorted(best) == list(range(len(windows.spans)))
    step = np.diff(begin)[:-1]
    assert (step == (9 if mode == "step" else 40 - 5 - 3 - 9)).all()


def test_a_token_belongs_to_the_window_that_surrounds_it_best(tokenizer):
    windows = make_windows(one(CONTEXT * 6, "The child"), tokenizer, Cut(40, 9, 5))
    size = windows.store.lengths - windows.store.boundaries - 1
    for token in range(len(windows.spans)):
        scores = []
        for begin, count in zip(windows.windows[:, 1], size, strict=True):
            place = token - begin
            inside = 0 <= place < count
            scores.append(min(place, count - 1 - place) + 0.01 * count if inside else -1.0)
        winner = int(np.argmax(scores))  # of equal ones the first
        own = [
            w
            for w, (_, begin, lo, hi, *_) in enumerate(windows.windows)
            if lo <= token - begin < hi
        ]
        assert own == [winner]


@pytest.mark.parametrize(
    ("context", "answer_text", "covered"),
    [
        (CONTEXT, "The child", "The child"),
        (CONTEXT, "hild", "child"),  # inside a token, or from one piece to another
        ("  \t it sees\u202fthe\u3000bird.\nA \u200bcat ran.", "the", "the"),
        ("it sees the\u200b bird", "the\u200b bird", "the\u200b bird"),
        ("İn the river a dog", "a dog", "a dog"),  # one character becomes two when it is lowered
        ("☃☃ sees the ☃ bird", "☃ bird", "☃ bird"),  # unknown tokens
    ],
)
def test_labels_are_the_tokens_that_cover_the_answer(tokenizer, context, answer_text, covered):
    questions = one(context, answer_text)
    windows = make_windows(questions, tokenizer, Cut(64, 30, 10))
    text = label_text(questions, windows, 0)
    assert answer_text in text and covered in text
    assert len(text.split()) <= len(covered.split())


def test_windows_without_the_answer_are_labelled_with_cls(tokenizer):
    windows = make_windows(
        one(CONTEXT + " " + "it was good. " * 30, "The child"), tokenizer, Cut(40, 20, 5)
    )
    begins = windows.labels[:, 0]
    assert begins[0] > 0 and (begins[1:] == 0).sum() >= len(windows) - 2
    assert (windows.labels[begins == 0] == 0).all()


def test_questions_are_stripped_and_cut_but_texts_never(tokenizer):
    plain = make_windows(one(CONTEXT, "The child"), tokenizer, Cut(60, 20, 3))
    spaced = make_windows(
        one(CONTEXT, "The child", question=" " * 50 + "who sees it? "), tokenizer, Cut(60, 20, 3)
    )
    np.testing.assert_array_equal(plain.store.tokens, spaced.store.tokens)
    assert plain.store.boundaries[0] == 3 + 2
    shifted = make_windows(one("  " + CONTEXT, "The child"), tokenizer, Cut(60, 20, 3))
    np.testing.assert_array_equal(shifted.spans, plain.spans + 2)


def test_windows_that_would_leave_tokens_out_are_refused(tokenizer):
    long = one(CONTEXT * 5, "The child")
    with pytest.raises(UserError, match="would leave tokens out"):
        make_windows(long, tokenizer, Cut(40, 39, 10))
    make_windows(one("A cat.", "cat"), tokenizer, Cut(40, 39, 10))  # one window is enough
    with pytest.raises(UserError, match="leaves no room"):
        make_windows(long, tokenizer, Cut(8, 1, 10))
    with pytest.raises(UserError, match="expected less"):
        make_windows(long, tokenizer, Cut(40, 39, 10, "hf"))


def test_empty_texts_have_a_window_without_tokens(tokenizer):
    questions = one("")
    windows = make_windows(questions, tokenizer, Cut(20, 5, 5))
    assert len(windows) == 1 and windows.store.lengths[0] == windows.store.boundaries[0] + 1
    scores = np.ones((len(windows.store.tokens), 2), np.float32)
    assert answer(scores, windows, questions).texts == [""]
    assert best_answers(scores, windows, questions) == [
        [{"text": "", "start_logit": 0.0, "end_logit": 0.0, "probability": 1.0}]
    ]


def test_windows_are_the_same_from_disk(tokenizer, tmp_path):
    windows = make_windows(one(CONTEXT * 5, "The child"), tokenizer, Cut(40, 9, 5))
    windows.save(tmp_path / "w")
    again = Windows.open(tmp_path / "w")
    for name in ("windows", "spans"):
        np.testing.assert_array_equal(getattr(again, name), getattr(windows, name))
    np.testing.assert_array_equal(again.store.tokens, windows.store.tokens)
    np.save(tmp_path / "w.windows.npy", windows.windows[1:])
    with pytest.raises(UserError, match="does not belong"):
        Windows.open(tmp_path / "w")


# --- answers -------------------------------------------------------------------------------------------


def slow_answers(scores, windows, questions, longest, count):
    """Every span of every window, by the definition; the best `count` that differ in their text."""
    found = [[] for _ in questions.ids]
    for w in range(len(windows)):
        at, boundary = int(windows.store.offsets[w]), int(windows.store.boundaries[w])
        size = int(windows.store.lengths[w]) - boundary - 1
        low, high = windows.windows[w, 2:4]
        for i in range(low, high):
            for j in range(i, min(i + longest, size)):
                start, end = (
                    float(scores[at + boundary + k, side]) for side, k in enumerate((i, j))
                )
                question = windows.windows[w, 0]
                first = windows.windows[w, 1]
                text = questions.context(question)[
                    windows.spans[first + i, 0] : windows.spans[first + j, 1]
                ].strip()
                found[question].append((start + end, text))
    best = []
    for spans in found:
        spans.sort(key=lambda span: -span[0])
        texts = list(dict.fromkeys(text for _, text in spans))[:count]
        best.append(texts)
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("longest", [1, 2, 7, 30])
def test_answers_are_the_best_spans_of_all(tmp_path, tokenizer, seed, longest):
    rows = [(f"{'who ' * (1 + i % 9)}sees it?", "The child", 26) for i in range(6)]
    questions = read_questions(squad_file(tmp_path, rows, CONTEXT * 4))
    windows = make_windows(questions, tokenizer, Cut(48, 11, 8))
    scores = (
        np.random.default_rng(seed).normal(size=(len(windows.store.tokens), 2)).astype(np.float32)
    )
    expected = slow_answers(scores, windows, questions, longest, 20)
    found = answer(scores, windows, questions, longest)
    assert found.texts == [texts[0] for texts in expected]
    for i, (begin, end) in enumerate(found.characters):
        assert questions.context(i)[begin:end] == found.texts[i]
    listed = best_answers(scores, windows, questions, 20, longest)
    assert [[told["text"] for told in answers] for answers in listed] == expected
    for answers in listed:
        assert sum(told["probability"] for told in answers) == pytest.approx(1)


def test_spans_never_cross_from_one_window_to_the_next(tokenizer):
    questions = one("a cat")
    many = Questions(
        None, ["a", "b"], ["?", "?"], ["a cat"], np.zeros(2, np.int32), np.zeros(2, np.int32),
        [[], []], [[], []], np.ones(2, bool),
    )  # fmt: skip
    windows = make_windows(many, tokenizer, Cut(20, 5, 5))
    scores = np.zeros((len(windows.store.tokens), 2), np.float32)
    first_end = int(windows.store.offsets[1])
    scores[first_end - 2, 0] = 5  # the last token of the first text begins
    scores[first_end + int(windows.store.boundaries[1]), 1] = 5  # the first of the second ends
    values, where = best_spans(scores, windows, 30)
    assert values.tolist() == [5, 5] and where.tolist() == [[1, 1], [0, 0]]
    assert len(questions) == 1


def test_no_answer_is_given_where_it_scores_higher(tmp_path, tokenizer):
    questions = read_questions(
        squad_file(tmp_path, [("a?", "The child", 26), ("b?", "The child", 26)])
    )
    windows = make_windows(questions, tokenizer, Cut(64, 20, 8))
    scores = np.zeros((len(windows.store.tokens), 2), np.float32)
    scores[windows.store.offsets[1]] = 2, 1
    found = answer(scores, windows, questions)
    assert (found.null - found.scores).tolist() == [0, 3]
    given = found.given(1.0)
    assert given[0] and not given[1] and all(found.given(3.0))


def test_byte_bpe_answers_are_cut_from_the_text(tmp_path):
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    library.train_from_iterator([CONTEXT], trainer)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = ByteBPETokenizer({"tokenizer.json": tmp_path / "tokenizer.json"})
    questions = one("The café sees  the river", "the river")
    windows = make_windows(questions, tokenizer, Cut(64, 20, 8))
    assert label_text(questions, windows, 0) == "the river"
    scores = np.zeros((len(windows.store.tokens), 2), np.float32)
    at = int(windows.store.offsets[0])
    scores[at + windows.labels[0, 0], 0] = scores[at + windows.labels[0, 1], 1] = 9
    assert answer(scores, windows, questions).texts == ["the river"]


# --- scores --------------------------------------------------------------------------------------------


def official(prediction, golds):
    """Exact match and F1, as SQuAD's evaluate-v2.0.py defines them."""

    def plain(text):
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    def overlap(a, b):
        ours, theirs = plain(a).split(), plain(b).split()
        if not ours or not theirs:
            return float(ours == theirs)
        same = sum((Counter(ours) & Counter(theirs)).values())
        if not same:
            return 0.0
        precision, recall = same / len(ours), same / len(theirs)
        return 2 * precision * recall / (precision + recall)

    golds = [gold for gold in golds if plain(gold)] or [""]
    return max(float(plain(prediction) == plain(g)) for g in golds), max(
        overlap(prediction, g) for g in golds
    )


@pytest.mark.parametrize(
    ("prediction", "golds"),
    [
        ("The Cat!", ["cat"]), ("a cat and an owl", ["the owl", "cats"]), ("", ["cat"]), ("the", ["."]),
        (".", ["."]), ("cat", [".", "cat"]), ("the the cat", ["cat the"]), ("2–1", ["2-1", "21"]),
        ("Cat's  eye", ["cats eye"]), ("", []), ("cat", []),
    ],
)  # fmt: skip
def test_scores_follow_the_official_rules(prediction, golds):
    questions = one("cat")
    questions.answers = [golds]
    assert question_scores(questions, [prediction])[0] == pytest.approx(official(prediction, golds))


def test_scripts_without_spaces_count_by_character():
    assert normalise("東京。", "cjk") == "東 京" and normalise("東京") == "東京"
    assert f1(normalise("東京都", "cjk"), normalise("東京", "cjk")) == pytest.approx(0.8)


def score_with(scores, impossible, odds, texts, threshold):
    """The mean score of answers with odds up to a threshold."""
    given = (odds <= threshold) & np.array([text != "" for text in texts])
    return np.where(impossible, 100.0 * ~given, scores * (odds <= threshold)).mean()


def test_a_threshold_is_the_best_of_all():
    generator = np.random.default_rng(0)
    for _ in range(50):
        n = int(generator.integers(1, 12))
        impossible = generator.random(n) < 0.5
        odds = generator.integers(-3, 3, n).astype(float)
        texts = ["x" if value < 0.8 else "" for value in generator.random(n)]
        scores = np.where(impossible, 0.0, 100 * generator.random(n))
        reached = functools.partial(score_with, scores, impossible, odds, texts)
        best, threshold = best_threshold(scores / 100, impossible, odds, texts)
        assert best == pytest.approx(max(map(reached, [*odds, odds.min() - 1])))
        assert reached(threshold) == pytest.approx(best)


def test_both_kinds_of_questions_are_reported():
    questions = Questions(
        None, ["a", "b"], ["", ""], [""], np.zeros(2, np.int32), np.zeros(2, np.int32),
        [["cat"], []], [[0], []], np.array([False, True]),
    )  # fmt: skip
    found = metrics_of(questions, ["cat", "dog"], np.array([-1.0, 1.0]), ["cat", "dog"])
    assert (found["exact"], found["HasAns_f1"], found["NoAns_f1"]) == (50, 100, 0)
    assert (found["best_f1"], found["best_f1_thresh"]) == (100, -1.0)
