"""The embedded demo's data: made again byte for byte, laid out like the real thing, labelled by meaning."""

import bz2
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from demo import corpus, glue, lexicon, make, models, vectors
from demo.language import Clause, Compound, parse, words_in, words_of
from demo.meaning import canonical_form
from demo.writing import action, noun_phrase, review
from files.errors import UserError
from tasks.glue import find_task
from tasks.task import read_split
from transformer.tokenization import BertTokenizer

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The demo's GLUE data at its usual sizes, as task_distill.py would read it."""
    folder = tmp_path_factory.mktemp("demo")
    assert make.main(["--stage", "glue", "--output_dir", str(folder)]) == 0
    return folder / "glue_data"


@pytest.fixture(scope="module")
def articles():
    return list(corpus.articles(42, 600))


def rows(data, name, split):
    """(sentences as words, label) of every row."""
    task = find_task(name)
    examples = read_split(task, data / task.folder, split)
    texts = zip(examples.text_a, examples.text_b or itertools.repeat(None), strict=False)
    pairs = [tuple(tuple(words_in(text)) for text in pair if text is not None) for pair in texts]
    labels = itertools.repeat(None) if examples.labels is None else examples.labels.tolist()
    return list(zip(pairs, labels, strict=False))


def labelled(data, name):
    return rows(data, name, "train") + rows(data, name, "dev")


def only(meanings):
    """The one meaning of an unambiguous sentence."""
    assert len(set(meanings)) == 1, meanings
    return meanings[0]


# --- made again --------------------------------------------------------------------------------------

MAKE_ALL = """
import sys
from demo import make
sizes = "--articles 60 --train_scale 0.05 --dev_size 20 --test_size 10 --vocab_size 500".split()
for stage in ("wiki", "glue", "glove", "models"):
    make.main(["--stage", stage, "--output_dir", sys.argv[1], "--seed", sys.argv[2], *sizes])
"""


def checksums(folder, seed, hash_seed):
    subprocess.run(
        [sys.executable, "-c", MAKE_ALL, str(folder), seed],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
    )
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes(tmp_path):
    first = checksums(tmp_path / "one", "7", "1")
    assert first == checksums(tmp_path / "two", "7", "2")
    assert len(first) == 1 + 4 * 3 + 1 + 3 * 3
    other = checksums(tmp_path / "three", "8", "1")
    assert all(other[name] != first[name] for name in first if name.endswith((".tsv", ".bz2")))


def test_a_stage_refuses_an_empty_corpus(tmp_path):
    with pytest.raises(UserError, match="--articles 0"):
        make.main(["--stage", "wiki", "--output_dir", str(tmp_path / "out"), "--articles", "0"])
    assert not (tmp_path / "out").exists()


# --- the language ------------------------------------------------------------------------------------


def test_what_is_said_is_understood():
    rng = Random(3)
    for _ in range(500):
        clause = action(rng, noun_phrase(rng, lexicon.ANIMATE_NOUNS, name=0.2))
        for meaning in (clause, review(rng, rng.choice((-1, 1)), "film")):
            assert meaning in parse(words_of(meaning))


@pytest.mark.parametrize(
    "text",
    [
        "The dogs sleep.",
        "An old dog is an animal.",
        "All spaniels are dogs.",
        "Near the river, the dog is often chased by two birds.",
        "Every dog near the trees sleeps quietly.",
        "It is not true that the film is not very good.",
        "Although Anna does not love the film, the film has an excellent plot.",
    ],
)
def test_sentences_are_accepted(text):
    assert parse(words_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "The dogs sleeps.",
        "The dog near the trees sleep.",
        "Every dogs sleep.",
        "A old dog sleeps.",
        "These dog sleep.",
        "Dog the sleeps.",
        "The dog vanishes the bird.",
        "The dog protects.",
        "The dog do not sleep.",
        "The dog does not sleeps.",
        "The bird is chase by the dog.",
        "The film is good very.",
        "Anna Ben sleeps.",
        "",
    ],
)
def test_what_is_no_sentence_is_rejected(text):
    assert not parse(words_in(text))


# --- the corpus --------------------------------------------------------------------------------------


def test_every_corpus_sentence_is_grammatical(articles):
    said = [words for article in articles for _, section in article.sections for words in section]
    assert [words for words in said if not parse(words)] == []
    assert 5 < np.mean([len(words) for words in said]) < 10


def test_articles_have_different_titles(articles):
    assert len({article.title for article in articles}) == len(articles)


def test_corpus_uses_the_whole_lexicon(articles):
    said = {
        w for article in articles for _, section in article.sections for s in section for w in s
    }
    assert set(lexicon.ALL_WORDS) | {","} >= said
    assert len(set(lexicon.ALL_WORDS) - said) < 10


