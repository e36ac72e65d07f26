"""What follows from a sentence of the demo language: entailment, sentiment, sameness of meaning."""

from __future__ import annotations

from dataclasses import replace

from demo import lexicon as lex
from demo.language import DENIAL, Clause, Compound, Meaning, NounPhrase

# Does making the restrictor (the noun) or the scope (the predicate) wider keep the sentence true?
# +1: wider keeps it true; -1: narrower does.
_MONOTONE = {"some": (1, 1), "every": (-1, 1), "no": (-1, -1), "not every": (1, -1)}


def _noun_includes(wide: NounPhrase, narrow: NounPhrase) -> bool:
    """Whether everything that is a `narrow` (`old spaniel`) is a `wide` (`dog`)."""
    adjectives = {lex.canonical(word) for word in narrow.adjectives}
    return lex.is_a(narrow.noun, wide.noun) and all(
        lex.canonical(word) in adjectives for word in wide.adjectives
    )


def _predicate_includes(wide: Clause, narrow: Clause) -> bool:
    """Whether doing `narrow` (`chases a spaniel near the river`) is doing `wide` (`pursues a dog`)."""
    if lex.canonical(wide.verb) != lex.canonical(narrow.verb):
        return False
    if lex.canonical(wide.adjective) != lex.canonical(narrow.adjective):
        return False
    if wide.adverb and lex.canonical(wide.adverb) != lex.canonical(narrow.adverb):
        return False
    if wide.place and (narrow.place is None or _canonical_place(wide) != _canonical_place(narrow)):
        return False
    if wide.object is None or narrow.object is None:
        return wide.object is narrow.object
    return _noun_includes(wide.object, narrow.object)


def quantifier(clause: Clause) -> str:
    """The operator of a clause's subject: some, every, no, not every, a name, or `not` and a name."""
    if clause.subject.determiner:
        return lex.canonical(clause.subject.determiner)
    return f"not {clause.subject.noun}" if clause.negated else clause.subject.noun


def entails(premise: Clause, hypothesis: Clause) -> bool:
    """Whether the hypothesis is true in every situation in which the premise is.

    Subjects are names or quantified nouns, objects are indefinite; `some` means at least one, and the
    nouns a sentence speaks about exist (`every dog sleeps` says that there are dogs). Monotonicity does
    the work: `every` is downward monotone in its noun and upward in its predicate, and so on.
    """
    stronger, weaker = quantifier(premise), quantifier(hypothesis)
    if (stronger, weaker) in (("every", "some"), ("no", "not every")):
        # There is an A, and each A is (not) B: so it is for every class wider than A.
        restrictor, scope = _MONOTONE[weaker]
    elif stronger == weaker:
        restrictor, scope = _MONOTONE.get(stronger, (0, -1 if premise.negated else 1))
    else:
        return False
    if restrictor:
        nouns = (hypothesis.subject, premise.subject)
        if not _noun_includes(*nouns[::restrictor]):
            return False
    return _predicate_includes(*(hypothesis, premise)[::scope])


def hinges_on_existence(premise: Clause, hypothesis: Clause) -> bool:
    """Whether people may disagree on the pair: does `some old dog sleeps` follow from `every dog sleeps`?

    Only if there is an old dog, which the hypothesis takes for granted and the premise does not say.
    """
    changed = quantifier(premise) != quantifier(hypothesis)
    narrower = _noun_includes(premise.subject, hypothesis.subject)
    return changed and narrower and not _noun_includes(hypothesis.subject, premise.subject)


def sentiment(meaning: Meaning) -> int:
    """+1 or -1: whether the sentence praises or blames what it is about; 0 if neither.

    After `but`, and outside `although`, stands what counts.
    """
    if isinstance(meaning, Compound):
        if meaning.link == DENIAL:
            return -sentiment(meaning.first)
        return sentiment(meaning.first if meaning.link == "although" else meaning.second)
    words = [meaning.adjective, meaning.verb]
    if meaning.verb == "have":
        words += meaning.object.adjectives
    negations = meaning.negated + (meaning.subject.determiner == "no")
    return sum(lex.polarity(word) for word in words) * (-1) ** negations


def _canonical_noun(phrase: NounPhrase | None) -> NounPhrase | None:
    if phrase is None:
        return None
    return replace(
        phrase,
        noun=lex.canonical(phrase.noun),
        adjectives=tuple(sorted(map(lex.canonical, phrase.adjectives))),
    )


def _canonical_place(clause: Clause):
    return clause.place and (clause.place[0], _canonical_noun(clause.place[1]))


def canonical_form(clause: Clause) -> Clause:
    """The active clause in standard words that means the same; paraphrases share it."""
    agent, patient = clause.subject, clause.object
    if clause.passive:
        agent, patient = patient, agent
    return replace(
        clause,
        subject=_canonical_noun(agent),
        object=_canonical_noun(patient),
        verb=lex.canonical(clause.verb),
        adjective=lex.canonical(clause.adjective),
        adverb=lex.canonical(clause.adverb),
        place=_canonical_place(clause),
        passive=False,
    )
