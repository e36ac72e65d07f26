"""Questions about short stories of the demo language, in SQuAD's JSON: who, what to, and where.

A story has few heroes, verbs and places, and each comes several times, so that no single word of a question,
and no position, gives the answer away: it follows from the one sentence that fits all of the question. A
question may use a verb's synonym, and a sentence may be in the passive. No story of the dev set is one of
the training set's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from demo import lexicon as lex
from demo.language import Clause, NounPhrase, sentence, words_of
from demo.writing import place
from files.atomic import atomic_open

SENTENCES = (2, 3)
VERBS = tuple(verb for verb in lex.TRANSITIVE if lex.synonyms(verb))


def _heroes(rng: Random, count: int) -> list[NounPhrase]:
    nouns = rng.sample(lex.LEAVES[: len(lex.LEAVES) * 2 // 3], count)
    return [
        NounPhrase(rng.choice(lex.NAMES))
        if i == 0
        else NounPhrase(
            noun, "the", adjectives=(rng.choice(lex.NEUTRAL_ADJECTIVES),) * (rng.random() < 0.2)
        )
        for i, noun in enumerate(nouns)
    ]


def story(rng: Random) -> list[Clause]:
    """Clauses in the active, each with an object and a place, no two of one meaning."""
    heroes, verbs = _heroes(rng, 6), rng.sample(sorted({lex.canonical(v) for v in VERBS}), 3)
    places = [place(rng) for _ in range(3)]
    clauses: list[Clause] = []
    count = rng.randint(*SENTENCES)
    while len(clauses) < count:
        subject, other = rng.sample(heroes, 2)
        clause = Clause(subject, rng.choice(verbs), other, place=rng.choice(places))
        if not any(replace(clause, place=None) == replace(c, place=None) for c in clauses):
            clauses.append(clause)
    return clauses


def said(rng: Random, clause: Clause) -> str:
    """The sentence: with a synonym, in the passive, the place in front, or as it is."""
    clause = replace(clause, place_first=rng.random() < 0.3)
    if rng.random() < 0.1:
        clause = replace(clause, subject=clause.object, object=clause.subject, passive=True)
    return sentence(words_of(clause))


def _phrase(phrase: NounPhrase) -> str:
    """As in the middle of a sentence."""
    text = sentence(words_of(Clause(phrase, "rest"))).removesuffix(" rests.")
    return text if phrase.noun in lex.NAMES else text[:1].lower() + text[1:]


def _place(clause: Clause) -> str:
    preposition, phrase = clause.place
    return f"{preposition} {_phrase(phrase)}"


def questions(rng: Random, clauses: list[Clause]) -> Iterator[tuple[str, str, Clause]]:
    """Question, answer, and the clause it is about: those that one clause alone answers."""
    for clause in clauses:
        others = [c for c in clauses if c is not clause]
        verb = rng.choice((clause.verb, *lex.synonyms(clause.verb)))
        alike = [c for c in others if c.verb == clause.verb]
        if all(c.object != clause.object for c in alike):
            yield (
                f"Who {lex.finite(verb, False)} {_phrase(clause.object)}?",
                _phrase(clause.subject),
                clause,
            )
        elif all((c.object, c.place) != (clause.object, clause.place) for c in alike):
            asked = f"Who {lex.finite(verb, False)} {_phrase(clause.object)} {_place(clause)}?"
            yield asked, _phrase(clause.subject), clause
        if all(c.subject != clause.subject for c in alike):
            yield f"What does {_phrase(clause.subject)} {verb}?", _phrase(clause.object), clause
        asked = f"Where does {_phrase(clause.subject)} {verb} {_phrase(clause.object)}?"
        yield asked, _place(clause), clause


def article(rng: Random, number: int, split: str) -> dict:
    """A title, and a paragraph with its questions, as SQuAD has them."""
    clauses = story(rng)
    sentences = [said(rng, clause) for clause in clauses]
    context, asked = " ".join(sentences), []
    begins = [sum(len(text) + 1 for text in sentences[:i]) for i in range(len(sentences))]
    for question, answer, clause in questions(rng, clauses):
        which = next(i for i, other in enumerate(clauses) if other is clause)
        start = begins[which] + sentences[which].lower().index(answer.lower())
        text = context[start : start + len(answer)]
        key = f"{split}-{number}-{len(asked)}"
        asked.append(
            {"id": key, "question": question, "answers": [{"text": text, "answer_start": start}]}
        )
    rng.shuffle(asked)
    return {"title": f"Story {number}", "paragraphs": [{"context": context, "qas": asked[:6]}]}


def write_questions(folder: Path, seed: int, stories: dict[str, int]) -> dict[str, int]:
    """Write `folder`/SPLIT-v1.1.json with so many stories each; return the numbers of questions."""
    seen: set[str] = set()
    counts = {}
    for split, count in stories.items():
        rng, data = Random(f"{seed} {split} questions"), []
        while len(data) < count:
            entry = article(rng, len(data), split)
            if entry["paragraphs"][0]["context"] not in seen:
                seen.add(entry["paragraphs"][0]["context"])
                data.append(entry)
        with atomic_open(folder / f"{split}-v1.1.json") as file:
            json.dump({"version": "1.1", "data": data}, file, indent=1)
        counts[split] = sum(len(entry["paragraphs"][0]["qas"]) for entry in data)
    return counts
