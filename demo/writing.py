"""Random meanings of the demo language: who does what to whom, what a critic thinks, and variations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from demo import lexicon as lex
from demo.language import DENIAL, Clause, Compound, Meaning, NounPhrase, words_of

DEFINITE = ("the", "the", "this", "that", "a", "some", "every", "no")
DEFINITE_PLURAL = ("the", "the", "these", "those", "two", "many", "all", "some", "no")


def is_held_out(meaning: Meaning | Sequence[str]) -> bool:
    """Whether a sentence belongs to the quarter that only dev and test sets may use.

    Decided by the sentence itself, so that the corpus, the training sets and the dev sets, each made
    alone, never share one.
    """
    words = words_of(meaning) if isinstance(meaning, Clause | Compound) else meaning
    return zlib.crc32(" ".join(words).encode()) % 4 == 0


def noun_phrase(
    rng: Random,
    nouns: Sequence[str],
    determiners: tuple[Sequence[str], Sequence[str]] = (DEFINITE, DEFINITE_PLURAL),
    adjective: float = 0.3,
    name: float = 0.0,
) -> NounPhrase:
    """A random name, or noun with a determiner of its number (singular and plural choices given)."""
    if rng.random() < name:
        return NounPhrase(rng.choice(lex.NAMES))
    plural = rng.random() < 0.5
    adjectives = (rng.choice(lex.NEUTRAL_ADJECTIVES),) if rng.random() < adjective else ()
    return NounPhrase(rng.choice(nouns), rng.choice(determiners[plural]), plural, adjectives)


def place(rng: Random) -> tuple[str, NounPhrase]:
    return rng.choice(lex.PREPOSITIONS), NounPhrase(rng.choice(lex.PLACE_NOUNS), "the")


def action(rng: Random, subject: NounPhrase, transitive: float = 0.5) -> Clause:
    """A clause in which `subject` does or is something."""
    kind = rng.random()
    if kind < transitive:
        patient = noun_phrase(rng, lex.TAXONOMY_NOUNS, (("the", "a"), ("the", "two")), 0.2, 0.1)
        clause = Clause(subject, rng.choice(tuple(lex.TRANSITIVE)), patient)
    elif kind < 0.85:
        clause = Clause(subject, rng.choice(tuple(lex.INTRANSITIVE)))
    else:
        adjective = rng.choice(lex.NEUTRAL_ADJECTIVES)
        intensifier = rng.choice(lex.INTENSIFIERS) if rng.random() < 0.4 else ""
        return Clause(subject, "be", adjective=adjective, intensifier=intensifier)
    if rng.random() < 0.3:
        clause = replace(clause, adverb=rng.choice(lex.ADVERBS), adverb_last=rng.random() < 0.5)
    if rng.random() < 0.35:
        clause = replace(clause, place=place(rng), place_first=rng.random() < 0.3)
    return clause


def fact(rng: Random, noun: str, class_name: str) -> Clause:
    """One way to say that `noun` is a kind of `class_name`."""
    determiner = rng.choice(("every", "a", "all"))
    if determiner == "all":
        return Clause(NounPhrase(noun, "all", True), "be", NounPhrase(class_name, plural=True))
    return Clause(NounPhrase(noun, determiner), "be", NounPhrase(class_name, "a"))


def synonym_of(rng: Random, word: str) -> str:
    """Another word of the same meaning if there is one, else the word itself."""
    return rng.choice(lex.synonyms(word) or (word,))


def other_word(rng: Random, word: str, choices: Sequence[str]) -> str:
    """A word of the same kind that means something else."""
    return rng.choice([other for other in choices if lex.canonical(other) != lex.canonical(word)])


def opinion(rng: Random, polarity: int, work: str, negation: float = 0.3) -> Clause:
    """A clause that praises (+1) or blames (-1) the work, by a negated word of the other polarity or not."""
    negated = rng.random() < negation
    wanted = -polarity if negated else polarity
    words = lex.POSITIVE if wanted > 0 else lex.NEGATIVE
    intensifier = rng.choice(lex.INTENSIFIERS) if rng.random() < 0.3 else ""
    about = NounPhrase(work, rng.choice(("the", "the", "this")))
    kind = rng.randrange(10)
    if kind < 4:
        return Clause(
            about, "be", adjective=rng.choice(words), intensifier=intensifier, negated=negated
        )
    if kind < 6:
        part = NounPhrase(rng.choice(lex.PART_NOUNS), "a", adjectives=(rng.choice(words),))
        return Clause(about, "have", part, negated=negated)
    verb = rng.choice([verb for verb in lex.OPINION if lex.polarity(verb) == wanted])
    # `no critic` negates as `does not` does; both together praise again.
    no_one = rng.random() < 0.25
    if no_one:
        judge = NounPhrase(rng.choice(lex.CRITICS), "no")
        negated = not negated
    elif rng.random() < 0.3:
        judge = NounPhrase(rng.choice(lex.CRITICS), rng.choice(("the", "this")))
    else:
        judge = NounPhrase(rng.choice(lex.NAMES))
    if kind < 8:
        return Clause(judge, verb, about, negated=negated)
    adjective = rng.choice(words)
    return Clause(
        judge, "consider", about, adjective=adjective, intensifier=intensifier, negated=negated
    )


def review(rng: Random, polarity: int, work: str, negation: float = 0.3) -> Meaning:
    """A sentence of one or two clauses whose verdict is `polarity`."""
    kind = rng.randrange(10)
    if kind < 5:
        return opinion(rng, polarity, work, negation)
    if kind == 5:
        return Compound(DENIAL, opinion(rng, -polarity, work, negation))
    # Either clause may come first; the link says which one counts.
    link = ("and", "but", "although,", "although")[kind - 6]
    first, second = {"and": (1, 1), "although": (1, -1)}.get(link, (-1, 1))
    return Compound(
        link,
        opinion(rng, first * polarity, work, negation),
        opinion(rng, second * polarity, work, negation),
    )


def reworded(rng: Random, clause: Clause, least: int = 0) -> Clause:
    """The same meaning in other words: synonyms, active and passive, place and adverb elsewhere.

    At least `least` words are replaced, if so many have synonyms.
    """
    slots = [slot for slot in content_slots(clause) if lex.synonyms(slot[0])]
    for word, put in rng.sample(
        slots, max(min(least, len(slots)), rng.randint(0, min(2, len(slots))))
    ):
        clause = put(clause, synonym_of(rng, word))
    turns = clause.verb in lex.TRANSITIVE and not clause.negated and not clause.subject.modifier
    if turns and rng.random() < 0.3:
        clause = replace(
            clause, passive=not clause.passive, subject=clause.object, object=clause.subject
        )
    return replace(
        clause, place_first=clause.place is not None and rng.random() < 0.5,
        adverb_last=bool(clause.adverb) and rng.random() < 0.5,
    )  # fmt: skip


Slot = tuple[str, Callable[[Clause, str], Clause]]


def content_slots(clause: Clause) -> list[Slot]:
    """The content words of a clause, each with a function that puts another in its place."""
    slots: list[Slot] = []
    for role in ("subject", "object"):
        phrase = getattr(clause, role)
        if phrase is None or phrase.noun in lex.NAMES:
            continue
        slots.append((phrase.noun, lambda c, w, r=role: _with_phrase(c, r, noun=w)))
        if phrase.adjectives:
            word = phrase.adjectives[0]
            slots.append((word, lambda c, w, r=role: _with_phrase(c, r, adjectives=(w,))))
    if clause.verb not in ("be", "have"):
        slots.append((clause.verb, lambda c, w: replace(c, verb=w)))
    for role in ("adjective", "adverb"):
        if getattr(clause, role):
            slots.append((getattr(clause, role), lambda c, w, r=role: replace(c, **{r: w})))
    if clause.place:
        noun = clause.place[1].noun
        slots.append(
            (noun, lambda c, w: replace(c, place=(c.place[0], replace(c.place[1], noun=w))))
        )
    return slots


def _with_phrase(clause: Clause, role: str, **changes) -> Clause:
    return replace(clause, **{role: replace(getattr(clause, role), **changes)})
