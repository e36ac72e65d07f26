"""The demo's four GLUE tasks: labels follow from grammar and meaning, files have GLUE's exact layout.

A generator yields rows `(label, sentence words, ...)`; `write_tasks` balances the labels, keeps held-out
sentences for dev and test, and writes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from demo import lexicon as lex
from demo.language import Clause, parse, sentence, words_of
from demo.meaning import entails, hinges_on_existence, quantifier
from demo.statements import altered, statement
from demo.writing import (
    action,
    content_slots,
    is_held_out,
    noun_phrase,
    other_word,
    place,
    review,
    reworded,
)
from files.atomic import atomic_open


@dataclass(frozen=True)
class Row:
    """One example: its label (1 acceptable, positive, paraphrase or entailed), and its sentences as words.

    Rows of one `cell` are alike in form; each cell holds as many of either label.
    """

    label: int
    sentences: tuple[tuple[str, ...], ...]
    cell: object = None


# --- CoLA: is it a sentence? -------------------------------------------------------------------------


def _other_number(rng: Random, words: list[str], forms: dict[str, str]) -> list[str] | None:
    places = [at for at, word in enumerate(words) if word in forms]
    if not places:
        return None
    at = rng.choice(places)
    return [*words[:at], forms[words[at]], *words[at + 1 :]]


def _both_ways(pairs) -> dict[str, str]:
    return {**dict(pairs), **{second: first for first, second in pairs}}


_VERB_NUMBER = _both_ways(
    [
        (lex.finite(verb, False), lex.finite(verb, True))
        for verb in (*lex.INTRANSITIVE, *lex.TRANSITIVE, "be", "do", "have")
    ]
)
_VERB_KIND = {
    lex.finite(verb, is_plural): [lex.finite(other, is_plural) for other in others]
    for verbs, others in (
        (lex.INTRANSITIVE, lex.ALWAYS_WITH_OBJECT),
        (lex.TRANSITIVE, lex.NEVER_WITH_OBJECT),
    )
    for verb in verbs
    for is_plural in (False, True)
}
_NOUN_NUMBER = _both_ways([(noun, lex.plural(noun)) for noun in lex.NOUNS])


def wrong_verb(rng: Random, words: list[str]) -> list[str] | None:
    """A verb that does not agree with its subject."""
    return _other_number(rng, words, _VERB_NUMBER)


def wrong_noun(rng: Random, words: list[str]) -> list[str] | None:
    """A noun of the wrong number for its determiner or its verb."""
    return _other_number(rng, words, _NOUN_NUMBER)


def wrong_order(rng: Random, words: list[str]) -> list[str] | None:
    """A word moved to where it cannot stand."""
    at = rng.randrange(len(words))
    to = rng.choice([spot for spot in range(max(0, at - 3), min(len(words), at + 4)) if spot != at])
    rest = words[:at] + words[at + 1 :]
    moved = [*rest[:to], words[at], *rest[to:]]
    # A verb in front makes a question, and a comma out of place is not a matter of grammar.
    fixed = (",", *lex.ADVERBS, *lex.INTENSIFIERS)
    return None if words[at] in fixed or moved[0] in ("is", "are", "has", ",") else moved


def wrong_verb_kind(rng: Random, words: list[str]) -> list[str] | None:
    """A verb with an object that it cannot take, or without the one it needs."""
    places = [at for at, word in enumerate(words) if word in _VERB_KIND]
    if not places:
        return None
    at = rng.choice(places)
    return [*words[:at], rng.choice(_VERB_KIND[words[at]]), *words[at + 1 :]]


VIOLATIONS = (wrong_verb, wrong_verb, wrong_noun, wrong_order, wrong_order, wrong_verb_kind)


def acceptability(rng: Random) -> Iterator[Row]:
    """CoLA: sentences, and sentences with one violation of agreement, arguments or order."""
    while True:
        subject = noun_phrase(rng, lex.ANIMATE_NOUNS, name=0.1)
        if subject.determiner and rng.random() < 0.25:
            near = noun_phrase(rng, lex.TAXONOMY_NOUNS, (("the",), ("the",)), 0.0)
            subject = replace(subject, modifier=(rng.choice(lex.PREPOSITIONS), near))
        clause = action(rng, subject)
        if clause.verb in lex.TRANSITIVE and not subject.modifier and rng.random() < 0.25:
            clause = replace(clause, subject=clause.object, object=subject, passive=True)
        clause = replace(clause, negated=rng.random() < 0.2)
        words = words_of(clause)
        violation = rng.choice(VIOLATIONS)
        broken = violation(rng, words)
        if broken is None or parse(broken) or not parse(words):
            continue
        label = rng.randrange(2)
        if is_held_out(words) == is_held_out(broken):
            yield Row(label, (tuple(words if label else broken),), violation.__name__)


# --- SST-2: does it praise? --------------------------------------------------------------------------


def sentiment_sentences(rng: Random) -> Iterator[Row]:
    """SST-2: praise and blame, negated, doubly negated and set against each other."""
    while True:
        polarity = rng.choice((-1, 1))
        words = words_of(review(rng, polarity, rng.choice(lex.WORK_NOUNS)))
        yield Row(int(polarity > 0), (tuple(words),))


# --- RTE: does it follow? ----------------------------------------------------------------------------


def statement_pairs(rng: Random) -> Iterator[Row]:
    """RTE: a statement and an altered one, which follows or does not."""
    while True:
        premise = statement(rng)
        hypothesis = altered(rng, premise)
        if rng.random() < 0.4:
            hypothesis = altered(rng, hypothesis)
        if hypothesis == premise or hinges_on_existence(premise, hypothesis):
            continue
        label = entails(premise, hypothesis)
        named = not premise.subject.determiner
        cell = (
            *("name" if named else quantifier(clause) for clause in (premise, hypothesis)),
            named and premise.negated,
            premise.place is not None,
            hypothesis.place is not None,
        )
        yield Row(int(label), tuple(tuple(words_of(c)) for c in (premise, hypothesis)), cell)


# --- MRPC: does it say the same? ---------------------------------------------------------------------


KINDS_OF_WORDS = (
    lex.ANIMATE_NOUNS, tuple(lex.TRANSITIVE), lex.NEUTRAL_ADJECTIVES, lex.ADVERBS, lex.PLACE_NOUNS,
)  # fmt: skip


_DETAILS = ("place", "adverb")


def _with_detail(rng: Random, clause: Clause, name: str, given: bool) -> Clause:
    """The clause with its place or its adverb given, at random, or left out."""
    if name == "place":
        return replace(clause, place=place(rng) if given else None)
    return replace(clause, adverb=rng.choice(lex.ADVERBS) if given else "")


def _another_meaning(rng: Random, clause: Clause) -> Clause:
    """The clause with a detail more or less, as most of MRPC's near misses.

    Some have agent and patient exchanged, or other words, few or many.
    """
    if rng.random() < 0.9:
        name = rng.choice(_DETAILS)
        return _with_detail(rng, clause, name, given=not getattr(clause, name))
    if rng.random() < 0.2:
        return replace(clause, subject=clause.object, object=clause.subject)
    slots = content_slots(clause)
    for word, put in rng.sample(slots, rng.randint(1, len(slots))):
        (kind,) = (words for words in KINDS_OF_WORDS if word in words)
        clause = put(clause, other_word(rng, word, kind))
    return clause


def paraphrase_pairs(rng: Random) -> Iterator[Row]:
    """MRPC: a sentence said again in other words, or a similar one that says something else."""
    for label, clauses in _paraphrases(rng):
        first, second = (tuple(words_of(clause)) for clause in clauses)
        if first != second:
            yield Row(label, (first, second))


def _paraphrases(rng: Random) -> Iterator[tuple[int, tuple[Clause, Clause]]]:
    articles = (("the",), ("the",))
    while True:
        agent, patient = (noun_phrase(rng, lex.ANIMATE_NOUNS, articles, 0.0, 0.1) for _ in "ab")
        if lex.canonical(agent.noun) == lex.canonical(patient.noun):
            continue
        clause = Clause(agent, rng.choice(tuple(lex.TRANSITIVE)), patient)
        for (
            name
        ) in _DETAILS:  # given as often as not, so that neither having it nor lacking it tells
            clause = _with_detail(rng, clause, name, given=rng.random() < 0.5)
        label = rng.randrange(2)
        other = clause if label else _another_meaning(rng, clause)
        yield label, (reworded(rng, clause), reworded(rng, other))


# --- QQP: is it the same question? -------------------------------------------------------------------


def question(clause: Clause) -> tuple[str, ...]:
    """Asks whether a clause is true: "the dog sees a bird" becomes "does the dog see a bird"."""
    words = words_of(replace(clause, negated=True))
    at = words.index("not")  # after the verb that goes to the front
    start = words.index(",") + 1 if clause.place and clause.place_first else 0
    return (*words[:start], words[at - 1], *words[start : at - 1], *words[at + 1 :])


def question_pairs(rng: Random) -> Iterator[Row]:
    """QQP: the pairs of MRPC, asked."""
    for label, clauses in _paraphrases(rng):
        first, second = (question(clause) for clause in clauses)
        if first != second:
            yield Row(label, (first, second))


# --- files -------------------------------------------------------------------------------------------


def collect(
    make: Callable[[Random], Iterator[Row]], seed: str, size: int, held_out: bool, seen: set
) -> list[Row]:
    """`size` different rows, half of either label within every cell.

    All sentences of a row are held out, or none is; rows of `seen` are left out and new ones added to it.
    """
    rows: list[Row] = []
    counts: Counter = Counter()
    for row in make(Random(seed)):
        if len(rows) == size:
            break
        ahead = counts[row.cell, row.label] - counts[row.cell, 1 - row.label]
        fits = all(is_held_out(words) == held_out for words in row.sentences)
        if ahead > 0 or not fits or row.sentences in seen:
            continue
        seen.add(row.sentences)
        counts[row.cell, row.label] += 1
        rows.append(row)
    return rows


def _cola(rows: list[Row], test: bool) -> Iterator[str]:
    if test:
        yield "index\tsentence"
    for index, row in enumerate(rows):
        text = sentence(row.sentences[0])
        yield (
            f"{index}\t{text}" if test else f"demo\t{row.label}\t{'' if row.label else '*'}\t{text}"
        )


def _sst2(rows: list[Row], test: bool) -> Iterator[str]:
    yield "index\tsentence" if test else "sentence\tlabel"
    for index, row in enumerate(rows):
        text = " ".join(row.sentences[0])  # as in SST-2: lower case, spaces around punctuation
        yield f"{index}\t{text}" if test else f"{text} \t{row.label}"


def _rte(rows: list[Row], test: bool) -> Iterator[str]:
    yield "index\tsentence1\tsentence2" + ("" if test else "\tlabel")
    for index, row in enumerate(rows):
        first, second = map(sentence, row.sentences)
        label = "" if test else "\tentailment" if row.label else "\tnot_entailment"
        yield f"{index}\t{first}\t{second}{label}"


def _mrpc(rows: list[Row], test: bool) -> Iterator[str]:
    # The real train and dev files start with a byte order mark; the test file has none.
    yield (
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String"
        if test
        else ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String")
    )
    for index, row in enumerate(rows):
        first, second = map(sentence, row.sentences)
        yield f"{index if test else row.label}\t{2 * index}\t{2 * index + 1}\t{first}\t{second}"


def _qqp(rows: list[Row], test: bool) -> Iterator[str]:
    yield (
        "id\tquestion1\tquestion2" if test else "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    )
    for index, row in enumerate(rows):
        first, second = (f"{sentence(words)[:-1]}?" for words in row.sentences)
        ids = "" if test else f"{2 * index}\t{2 * index + 1}\t"
        yield f"{index}\t{ids}{first}\t{second}" + ("" if test else f"\t{row.label}")


@dataclass(frozen=True)
class DemoTask:
    """How a task's rows are made and written, and how many train rows it has by default."""

    folder: str
    make: Callable[[Random], Iterator[Row]]
    lines: Callable[[list[Row], bool], Iterator[str]]
    train_size: int


