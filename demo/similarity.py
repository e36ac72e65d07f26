"""A regression task in STS-B's layout: pairs of sentences of the demo's language, and how alike they are.

The second sentence says the first again in other words, with some of its content words, or its place or
adverb, exchanged for others. The label, 0 to 5, is the share of what both have in common. It is not among
the demo's tasks; benchmarks/optimizers.py learns it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from demo import lexicon as lex
from demo.glue import KINDS_OF_WORDS
from demo.language import Clause, sentence, words_of
from demo.writing import content_slots, noun_phrase, other_word, place, reworded
from files.atomic import atomic_open

_HEADER = (
    "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"  # as STS-B's
)


def similarity_pairs(rng: Random) -> Iterator[tuple[float, str, str]]:
    """Endless (label, sentence, sentence); the label has one decimal."""
    articles = (("the",), ("the",))
    while True:
        agent, patient = (noun_phrase(rng, lex.ANIMATE_NOUNS, articles, 0.0, 0.3) for _ in "ab")
        if lex.canonical(agent.noun) == lex.canonical(patient.noun):
            continue
        adverb = rng.choice(lex.ADVERBS)
        clause = Clause(
            agent, rng.choice(tuple(lex.TRANSITIVE)), patient, place=place(rng), adverb=adverb
        )
        slots = content_slots(clause)
        changed = rng.randint(0, len(slots))
        other = clause
        for word, put in rng.sample(slots, changed):
            (kind,) = (words for words in KINDS_OF_WORDS if word in words)
            other = put(other, other_word(rng, word, kind))
        first, second = (sentence(words_of(reworded(rng, c))) for c in (clause, other))
        yield round(5 * (1 - changed / len(slots)), 1), first, second


def write_similarity(folder: Path, seed: int, sizes: dict[str, int]) -> None:
    """Write `folder`/SPLIT.tsv, of so many rows each; no pair stands in two of them."""
    seen: set[tuple[str, str]] = set()
    for split, size in sizes.items():
        rows = []
        for label, first, second in similarity_pairs(Random(f"{seed} {split}")):
            if (first, second) not in seen:
                seen.add((first, second))
                rows.append(f"{len(rows)}{6 * chr(9)}demo\t{first}\t{second}\t{label}\n")
            if len(rows) == size:
                break
        with atomic_open(folder / f"{split}.tsv") as file:
            file.writelines([f"{_HEADER}\tscore\n", *rows])