def test_wikiextractor_reads_the_dump(tmp_path, articles):
    path = tmp_path / "enwiki-demo.xml.bz2"
    corpus.write_dump(path, 42, 60)
    assert b"export-0.10" in bz2.decompress(path.read_bytes())[:300]
    command = [sys.executable, "-m", "wikiextractor.WikiExtractor", str(path), "--json"]
    command += ["--processes", "1", "-o", str(tmp_path / "extracted")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    lines = (tmp_path / "extracted/AA/wiki_00").read_text(encoding="utf-8").splitlines()
    pages = {page["title"]: page["text"] for page in map(json.loads, lines)}
    assert not any(title.isupper() for title in pages)  # redirects are not articles
    for article in articles[:60]:
        text = pages[article.title]
        assert not any(mark in text for mark in ("[[", "{{", "'''", "<ref", "=="))
        said = [words for _, section in article.sections for words in section]
        read = text.replace('"', "").replace("\n", " ").split(". ")
        assert sum(tuple(words_in(sentence)) in said for sentence in read) == len(said)


# --- the tasks: layout -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "train", "test"),
    [
        ("RTE", "index\tsentence1\tsentence2\tlabel", "index\tsentence1\tsentence2"),
        ("SST-2", "sentence\tlabel", "index\tsentence"),
        ("CoLA", None, "index\tsentence"),
        (
            "MRPC",
            "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
            "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        ),
    ],
)
def test_headers_are_those_of_glue(data, folder, train, test):
    for split, header in (("train", train), ("dev", train), ("test", test)):
        lines = (data / folder / f"{split}.tsv").read_bytes().decode().splitlines()
        if header is None:
            assert all(line.split("\t")[2] == ("*", "")[int(line.split("\t")[1])] for line in lines)
        else:
            assert lines[0] == header
        assert {line.count("\t") for line in lines} == {lines[0].count("\t")}


@pytest.mark.parametrize("task", glue.TASKS, ids=lambda task: task.folder)
def test_sizes_and_balance(data, task):
    for split, size in (("train", task.train_size), ("dev", 400)):
        found = rows(data, task.folder, split)
        assert len(found) == size
        assert 0.45 < np.mean([label for _, label in found]) < 0.55
    assert len(rows(data, task.folder, "test")) == 100


# --- the tasks: nothing given away -------------------------------------------------------------------


@pytest.mark.parametrize("task", glue.TASKS, ids=lambda task: task.folder)
def test_no_dev_or_test_sentence_was_seen_before(data, task, articles):
    train = {s for sentences, _ in rows(data, task.folder, "train") for s in sentences}
    said = {words for article in articles for _, section in article.sections for words in section}
    later = [
        s for split in ("dev", "test") for pair, _ in rows(data, task.folder, split) for s in pair
    ]
    assert not train & set(later)
    assert not said & set(later)
    for split in SPLITS:
        pairs = [pair for pair, _ in rows(data, task.folder, split)]
        assert len(set(pairs)) == len(pairs)


def presence(examples):
    """Which words stand in which sentence: one set of (side, word) a row."""
    return [{(side, w) for side, words in enumerate(pair) for w in words} for pair, _ in examples]


@pytest.mark.parametrize("task", glue.TASKS, ids=lambda task: task.folder)
def test_no_single_word_gives_a_label_away(data, task):
    train, dev = rows(data, task.folder, "train"), rows(data, task.folder, "dev")
    seen, labels = Counter(), [label for _, label in train]
    for words, label in zip(presence(train), labels, strict=True):
        seen.update((word, label) for word in words)
    totals = Counter(labels)

    def train_correct(word):
        with_word = max(seen[word, 0], seen[word, 1])
        return with_word + max(totals[0] - seen[word, 0], totals[1] - seen[word, 1])

    best = max({word for word, _ in seen}, key=train_correct)
    with_word = int(seen[best, 1] > seen[best, 0])
    without = int(totals[1] - seen[best, 1] > totals[0] - seen[best, 0])
    guesses = [with_word if best in words else without for words in presence(dev)]
    right = np.mean([guess == label for guess, (_, label) in zip(guesses, dev, strict=True)])
    majority = max(np.mean([label for _, label in dev]), np.mean([1 - label for _, label in dev]))
    assert right <= majority + 0.08, (best, right, majority)


@pytest.mark.parametrize(
    ("name", "most"), [("RTE", 0.65), ("SST-2", 0.70), ("CoLA", 0.62), ("MRPC", 0.62)]
)
def test_words_without_order_are_not_enough(data, name, most):
    linear_model = pytest.importorskip("sklearn.linear_model")
    train, dev = rows(data, name, "train"), rows(data, name, "dev")
    number = {word: at for at, word in enumerate(sorted(set().union(*presence(train))))}

    def features(examples):
        table = np.zeros((len(examples), len(number)))
        for row, words in enumerate(presence(examples)):
            table[row, [number[word] for word in words if word in number]] = 1
        return table, [label for _, label in examples]

    model = linear_model.LogisticRegression(C=0.3, max_iter=300).fit(*features(train))
    assert model.score(*features(dev)) <= most


# --- the tasks: labels follow from meaning ------------------------------------------------------------


def test_cola_labels_are_the_grammar_s(data):
    for (words,), label in labelled(data, "cola"):
        assert bool(parse(words)) == label, words


def verdict(words):
    """Praise (1) or blame (0), read off the words: the clause that counts, its verdict, its negations."""
    text = " ".join(words)
    if text.startswith("although "):
        text = text.split(" , ")[1]
    text = text.split(" although ")[0].split(" , but ")[-1]
    votes = set()
    for clause in text.split(" , and "):
        praise = {*lexicon.POSITIVE, *["love", "loves", "adore", "adores", "praise", "praises"]}
        praise |= {"recommend", "recommends"}
        blame = {*lexicon.NEGATIVE, *["hate", "hates", "detest", "detests", "mock", "mocks"]}
        blame |= {"reject", "rejects"}
        tokens = clause.split()
        (sign,) = [(t in praise) - (t in blame) for t in tokens if t in praise | blame]
        votes.add(sign * (-1) ** sum(t in ("not", "no") for t in tokens))
    (vote,) = votes
    return int(vote > 0)


def test_sst2_labels_follow_from_the_clause_that_counts(data):
    for (words,), label in labelled(data, "sst-2"):
        assert verdict(words) == label, words


def test_sst2_needs_negation(data):
    negated = [sum(w in ("not", "no") for w in words) for (words,), _ in labelled(data, "sst-2")]
    odd, double = np.mean([n % 2 for n in negated]), np.mean([n == 2 for n in negated])
    assert odd > 0.25
    assert double > 0.1


def test_mrpc_pairs_mean_the_same_or_not(data):
    for (first, second), label in labelled(data, "mrpc"):
        meanings = [{canonical_form(m) for m in parse(words)} for words in (first, second)]
        assert bool(meanings[0] & meanings[1]) == label, (first, second)


def describes(phrase, node, adjectives):
    return (
        lexicon.is_a(node, phrase.noun)
        and {*map(lexicon.canonical, phrase.adjectives)} <= adjectives
    )


def subsets(things):
    things = sorted(things)
    return [{*c} for n in range(len(things) + 1) for c in itertools.combinations(things, n)]


def things(phrases):
    """Everything the phrases could be said of: the most special class it belongs to, and its qualities."""
    nouns = {lexicon.canonical(phrase.noun) for phrase in phrases} | {"something"}
    qualities = {lexicon.canonical(word) for phrase in phrases for word in phrase.adjectives}
    return list(itertools.product(sorted(nouns), subsets(qualities)))


def deeds(clauses):
    """Everything one could do: (verb, thing it is done to or None, place or None)."""
    verbs = {lexicon.canonical(clause.verb) for clause in clauses}
    done_to = things([c.object for c in clauses if c.object]) + [None]
    places = {None, *(spot(clause) for clause in clauses)}
    return list(itertools.product(verbs, done_to, places))


def spot(clause):
    return clause.place and (clause.place[0], lexicon.canonical(clause.place[1].noun))


def is_deed(clause, deed):
    verb, thing, place = deed
    if lexicon.canonical(clause.verb) != verb or (spot(clause) and spot(clause) != place):
        return False
    if clause.object is None or thing is None:
        return clause.object is thing
    return describes(clause.object, *thing)


QUANTIFIERS = {
    "some": lambda nouns, deeds: any(n and d for n, d in zip(nouns, deeds, strict=True)),
    "every": lambda nouns, deeds: all(d for n, d in zip(nouns, deeds, strict=True) if n),
    "no": lambda nouns, deeds: not any(n and d for n, d in zip(nouns, deeds, strict=True)),
    "not every": lambda nouns, deeds: any(n and not d for n, d in zip(nouns, deeds, strict=True)),
}


def follows(premise, hypothesis, hypothesis_exists):
    """Whether no small world makes the premise true and the hypothesis false, by trying them all.

    An individual is known by whether either sentence's noun and either predicate applies to it (it may do
    two things). What the premise speaks about exists; what the hypothesis speaks about, if so wanted.
    """
    both = (premise, hypothesis)
    single = {tuple(is_deed(c, deed) for c in both) for deed in deeds(both)} | {(False, False)}
    does = {
        tuple(x or y for x, y in zip(one, two, strict=True)) for one in single for two in single
    }
    if not premise.subject.determiner:  # one named individual: only what it does matters
        assert premise.subject == hypothesis.subject
        return not any(d[0] != premise.negated and d[1] == hypothesis.negated for d in does)
    is_one = {
        tuple(describes(c.subject, *thing) for c in both)
        for thing in things([premise.subject, hypothesis.subject])
    }
    kinds = list(itertools.product(sorted(is_one), sorted(does)))
    for size in (1, 2, 3):
        for world in itertools.combinations(kinds, size):
            truths = []
            for side, clause in enumerate(both):
                nouns, acts = [k[0][side] for k in world], [k[1][side] for k in world]
                exists = any(nouns) or (side == 1 and not hypothesis_exists)
                operator = QUANTIFIERS[lexicon.canonical(clause.subject.determiner)]
                truths.append((exists, operator(nouns, acts)))
            (there, true), (there_too, true_too) = truths
            if there and true and there_too and not true_too:
                return False
    return True


def test_rte_labels_hold_in_every_small_world(data):
    found = Counter()
    for (first, second), label in labelled(data, "rte"):
        premise, hypothesis = only(parse(first)), only(parse(second))
        assert isinstance(premise, Clause) and isinstance(hypothesis, Clause)
        # Whether or not the hypothesis takes its own noun to exist makes no difference.
        for exists in (False, True):
            assert follows(premise, hypothesis, exists) == (label == 0), (first, second)
        found[premise.subject.determiner and lexicon.canonical(premise.subject.determiner)] += 1
    assert min(found[name] for name in ("some", "every", "no", "not every", "")) > 50


def test_articles_do_not_deny_what_follows(articles):
    denied = 0
    for article in articles:
        said = [
            only(parse(words))
            for _, section in article.sections
            for words in section
            if "true" in words or "so" in words
        ]
        for meaning in said:
            assert isinstance(meaning, Compound)
            if meaning.link == "so":
                assert follows(meaning.first, meaning.second, True)
            denied += meaning.link != "so"
    assert denied > 20


# --- vectors and models ------------------------------------------------------------------------------


def test_vectors_put_synonyms_together(tmp_path):
    make.main(["--stage", "glove", "--output_dir", str(tmp_path), "--articles", "600"])
    lines = (tmp_path / make.VECTORS_NAME).read_text(encoding="utf-8").splitlines()
    words = [line.split(" ")[0] for line in lines]
    table = np.array([line.split(" ")[1:] for line in lines], dtype=float)
    assert words == sorted(lexicon.ALL_WORDS)
    assert table.shape[1] == 50
    norms = np.linalg.norm(table, axis=1)
    assert (norms > 0).mean() > 0.97
    table /= np.maximum(norms, 1e-9)[:, None]
    near = table @ table.T
    place = {word: at for at, word in enumerate(words)}
    pairs = [(place[a], place[b]) for a, b in lexicon.SYNONYMS if a in place and b in place]
    assert np.mean([near[a, b] for a, b in pairs]) > np.mean(near) + 0.3


def test_co_occurrences_stay_inside_a_sentence():
    counts = vectors.co_occurrences([("a", "b"), ("c", "x", "a")], ["a", "b", "c"], window=2)
    assert counts.tolist() == [[0, 1, 0.5], [1, 0, 0], [0.5, 0, 0]]


def test_vocabulary_knows_every_word(tmp_path):
    make.main(["--stage", "models", "--output_dir", str(tmp_path), "--articles", "600"])
    tokenizer = BertTokenizer.from_pretrained(str(tmp_path / "bert-base-config"))
    assert tokenizer.do_lower_case
    text = " ".join(lexicon.ALL_WORDS) + ' History. Zebra quiz 1984, "odd" (word)!'
    tokens = tokenizer.tokenize(text)
    assert "[UNK]" not in tokens
    split = [word for word in lexicon.ALL_WORDS if len(tokenizer.tokenize(word)) > 1]
    assert 20 < len(split) < len(lexicon.ALL_WORDS) / 2  # augmentation takes both its ways


def test_students_have_the_teacher_s_heads(tmp_path):
    vocabulary = models.learn_vocabulary(["a small text"], 200)
    models.write_models(tmp_path, vocabulary)
    configs = {
        path.name: json.loads((path / "config.json").read_text()) for path in tmp_path.iterdir()
    }
    teacher, small, smart = (configs[name] for name in models.SHAPES)
    assert 2 * teacher["num_hidden_layers"] == 6  # it is doubled while it is pre-trained
    assert (small["num_hidden_layers"], smart["num_hidden_layers"]) == (2, 3)
    assert small["hidden_size"] < teacher["hidden_size"] == smart["hidden_size"]
    for config in configs.values():
        assert config["num_attention_heads"] == teacher["num_attention_heads"]
        assert config["hidden_size"] % config["num_attention_heads"] == 0
        assert config["vocab_size"] == len(vocabulary)
