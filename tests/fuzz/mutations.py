"""Ways in which a file from outside may be wrong, as hypothesis strategies."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

# What readers stumble over: other encodings, other line ends, numbers that are not numbers, endless nesting.
SNIPPETS = [
    *(b"", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xfe\xff", b"\x1b[31m"),
    *(
        b"\t",
        b"\t\t",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b" ",
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *("\u2028".encode(), "\x85".encode(), "İ".encode(), "中".encode(), b"\\ud800", b"\\u0000"),
    *(b"0", b"-1", b"1", b"2", b"1e999", b"-0.0", b"nan", b"NaN", b"Infinity", b"-inf", b"0x10"),
    *(b"99999999999999999999", b"1_0", "٣".encode(), b"null", b"true", b"[]", b"{}", b'""'),
    *(b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"x" * 70_000, b" " * 3000, b"\n" * 300),
    *(b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"PK\x03\x04", b"BZh9", b"\x1f\x8b\x08\0"),
    *(b"[UNK]", b"[MASK]", b"##", b"<unk>", b"<doc id=", b"</doc>"),
]
VALUES = [
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 10**400, 0.5, -1.5, 1e308, 1e-320),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "7",
        "\ud800",
        "\0",
        "x" * 3000,
        [],
        {},
        [[]],
        [None],
        {"": 0},
    ),
    *([1, 2, 3], ["a"], {"0": "a"}, [True], [-1], [2**40]),
]
_PLACES = st.integers(0, 1 << 30)
_EDITS = st.lists(
    st.tuples(
        st.sampled_from(("replace", "insert", "delete", "repeat", "flip", "cut", "swap")),
        _PLACES,
        _PLACES,
        st.sampled_from(SNIPPETS),
    ),
    min_size=1,
    max_size=4,
)


def mutants(content: bytes) -> st.SearchStrategy[bytes]:
    """A file's bytes with one to four things done to them."""
    return _EDITS.map(lambda edits: _edited(content, edits))


def _edited(content: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    data = bytearray(content)
    for kind, place, other, snippet in edits:
        at = place % (len(data) + 1)
        end = min(len(data), at + 1 + other % 40)
        if kind == "replace":
            data[at : at + len(snippet)] = snippet
        elif kind == "insert":
            data[at:at] = snippet
        elif kind == "delete":
            del data[at:end]
        elif kind == "repeat":
            data[at:at] = data[at:end] * (1 + other % 5)
        elif kind == "cut":
            del data[at:]
        elif kind == "flip" and at < len(data):
            data[at] ^= 1 << other % 8
        elif kind == "swap":
            lines = data.split(b"\n")
            one, two = place % len(lines), other % len(lines)
            lines[one], lines[two] = lines[two], lines[one]
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def json_mutants(document: Any) -> st.SearchStrategy[bytes]:
    """A JSON document with one or two of its values replaced, or one of its keys left out."""
    change = st.tuples(_PLACES, st.sampled_from([*VALUES, "gone"]))
    return st.lists(change, min_size=1, max_size=2).map(lambda changes: _changed(document, changes))


def _changed(document: Any, changes: list[tuple[int, Any]]) -> bytes:
    document = json.loads(json.dumps(document))
    for place, value in changes:
        spots = list(_spots(document))
        if not spots:
            continue
        parent, key = spots[place % len(spots)]
        if value == "gone":
            del parent[key]
        else:
            parent[key] = copy.deepcopy(value)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _spots(node: Any):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in items if isinstance(node, dict | list) else ():
        yield node, key
        yield from _spots(child) if isinstance(child, dict | list) else ()
