"""What a report is made of, and how it is written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Row = Sequence[object]


class Table(NamedTuple):
    """Rows of cells below a header."""

    header: Row
    rows: Sequence[Row]


class Bullets(NamedTuple):
    """A list of lines."""

    lines: Sequence[str]


class Figure(NamedTuple):
    """A picture, as an `<svg>` element or as the bytes of a PNG, and what it shows in words."""

    picture: str | bytes
    alt: str


class Figures(NamedTuple):
    """Figures beside one another, as many as there is room for."""

    figures: Sequence[Figure]


class Folded(NamedTuple):
    """Blocks that a reader opens."""

    title: str
    blocks: Sequence[Block]


Block = str | Table | Bullets | Figures | Folded  # a string is a paragraph


class Section(NamedTuple):
    """A titled part of the report; one without blocks is not written."""

    title: str
    blocks: Sequence[Block]


def markdown(sections: Sequence[Section]) -> str:
    """The sections as Markdown; of a figure, what it shows and where it is."""
    parts = []
    for title, blocks in sections:
        texts = [text for text in map(_markdown, blocks) if text]
        if texts:
            parts += [f"## {title}", *texts]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Bullets):
        return "\n".join(f"- {line}" for line in block.lines)
    if isinstance(block, Folded):
        return "\n\n".join(filter(None, map(_markdown, block.blocks)))
    if isinstance(block, Figures):
        return "\n".join(f"- figure in report.html: {figure.alt}" for figure in block.figures)
    return block


def _table(table: Table) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    lines = [[str(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
