"""Fill the template: `<<name>>` with a fact, `<<code FILE FUNCTION | TEXT>>` with a quoted statement."""

from __future__ import annotations

import ast
import math
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).with_name("walkthrough.template.md")
_PLACE = re.compile(r"<<(.+?)>>")
_CODE = re.compile(r"code (\S+) (\S+) \| (.+)")
_QUOTE = re.compile(
    r"\[`(?P<file>[^`]+)`, lines? (?P<line>\d+)[^\]]*\]\([^)]*\), in `(?P<function>[^`]+)`:\n\n"
    r"```python\n(?P<text>.*?)\n```",
    re.DOTALL,
)
_LONGEST = 9  # lines; of a longer statement the one line is quoted
TOLERANCE = 1e-5  # relative: the code computes in single precision, the plain formulas in double


class Quote(NamedTuple):
    """Lines of a source file, from line `line` on, as they stand there but for the indentation."""

    file: str
    line: int
    function: str
    lines: tuple[str, ...]

    @property
    def code(self) -> str:
        """The lines without their common indentation."""
        return textwrap.dedent("\n".join(self.lines))

    def markdown(self, folder: Path) -> str:
        """A link for a page in `folder`, and the code."""
        last = self.line + len(self.lines) - 1
        where = f"line {self.line}" if last == self.line else f"lines {self.line}–{last}"
        address = f"{Path(os.path.relpath(ROOT / self.file, folder)).as_posix()}#L{self.line}"
        link = f"[`{self.file}`, {where}]({address})"
        return f"{link}, in `{self.function}`:\n\n```python\n{self.code}\n```"


def quote(file: str, function: str, text: str) -> Quote:
    """Find the one statement in `function` (or class) that holds `text`.

    Raises:
        LookupError: the function is not there, or not exactly one of its lines holds the text.
    """
    source = (ROOT / file).read_text(encoding="utf-8")
    tree = ast.parse(source, file)
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = [n for n in ast.walk(tree) if isinstance(n, kinds) and n.name == function]
    if len(found) != 1:
        raise LookupError(f"{file}: {len(found)} definitions of {function}; expected one")
    lines = source.splitlines()
    inside = range(found[0].lineno, found[0].end_lineno + 1)
    numbers = [number for number in inside if text in lines[number - 1]]
    if len(numbers) != 1:
        raise LookupError(f"{file}: {len(numbers)} lines of {function} hold {text!r}; expected one")
    first = last = numbers[0]
    for node in ast.walk(found[0]):
        simple = isinstance(node, ast.stmt) and not hasattr(node, "body")
        if simple and node.lineno <= first <= node.end_lineno <= node.lineno + _LONGEST:
            first, last = node.lineno, node.end_lineno
            break
    return Quote(file, first, function, tuple(lines[first - 1 : last]))


def quotes_in(page: str) -> list[Quote]:
    """The quotes of a finished page."""
    return [
        Quote(m["file"], int(m["line"]), m["function"], tuple(m["text"].split("\n")))
        for m in _QUOTE.finditer(page)
    ]


def stale(page: str, template: str) -> list[str]:
    """How the quotes of a page differ from those the template asks for today, a line for each."""
    wrong, now = [], []
    for place in _PLACE.finditer(template):
        if code := _CODE.fullmatch(place[1]):
            try:
                now.append(quote(*code.groups()))
            except (LookupError, OSError) as error:
                wrong.append(str(error))
    then = quotes_in(page)
    if not wrong and len(now) != len(then):
        wrong.append(f"{len(then)} quotes, the template asks for {len(now)}")
    if not wrong:
        for old, new in zip(then, now, strict=True):
            if old.code != new.code:
                wrong.append(f"{new.file}:{new.line}: is {new.code!r}, quoted as {old.code!r}")
    return wrong


def fill(template: str, facts: Mapping[str, str], folder: Path) -> str:
    """Fill a template for a page in `folder`.

    Raises:
        LookupError: a fact is missing, one is not used, or a quoted line is not found.
    """
    used = set()

    def replace(match: re.Match[str]) -> str:
        code = _CODE.fullmatch(match[1])
        if code:
            return quote(*code.groups()).markdown(folder)
        used.add(match[1])
        return facts[match[1]]

    page = _PLACE.sub(replace, template)
    if unused := facts.keys() - used:
        raise LookupError(f"{TEMPLATE.name} does not use {', '.join(sorted(unused))}")
    return page


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float) -> str:
    """Five digits of a number."""
    return f"{value:.5g}"


def agreed(name: str, by_code: float, by_formula: float, absolute: float = 1e-7) -> tuple[str, str]:
    """Both values as text, once they have been found to agree.

    Args:
        absolute: a difference that counts as none, for sums of terms of both signs, which may come near 0.

    Raises:
        ArithmeticError: they do not.
    """
    if not math.isclose(by_code, by_formula, rel_tol=TOLERANCE, abs_tol=absolute):
        raise ArithmeticError(f"{name}: the code gives {by_code!r}, the formula {by_formula!r}")
    return number(by_code), number(by_formula)
