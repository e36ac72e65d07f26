"""Statements with quantifiers and names, and altered ones that may or may not follow from them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from demo import lexicon as lex
from demo.language import Clause, NounPhrase
from demo.meaning import quantifier
from demo.writing import other_word, place, synonym_of

_SUBJECTS = (
    *[("some",)] * 3, *[("every", "each", "all")] * 3, ("no",), ("not every", "not all"),
)  # fmt: skip


def statement(rng: Random) -> Clause:
    """A premise: a name or a quantified noun, and a predicate with an indefinite object or none."""
    if rng.random() < 0.3:
        subject = NounPhrase(rng.choice(lex.NAMES))
    else:
        determiner = rng.choice(rng.choice(_SUBJECTS))
        plural = rng.choice(lex.DETERMINERS[determiner])
        adjectives = (rng.choice(lex.NEUTRAL_ADJECTIVES),) if rng.random() < 0.2 else ()
        subject = NounPhrase(rng.choice(lex.ANIMATE_NOUNS), determiner, plural, adjectives)
    negated = not subject.determiner and rng.random() < 0.3
    if rng.random() < (0.9 if not subject.determiner else 0.4):
        adjectives = (rng.choice(lex.NEUTRAL_ADJECTIVES),) if rng.random() < 0.2 else ()
        patient = NounPhrase(rng.choice(lex.TAXONOMY_NOUNS), "a", adjectives=adjectives)
        clause = Clause(subject, rng.choice(tuple(lex.TRANSITIVE)), patient, negated=negated)
    else:
        clause = Clause(subject, rng.choice(tuple(lex.INTRANSITIVE)), negated=negated)
    return replace(clause, place=place(rng)) if rng.random() < 0.35 else clause


_NARROWER: dict[str, list[str]] = {}
for _noun in lex.TAXONOMY_NOUNS:
    for _wider in lex.superclasses(_noun)[1:]:
        _NARROWER.setdefault(_wider, []).append(_noun)


def _other_noun(rng: Random, noun: str) -> str:
    """A wider, narrower, synonymous or different noun."""
    kind = rng.randrange(9)
    wider = [word for top in lex.superclasses(noun)[1:] for word in (top, *lex.synonyms(top))]
    narrower = _NARROWER.get(lex.canonical(noun), [])
    if kind < 4 and (wider or narrower):
        return rng.choice(rng.choice([words for words in (wider, narrower) if words]))
    if kind < 5:
        return synonym_of(rng, noun)
    return other_word(rng, noun, lex.TAXONOMY_NOUNS)


def altered(rng: Random, clause: Clause) -> Clause:
    """The statement with one thing changed: a noun, an adjective, the verb, the place or the quantifier."""
    kind = rng.randrange(10)
    phrases = [role for role in ("subject", "object") if getattr(clause, role)]
    role = rng.choice([role for role in phrases if getattr(clause, role).determiner] or [""])
    phrase = getattr(clause, role) if role else None
    if kind < 5 and phrase:
        return replace(clause, **{role: replace(phrase, noun=_other_noun(rng, phrase.noun))})
    if kind == 5 and phrase:
        added = () if phrase.adjectives else (rng.choice(lex.NEUTRAL_ADJECTIVES),)
        return replace(clause, **{role: replace(phrase, adjectives=added)})
    if kind == 6:
        return replace(clause, place=None if clause.place else place(rng))
    if kind == 7:
        verb = synonym_of(rng, clause.verb)
        if verb == clause.verb or rng.random() < 0.5:
            kinds = lex.TRANSITIVE if clause.verb in lex.TRANSITIVE else lex.INTRANSITIVE
            verb = other_word(rng, clause.verb, tuple(kinds))
        return replace(clause, verb=verb)
    weaker = {"every": "some", "no": "not every"}.get(quantifier(clause))
    if kind == 8 and weaker:
        plural = clause.subject.plural
        determiner = "not all" if weaker == "not every" and plural else weaker
        return replace(clause, subject=replace(clause.subject, determiner=determiner))
    return clause