TASKS = (
    DemoTask("RTE", statement_pairs, _rte, 2400),
    DemoTask("SST-2", sentiment_sentences, _sst2, 1200),
    DemoTask("CoLA", acceptability, _cola, 1600),
    DemoTask("MRPC", paraphrase_pairs, _mrpc, 1200),
)
QUESTIONS = (DemoTask("QQP", question_pairs, _qqp, 1600),)  # of the DistilBERT demo


def write_tasks(
    folder: Path,
    seed: int,
    train_scale: float = 1.0,
    dev_size: int = 400,
    test_size: int = 100,
    tasks: Sequence[DemoTask] = TASKS,
) -> dict[str, dict[str, int]]:
    """Write `folder`/TASK/{train,dev,test}.tsv of each task; return the number of rows of each."""
    sizes: dict[str, dict[str, int]] = {}
    for task in tasks:
        seen: set = set()
        wanted = {"train": round(train_scale * task.train_size), "dev": dev_size, "test": test_size}
        sizes[task.folder] = wanted
        for split, size in wanted.items():
            rows = collect(task.make, f"{seed} {task.folder} {split}", size, split != "train", seen)
            with atomic_open(folder / task.folder / f"{split}.tsv") as file:
                file.writelines(f"{line}\n" for line in task.lines(rows, split == "test"))
    return sizes
