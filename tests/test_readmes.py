"""README.md and README.zh.md say the same: what one states in commands and numbers, the other states."""

import re
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("README.md", "README.zh.md")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.-])[+-]?\d[\d,.:]*(?<![,.:])")
_CODE = re.compile(r"`([^`]+)`")


def headings(text):
    """Levels, in order."""
    return [len(line.split()[0]) for line in _FENCE.sub("", text).splitlines() if line[:1] == "#"]


def code_blocks(text):
    """Each block as its language and lines; comments and the words of a plain listing may differ."""
    for kind, body in _FENCE.findall(text):
        lines = [re.sub(r"\s+# .*", "", line).rstrip() for line in body.splitlines()]
        yield kind, lines if kind else [line.split()[0] for line in lines]


def tables(text):
    """The cells of each table's rows, reduced to the code and the numbers in them."""
    rows = [line for line in _FENCE.sub("", text).splitlines() if line.startswith("|")]
    for line in rows:
        yield [
            (sorted(_CODE.findall(cell)), sorted(_NUMBER.findall(_CODE.sub("", cell))))
            for cell in line.strip("|").split("|")
        ]


def sections(text):
    """The prose under each heading, without code blocks and tables."""
    lines = [line for line in _FENCE.sub("", text).splitlines() if line[:1] != "|"]
    return re.split(r"^#.*$", "\n".join(lines), flags=re.MULTILINE)


def flags_and_files(prose):
    return set(_CODE.findall(prose))


def links(prose):
    return {address for address in re.findall(r"\]\(([^)]+)\)", prose) if "README" not in address}


def numbers(prose):
    return set(_NUMBER.findall(_CODE.sub("", re.sub(r"\]\([^)]+\)", "]", prose))))


def differences(english, chinese, parts):
    """Places where the two disagree, one line for each."""
    for number, (ours, theirs) in enumerate(zip_longest(parts(english), parts(chinese)), 1):
        if ours != theirs:
            if isinstance(ours, set) and isinstance(theirs, set):
                ours, theirs = ours - theirs, theirs - ours
            yield f"{number}: {NAMES[0]} has {ours!r}, {NAMES[1]} {theirs!r}"


def of_sections(part):
    return lambda text: map(part, sections(text))


PARTS = {
    "heading": headings,
    "code block": code_blocks,
    "table row": tables,
    "flags and files in the text of section": of_sections(flags_and_files),
    "links in the text of section": of_sections(links),
    "numbers in the text of section": of_sections(numbers),
}


@pytest.mark.parametrize("what", PARTS)
def test_both_readmes_have_the_same(what):
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in NAMES)
    wrong = [f"{what} {line}" for line in differences(english, chinese, PARTS[what])]
    assert not wrong, "change both READMEs together\n" + "\n".join(wrong)


def test_each_readme_leads_to_the_other():
    for name, other in (NAMES, reversed(NAMES)):
        assert f"]({other})" in "".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:4])


@pytest.mark.parametrize(
    "what, old, new",
    [
        ("heading", "## Two", "Two"),
        ("code block", "--flag 3", "--flag 4"),
        ("table row", "| 2.0 ± 0.1 |", "| 2.1 ± 0.1 |"),
        ("table row", "| row | 2.0 ± 0.1 |\n", ""),
        ("flags and files in the text of section", "`--other`", "`--another`"),
        ("links in the text of section", "docs/a.md", "docs/b.md"),
        ("numbers in the text of section", "11:13", "11:14"),
    ],
)
def test_a_change_of_one_alone_is_noticed(what, old, new):
    text = (
        "# One\n\nSee [a](docs/a.md): 11:13 minutes with `--other`.\n\n"
        "```bash\npython x.py --flag 3    # why\n```\n\n## Two\n\n| row | 2.0 ± 0.1 |\n"
    )
    assert old in text
    same = text.replace("# why", "# 原因").replace("| row |", "| 行 |").replace(" minutes", "分钟")
    assert not list(differences(text, same, PARTS[what]))
    assert list(differences(text, same.replace("| 行 |", "| row |").replace(old, new), PARTS[what]))
