"""Text that was wrapped at a width is told from verses, lists and one sentence a line, and joined."""

from __future__ import annotations

import textwrap

import pytest

from corpus.line_breaks import Wrapping, find_wrapping
from corpus.text_files import read_blocks

PROSE = (
    "It was a bright cold day in the old town, and the clocks were striking. The keeper of the "
    "lighthouse, who had not slept, slipped quickly through the doors of glass. A gust of dust came "
    "in with him. He wore a coat that had once been blue, and carried under his arm a well-known "
    "book of travels. Nobody looked up from the long tables, for the reading had begun."
)
GERMAN = (
    "Der Hund läuft durch den Garten, und die Katze sitzt auf dem Dach des Hauses, weil die Sonne dort "
    "am Nachmittag scheint. Am Abend kommen die Kinder nach Hause und spielen mit dem Hund im Garten. "
    "Später wird es dunkel, und alle gehen müde in ihre Zimmer, wo schon die Lampen brennen und eine "
    "alte Uhr so leise tickt, dass man sie kaum noch hören kann. Nur der Hund schläft draußen vor der "
    "Tür, weil er die Nacht und ihre vielen Geräusche liebt und nichts davon versäumen will."
)
HINDI = (
    "यह एक लंबा वाक्य है जिसमें बहुत सारे शब्द हैं और यह आगे चलता रहता है। फिर दूसरा वाक्य आता है जो छोटा है। " * 4
)
CHINESE = (
    "天地玄黄宇宙洪荒日月盈昃辰宿列张。寒来暑往秋收冬藏闰余成岁律吕调阳，云腾致雨露结为霜。" * 6
)
SONNET = [
    "Shall I compare thee to a summer's day?",
    "Thou art more lovely and more temperate:",
    "Rough winds do shake the darling buds of May,",
    "And summer's lease hath all too short a date;",
    "Sometime too hot the eye of heaven shines,",
    "And often is his gold complexion dimm'd;",
]


@pytest.mark.parametrize("width", [30, 45, 72, 100])
@pytest.mark.parametrize("text", [PROSE, GERMAN, HINDI], ids=["english", "german", "hindi"])
def test_wrapped_prose_is_recognised_and_comes_back(text, width):
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    assert find_wrapping([lines]).join(lines) == [" ".join(text.split())]


def test_scripts_without_blanks_are_joined_without_them():
    lines = [CHINESE[i : i + 30] for i in range(0, len(CHINESE), 30)]
    assert find_wrapping([lines]).join(lines) == [CHINESE]


def test_lines_of_chinese_may_be_narrow():
    lines = [CHINESE[i : i + 14] for i in range(0, len(CHINESE), 14)]
    assert find_wrapping([lines]).join(lines) == [CHINESE]


def test_a_word_cut_at_the_end_of_a_short_line_is_joined():
    lines = ["a debate of inter-", "national law was a mat-", "ter", "Mat-", "Ter"]
    joined = Wrapping(40, frozenset({"international", "matter"})).join(lines)
    assert joined == ["a debate of international law was a matter", "Mat-", "Ter"]


@pytest.mark.parametrize(
    "lines",
    [
        PROSE.replace(". ", ".\n").split("\n"),
        PROSE.replace(". ", "\n").lower().split("\n"),
        [PROSE, GERMAN, PROSE[:200], PROSE[50:]],
        HINDI.replace("। ", "।\n").split("\n"),
        CHINESE.replace("。", "。\n").split("\n"),
        SONNET,
        ["red apples from the garden", "green pears from the market", "a loaf of bread and butter"],
        ["- red apples from the garden", "- green pears of the market", "- a loaf of bread and butter"],
        ["Chapter One of the First Book", "Chapter Two of the First Book", "Chapter Three of It All"],
        ["the cat.", "the dog.", "", "a b.", "b a."],
        ["2026-01-01 12:00:00 started the server", "2026-01-01 12:00:01 stopped the server"] * 9,
        ["one line"],
        [],
    ],
    ids=["sentences", "unpunctuated", "paragraphs", "hindi", "chinese", "verses", "list", "bullets",
         "headings", "short", "log", "one", "none"],
)  # fmt: skip
def test_other_text_is_left_alone(lines):
    assert find_wrapping([lines]) is None


def test_verses_lists_and_headings_within_wrapped_prose_keep_their_line_ends():
    prose = textwrap.wrap(PROSE, 72)
    verses = [f"    {line}" for line in SONNET[:3]]
    items = ["- red apples from the garden of the old lighthouse keeper, and also", "  green pears"]
    items += ["- a loaf of bread"]
    lines = [*prose, "", *verses, "", "A Heading", *prose, *items]
    joined = find_wrapping([lines]).join(lines)
    whole = " ".join(prose)
    item = "- red apples from the garden of the old lighthouse keeper, and also green pears"
    assert joined == [whole, "", *verses, "", "A Heading", whole, item, "- a loaf of bread"]


@pytest.mark.parametrize(
    ("left", "right", "joined"),
    [
        ("a line that ends in hyphen-", "ation goes on", "a line that ends in hyphenation goes on"),
        ("a line that ends in well-", "known words", "a line that ends in well-known words"),
        ("a line that ends in pre-", "and post-war", "a line that ends in pre- and post-war"),
        ("a line that ends in hy\u00ad", "phens", "a line that ends in hyphens"),
        ("a line that ends in a dash -", "then goes", "a line that ends in a dash - then goes"),
        ("a line that ends in a dash—", "then goes", "a line that ends in a dash—then goes"),
    ],
)
def test_hyphens_and_dashes_at_line_ends(left, right, joined):
    assert Wrapping(28, frozenset({"hyphenation"})).join([left, right]) == [joined]


def test_joined_lines_are_in_one_block_and_in_the_range_where_they_begin(tmp_path):
    path = tmp_path / "text.txt"
    paragraphs = [PROSE[i:] for i in range(0, 200, 40)]
    text = "\n\n".join("\n".join(textwrap.wrap(p, 50, break_on_hyphens=False)) for p in paragraphs)
    path.write_text(text)
    wrapping = find_wrapping([text.split("\n")])
    whole = wrapping.join(text.split("\n"))
    for size in (1, 70, 1000, 10**6):
        blocks = list(read_blocks(path, size, joins=wrapping.joins_bytes))
        assert "".join(block.data.decode() for block in blocks) == text
        assert [line for block in blocks for line in wrapping.join(block.lines())] == whole
        for block in blocks:
            assert text.split("\n")[block.first_line - 1] == block.lines()[0]
    for count in (2, 3, 7, 50):
        cuts = [len(text.encode()) * i // count for i in range(count + 1)]
        found = []
        for low, high in zip(cuts, cuts[1:], strict=False):
            for block in read_blocks(path, 64, range(low, high), wrapping.joins_bytes):
                assert text.split("\n")[block.first_line - 1] == block.lines()[0]
                found += wrapping.join(block.lines())
        assert found == whole
