"""The demo's encyclopedia: coherent short articles, written as a MediaWiki dump.

Three kinds of article: stories (something happens, is said again in other words, and in general terms),
reviews (one work, one verdict), and articles about classes (what is a kind of what; what holds of all, some
or none of them, and what follows from it). No sentence of a dev or test set occurs in them.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

from demo import lexicon as lex
from demo.language import DENIAL, Clause, Compound, Meaning, NounPhrase, sentence, words_of
from demo.meaning import entails, hinges_on_existence
from demo.statements import altered, statement
from demo.writing import action, fact, is_held_out, noun_phrase, opinion, review, reworded
from files.atomic import atomic_open

MEANINGS_PER_ARTICLE = (7, 12)


@dataclass(frozen=True)
class Article:
    """A title and sections of sentences (words); the first section has no heading."""

    title: str
    sections: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


def _allowed(meaning: Meaning) -> bool:
    parts = (meaning.first, meaning.second) if isinstance(meaning, Compound) else ()
    return not any(is_held_out(part) for part in (meaning, *parts) if part)


def _draw(make: Callable[[], Meaning | None]) -> list[Meaning]:
    """One thing that `make` makes and the corpus may say, or nothing if some tries give none."""
    for _ in range(40):
        meaning = make()
        if meaning is not None and _allowed(meaning):
            return [meaning]
    return []


def _fact_about(rng: Random, noun: str) -> Iterator[Clause]:
    """That `noun` is a kind of some wider class. Facts belong to no task, so none is held out."""
    wider = lex.superclasses(noun)[1:]
    if wider:
        name = rng.choice(wider)
        yield fact(rng, noun, rng.choice((name, *lex.synonyms(name))))


def _story(rng: Random, topic: str) -> Iterator[Meaning]:
    hero = noun_phrase(rng, lex.ANIMATE_NOUNS, (("the",), ("the",)), 0.5, 0.4)
    heroes = [NounPhrase(topic, "the", rng.random() < 0.5), hero]
    while True:
        subject, other = rng.sample(heroes, 2)
        if rng.random() < 0.2:
            subject = noun_phrase(rng, lex.ANIMATE_NOUNS)
            if subject.determiner and rng.random() < 0.6:
                near = noun_phrase(rng, lex.TAXONOMY_NOUNS, (("the",), ("the",)), 0.0)
                subject = replace(subject, modifier=(rng.choice(lex.PREPOSITIONS), near))

        def event(subject=subject, other=other):
            clause = action(rng, subject)
            if clause.object and rng.random() < 0.5:
                clause = replace(clause, object=other)
            return replace(clause, negated=rng.random() < 0.1)

        clause = next(iter(_draw(event)), None)
        if clause is None:
            continue
        yield clause
        if rng.random() < 0.6:
            yield from _draw(lambda clause=clause: reworded(rng, clause, least=1))
        for phrase in (clause.subject, clause.object):
            if phrase and rng.random() < 0.25:
                yield from _fact_about(rng, phrase.noun)


def _review(rng: Random, topic: str) -> Iterator[Meaning]:
    polarity = rng.choice((-1, 1))
    while True:
        names = (topic, topic, *lex.synonyms(topic))
        make = rng.choice((opinion, review))
        # Less negation than in SST-2: what a word is worth is learned from the company it keeps.
        yield from _draw(
            lambda make=make, names=names: make(rng, polarity, rng.choice(names), negation=0.15)
        )


def _class_article(rng: Random, topic: str) -> Iterator[Meaning]:
    yield from _fact_about(rng, topic)
    while True:

        def about_topic() -> Clause:
            clause = statement(rng)
            if clause.subject.determiner and rng.random() < 0.5:
                clause = replace(clause, subject=replace(clause.subject, noun=topic))
            return clause

        for premise in _draw(about_topic):
            yield from _said_of(rng, premise)


def _said_of(rng: Random, premise: Clause) -> Iterator[Meaning]:
    """A statement, and what follows from it, or a denial of what does not."""
    follows = rng.random() < 0.6

    def consequence() -> Clause | None:
        clause = altered(rng, premise)
        if clause == premise or hinges_on_existence(premise, clause):
            return None
        return clause if entails(premise, clause) == follows else None

    for conclusion in _draw(consequence):
        if not follows:
            yield premise
            yield Compound(DENIAL, conclusion)
        elif rng.random() < 0.5:
            yield Compound("so", premise, conclusion)
        else:
            yield premise
            yield conclusion
    for phrase in (premise.subject, premise.object):
        if phrase and rng.random() < 0.3:
            yield from _fact_about(rng, phrase.noun)


def _title(rng: Random, kind: Callable, topic: str) -> str:
    adjective = rng.choice(lex.NEUTRAL_ADJECTIVES)
    if kind is _story:
        return f"{rng.choice(lex.NAMES).capitalize()} and the {adjective} {topic}"
    if kind is _review:
        return f"The {adjective} {rng.choice(lex.TAXONOMY_NOUNS)} ({topic})"
    return f"{adjective.capitalize()} {lex.plural(topic)} of the {rng.choice(lex.PLACE_NOUNS)}"


def articles(seed: int, count: int) -> Iterator[Article]:
    """`count` articles with different titles; a longer run with the same seed starts with the same ones."""
    titles: set[str] = set()
    for number in range(count):
        rng = Random(f"{seed} article {number}")
        kind = rng.choice((_story, _story, _review, _class_article, _class_article))
        topic = rng.choice(lex.WORK_NOUNS if kind is _review else lex.ANIMATE_NOUNS)
        title = _title(rng, kind, topic)
        while title in titles:
            title = _title(rng, kind, topic)
        titles.add(title)
        meanings = kind(rng, topic)
        said = [tuple(words_of(next(meanings))) for _ in range(rng.randint(*MEANINGS_PER_ARTICLE))]
        cut = len(said) // 2 if rng.random() < 0.2 else len(said)
        heading = rng.choice(("History", "Details", "Notes"))
        sections = (("", tuple(said[:cut])), (heading, tuple(said[cut:])))
        yield Article(title, tuple(section for section in sections if section[1]))


# --- MediaWiki ---------------------------------------------------------------------------------------

_HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.mediawiki.org/xml/export-0.10/ \
http://www.mediawiki.org/xml/export-0.10.xsd" version="0.10" xml:lang="en">
  <siteinfo>
    <sitename>Demo Encyclopedia</sitename>
    <dbname>demowiki</dbname>
    <base>https://demo.example.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.39.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Talk</namespace>
      <namespace key="10" case="first-letter">Template</namespace>
      <namespace key="14" case="first-letter">Category</namespace>
    </namespaces>
  </siteinfo>
"""


