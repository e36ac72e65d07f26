"""Sentences of the demo language: what they mean, how they are said, and which word orders are sentences.

`words_of` turns a meaning (`Clause` or `Compound`) into words; `parse` is a separate recogniser that turns
words back into every meaning they can have, and into none when agreement, determiners, verb arguments or
word order are wrong. Generators only build meanings; nothing else decides what is grammatical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from demo import lexicon as lex


@dataclass(frozen=True)
class NounPhrase:
    """`the old dog near the trees`: determiner, adjectives, noun and at most one modifier.

    A name is a noun without determiner; so is the plural predicate of `all spaniels are dogs`.
    """

    noun: str
    determiner: str = ""
    plural: bool = False
    adjectives: tuple[str, ...] = ()
    modifier: tuple[str, NounPhrase] | None = None


@dataclass(frozen=True)
class Clause:
    """One verb with its arguments. In the passive, `subject` is acted upon and `object` acts.

    Where the place and the adverb stand is a matter of form: it does not count when clauses are compared.
    """

    subject: NounPhrase
    verb: str
    object: NounPhrase | None = None
    adjective: str = ""
    intensifier: str = ""
    negated: bool = False
    adverb: str = ""
    place: tuple[str, NounPhrase] | None = None
    passive: bool = False
    place_first: bool = field(default=False, compare=False)
    adverb_last: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Compound:
    """Two clauses joined by and, but, so, although; or one inside `it is not true that`.

    The link `although` stands before its `second` clause (`first although second`); `although,` stands
    at the head of the sentence and before its `first` (`although first, second`).
    """

    link: str
    first: Clause
    second: Clause | None = None


Meaning = Clause | Compound
DENIAL = "it is not true that"


# --- from meaning to words ---------------------------------------------------------------------------


def _say_noun_phrase(phrase: NounPhrase) -> list[str]:
    noun = lex.plural(phrase.noun) if phrase.plural else phrase.noun
    rest = [*phrase.adjectives, noun]
    if phrase.determiner == "a":
        rest.insert(0, "an" if rest[0][0] in "aeiou" else "a")
    else:
        rest = phrase.determiner.split() + rest
    return rest + (_say_place(phrase.modifier) if phrase.modifier else [])


def _say_place(place: tuple[str, NounPhrase]) -> list[str]:
    return [place[0], *_say_noun_phrase(place[1])]


def _say_clause(clause: Clause) -> list[str]:
    adverb = [clause.adverb] if clause.adverb else []
    before, after = ([], adverb) if clause.adverb_last else (adverb, [])
    plural = clause.subject.plural
    if clause.passive or clause.verb == "be":
        verb = [lex.finite("be", plural)] + ["not"] * clause.negated + before
        verb += [lex.participle(clause.verb), "by"] if clause.passive else []
    elif clause.negated:
        verb = [lex.finite("do", plural), "not", *before, lex.finite(clause.verb, True)]
    else:
        verb = [*before, lex.finite(clause.verb, plural)]
    words = _say_noun_phrase(clause.subject) + verb
    words += _say_noun_phrase(clause.object) if clause.object else []
    words += [word for word in (clause.intensifier, clause.adjective) if word] + after
    if clause.place is None:
        return words
    place = _say_place(clause.place)
    return [*place, ",", *words] if clause.place_first else words + place


def words_of(meaning: Meaning) -> list[str]:
    """The words that say `meaning`, lower case, with commas as words and without the final stop."""
    if isinstance(meaning, Clause):
        return _say_clause(meaning)
    first = _say_clause(meaning.first)
    if meaning.link == DENIAL:
        return DENIAL.split() + first
    second = _say_clause(meaning.second)
    if meaning.link == "although,":
        return ["although", *first, ",", *second]
    comma = [","] if meaning.link in ("and", "but", "so") else []
    return [*first, *comma, meaning.link, *second]


def sentence(words: Sequence[str]) -> str:
    """Written as in a book: capitals for the first word and names, comma and stop attached."""
    words = [word.capitalize() if word in lex.NAMES else word for word in words]
    text = " ".join(words).replace(" ,", ",")
    return text[:1].upper() + text[1:] + "."


def words_in(text: str) -> list[str]:
    """The words of a written sentence, as `parse` wants them."""
    return text.lower().rstrip(". ").replace(",", " , ").split()


# --- from words to meanings --------------------------------------------------------------------------

_NOUN_FORMS = {noun: (noun, False) for noun in lex.NOUNS} | {
    lex.plural(noun): (noun, True) for noun in lex.NOUNS
}
_PARTICIPLES = {lex.participle(verb): verb for verb in lex.TRANSITIVE}
_WITH_OBJECT = {*lex.TRANSITIVE, *lex.OPINION, "have"}
_MAIN_VERBS = (*lex.INTRANSITIVE, *lex.TRANSITIVE, *lex.OPINION, "have", "consider")
_FINITE = {
    (lex.finite(verb, plural), plural): verb for verb in _MAIN_VERBS for plural in (False, True)
}


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""


def _optional(words: Sequence[str], at: int, choices) -> list[tuple[str, int]]:
    """Both readings: the word at `at` is one of `choices`, or it is left out."""
    return [("", at)] + ([(words[at], at + 1)] if _word(words, at) in choices else [])


def _adjectives(words: Sequence[str], at: int) -> tuple[tuple[str, ...], int]:
    end = at
    while _word(words, end) in lex.ADJECTIVES:
        end += 1
    return tuple(words[at:end]), end


def _noun_phrases(
    words: Sequence[str], at: int, modified: bool = False
) -> Iterator[tuple[NounPhrase, int]]:
    if _word(words, at) in lex.NAMES:
        yield NounPhrase(words[at]), at + 1
        return
    head = _word(words, at)
    if f"{head} {_word(words, at + 1)}" in lex.DETERMINERS:
        head = f"{head} {words[at + 1]}"
    start = at + len(head.split())
    following = _word(words, start)[:1]
    if head in ("a", "an"):
        if (head == "an") != (following in tuple("aeiou")):
            return
        head = "a"
    if head not in lex.DETERMINERS:
        return
    adjectives, end = _adjectives(words, start)
    noun, plural = _NOUN_FORMS.get(_word(words, end), ("", False))
    if not noun or plural not in lex.DETERMINERS[head]:
        return
    phrase = NounPhrase(noun, head, plural, adjectives)
    yield phrase, end + 1
    if modified:
        for place, after in _places(words, end + 1):
            yield NounPhrase(noun, head, plural, adjectives, place), after


def _places(words: Sequence[str], at: int) -> Iterator[tuple[tuple[str, NounPhrase], int]]:
    if _word(words, at) in lex.PREPOSITIONS:
        for phrase, end in _noun_phrases(words, at + 1):
            yield (words[at], phrase), end


def _predicates(words: Sequence[str], at: int, plural: bool) -> Iterator[tuple[dict, int]]:
    """Verb, negation, arguments and predicate adjective, as keyword arguments of `Clause`."""
    for adverb, start in _optional(words, at, lex.ADVERBS):
        for part, end in _verb_phrases(words, start, plural):
            if not (adverb and part.get("adverb")):
                yield {**part, "adverb": adverb or part.get("adverb", "")}, end


def _verb_phrases(words: Sequence[str], at: int, plural: bool) -> Iterator[tuple[dict, int]]:
    if _word(words, at) == lex.finite("be", plural):
        for no, here in _optional(words, at + 1, ("not",)):
            for part, end in _after_be(words, here, plural):
                yield {"negated": bool(no), **part}, end
    elif words[at : at + 2] == [lex.finite("do", plural), "not"]:
        for adverb, here in _optional(words, at + 2, lex.ADVERBS):
            verb = _word(words, here)
            if verb in _MAIN_VERBS:
                for part, end in _arguments(words, here + 1, verb):
                    yield {"negated": True, "adverb": adverb, **part}, end
    else:
        verb = _FINITE.get((_word(words, at), plural))
        if verb:
            yield from _arguments(words, at + 1, verb)


def _after_be(words: Sequence[str], at: int, plural: bool) -> Iterator[tuple[dict, int]]:
    for intensifier, here in _optional(words, at, lex.INTENSIFIERS):
        if _word(words, here) in lex.ADJECTIVES:
            yield {"verb": "be", "adjective": words[here], "intensifier": intensifier}, here + 1
    for phrase, end in _noun_phrases(words, at):
        if phrase.determiner == "a" and not plural:
            yield {"verb": "be", "object": phrase}, end
    noun, is_plural = _NOUN_FORMS.get(_word(words, at), ("", False))
    if noun and plural and is_plural:
        yield {"verb": "be", "object": NounPhrase(noun, plural=True)}, at + 1
    for before, here in _optional(words, at, lex.ADVERBS):
        verb = _PARTICIPLES.get(_word(words, here))
        for after, by in _optional(words, here + 1, lex.ADVERBS):
            if verb and _word(words, by) == "by" and not (before and after):
                for agent, end in _noun_phrases(words, by + 1):
                    found = {"verb": verb, "object": agent, "adverb": before or after}
                    yield {"passive": True, **found}, end


def _arguments(words: Sequence[str], at: int, verb: str) -> Iterator[tuple[dict, int]]:
    if verb in lex.INTRANSITIVE:
        yield {"verb": verb}, at
        return
    for phrase, end in _noun_phrases(words, at):
        if verb in _WITH_OBJECT:
            yield {"verb": verb, "object": phrase}, end
            continue
        for intensifier, here in _optional(words, end, lex.INTENSIFIERS):
            if _word(words, here) in lex.ADJECTIVES:
                found = {"adjective": words[here], "intensifier": intensifier}
                yield {"verb": verb, "object": phrase, **found}, here + 1


def _clauses(words: Sequence[str], at: int) -> Iterator[tuple[Clause, int]]:
    openings = [(None, "", at)]
    for place, end in _places(words, at):
        if _word(words, end) == ",":
            openings.append((place, "", end + 1))
    if _word(words, at) in lex.ADVERBS:
        openings.append((None, words[at], at + 1))
    for place, opening_adverb, start in openings:
        for subject, after in _noun_phrases(words, start, modified=True):
            for part, end in _predicates(words, after, subject.plural):
                found = {"subject": subject, **part}
                if opening_adverb and found.get("adverb"):
                    continue
                if opening_adverb:
                    found["adverb"] = opening_adverb
                yield from _closings(words, end, found, place)


def _closings(words: Sequence[str], at: int, found: dict, place) -> Iterator[tuple[Clause, int]]:
    """A clause may end with an adverb and a place, in either order, unless it has them already."""
    ends = [(found.get("adverb", ""), place, at)]
    for adverb, last_place, end in ends:
        yield (
            Clause(
                **{**found, "adverb": adverb},
                place=last_place,
                place_first=place is not None,
                adverb_last=adverb != found.get("adverb", ""),
            ),
            end,
        )
        if not adverb and _word(words, end) in lex.ADVERBS:
            ends.append((words[end], last_place, end + 1))
        if last_place is None:
            ends.extend((adverb, new_place, after) for new_place, after in _places(words, end))


def _sentences(words: Sequence[str]) -> Iterator[tuple[Meaning, int]]:
    if words[:5] == DENIAL.split():
        for clause, end in _clauses(words, 5):
            yield Compound(DENIAL, clause), end
    if _word(words, 0) == "although":
        for first, end in _clauses(words, 1):
            if _word(words, end) == ",":
                for second, last in _clauses(words, end + 1):
                    yield Compound("although,", first, second), last
    for first, end in _clauses(words, 0):
        yield first, end
        comma = _word(words, end) == ","
        link = _word(words, end + comma)
        if link in (("and", "but", "so") if comma else ("although",)):
            for second, last in _clauses(words, end + comma + 1):
                yield Compound(link, first, second), last


def parse(words: Sequence[str]) -> list[Meaning]:
    """Every meaning of a sentence given as words; an empty list if it is not a sentence."""
    words = list(words)
    return [meaning for meaning, end in _sentences(words) if end == len(words)]