def _page(number: int, title: str, text: str, namespace: int = 0, redirect: str = "") -> str:
    target = f'    <redirect title="{escape(redirect)}" />\n' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n"
        f"    <id>{number}</id>\n{target}    <revision>\n      <id>{number + 100000}</id>\n"
        "      <timestamp>2024-01-01T00:00:00Z</timestamp>\n"
        "      <contributor><username>Demo</username><id>1</id></contributor>\n"
        "      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text xml:space="preserve">{escape(text)}</text>\n'
        "    </revision>\n  </page>\n"
    )


def _marked_up(rng: Random, words: tuple[str, ...]) -> str:
    """The sentence as wikitext: now and then a link, bold or italic word, or a reference."""
    written = sentence(words)
    tokens = written[:-1].split(" ")
    at = rng.randrange(len(tokens))
    word = tokens[at].rstrip(",")
    comma = tokens[at][len(word) :]
    form = rng.choice(
        ("[[{0}]]", "[[{1}|{0}]]", "'''{0}'''", "''{0}''", "{0}", "{0}", "{0}", "{0}")
    )
    tokens[at] = form.format(word, word.capitalize()) + comma
    note = f"<ref>Demo, page {rng.randrange(1, 99)}.</ref>" if rng.random() < 0.05 else ""
    return " ".join(tokens) + "." + note


def wikitext(rng: Random, article: Article) -> str:
    """The article in MediaWiki's markup: an infobox, paragraphs, headings, links and a category."""
    blocks = ["{{Infobox|name=" + article.title + "|kind=demo}}"]
    for heading, sentences in article.sections:
        if heading:
            blocks.append(f"== {heading} ==")
        blocks.append(" ".join(_marked_up(rng, words) for words in sentences))
    blocks.append("[[Category:Demo]]")
    return "\n\n".join(blocks)


def write_dump(path: Path, seed: int, count: int) -> int:
    """Write `count` articles, a template, redirects and an empty page; return the number of sentences."""
    pages, sentences = [_page(1, "Template:Infobox", "<small>{{{name}}}</small>", 10)], 0
    for number, article in enumerate(articles(seed, count), 2):
        rng = Random(f"{seed} markup {number}")
        pages.append(_page(2 * number, article.title, wikitext(rng, article)))
        sentences += sum(len(section) for _, section in article.sections)
        if number % 50 == 0:
            text = f"#REDIRECT [[{article.title}]]"
            pages.append(_page(2 * number + 1, article.title.upper(), text, redirect=article.title))
    pages.append(_page(2 * count + 9, "A page without text", ""))
    data = (_HEADER + "".join(pages) + "</mediawiki>\n").encode()
    with atomic_open(path, "wb") as file:
        file.write(bz2.compress(data))
    return sentences
