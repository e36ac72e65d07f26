"""What the first bytes of a file tell of its format, so that none is taken for plain text in silence."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

from files.errors import UserError

HEAD_BYTES = 1 << 16  # looked at

_UNPACK = "unpack it first"
# What a file begins with: what it is, what to do.
_BINARY = {
    b"\x28\xb5\x2f\xfd": ("compressed with Zstandard", "unpack it with `zstd -d`, or compress it with xz"),
    b"\x04\x22\x4d\x18": ("compressed with LZ4", "unpack it with `lz4 -d`"),
    b"\x1f\x9d": ("compressed with compress", "unpack it with `gzip -d`"),
    b"LZIP\x01": ("compressed with lzip", "unpack it with `lzip -d`"),
    b"PK\x03\x04": ("a zip archive, or of a format made of one (.docx, .npz, .pt)", _UNPACK),
    b"PK\x05\x06": ("an empty zip archive", "expected text"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("a rar archive", _UNPACK),
    b"PAR1": ("Parquet", "write its text as JSON lines, as `datasets` does with to_json"),
    b"ARROW1": ("Arrow", "write its text as JSON lines, as `datasets` does with to_json"),
    b"\xff\xff\xff\xff": ("Arrow", "write its text as JSON lines, as `datasets` does with to_json"),
    b"ORC": ("ORC", "write its text as JSON lines"),
    b"Obj\x01": ("Avro", "write its text as JSON lines"),
    b"\x89HDF": ("HDF5", "write its text as JSON lines"),
    b"SQLite format 3\x00": ("an SQLite database", "write its text as JSON lines"),
    b"%PDF-": ("PDF", "extract its text, with `pdftotext` for example"),
    b"{\\rtf": ("RTF", "save it as plain text"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save it as plain text"),
    b"\x93NUMPY": ("a numpy array", "write it as text"),
    b"\x1e": ("a JSON text sequence", "remove its record separators with `tr -d '\\036'`"),
    b"version https://git-lfs": ("a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
    b"\xff\xfe": ("UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
    b"\xfe\xff": ("UTF-16", "convert it with `iconv -f UTF-16 -t UTF-8`"),
}  # fmt: skip
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_HTML = re.compile(rb"(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_MARKUP = re.compile(rb"<(?:\?xml|!doctype|!--|[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>)", re.I)
_PYTHON = re.compile(
    rb"""\[?\s*\{\s*'(?:[^'\\\n]|\\.)*'\s*:|\[\s*'(?:[^'\\\n]|\\.)*'\s*(?:,\s*['"]|\]\s*(?:\n|$))"""
)
_COLUMN = re.compile(r"[^\W\d][\w .#/()-]{0,39}")
_TABLE_ROWS = 50


def refuse_binary(path: str | os.PathLike, head: bytes) -> None:
    """Refuse a file whose first bytes, as they are on disk, are not those of text.

    Raises:
        UserError: it says what the file is, and what to do.
    """
    for magic, (what, advice) in _BINARY.items():
        if head.startswith(magic) and not (magic == b"ORC" and b"\x00" not in head):
            raise UserError(f"{path}: is {what}; expected text: {advice}")
    if head[257:262] == b"ustar":
        raise UserError(f"{path}: is a tar archive; expected text: {_UNPACK}")
    if _PICKLE.match(head):
        raise UserError(f"{path}: is a Python pickle; expected text, write it as JSON lines")
    if b"\x00" in head:
        ascii_utf16 = head[1:200:2].count(0) > 60 or head[:200:2].count(0) > 60
        kind = "UTF-16 without a byte-order mark, by its look" if ascii_utf16 else "binary"
        raise UserError(f"{path}: is {kind}; expected text in UTF-8")


def format_of(path: str | os.PathLike, head: bytes) -> str:
    """Name the format of a text file by its first bytes: "json lines", "json", "dump", "doc" or "text".

    "json" is an array or objects that stand on several lines each; "doc" what WikiExtractor writes
    without --json. Any other file is refused.

    Args:
        head: its first bytes, unpacked; a byte-order mark is passed over.

    Raises:
        UserError: it says what the file is, and what to do.
    """
    refuse_binary(path, head)
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise UserError(
            f"{path}: its lines end in a carriage return alone; expected line feeds: convert it with "
            "`tr '\\r' '\\n'`"
        )
    if head.startswith(b"<doc "):
        return "doc"
    if _HTML.match(head):
        raise UserError(f"{path}: is HTML; expected text: extract it first")
    if b"<mediawiki" in head[:4096] and head.startswith((b"<mediawiki", b"<?xml", b"<!--")):
        return "dump"
    if _MARKUP.match(head) and not re.match(rb"<(?:s|br|p|unk|eos|bos|pad)\b", head, re.I):
        raise UserError(
            f"{path}: is XML, but not a MediaWiki dump; expected text: extract it first"
        )
    first, newline, _ = head.partition(b"\n")
    if _PYTHON.match(head):
        raise UserError(
            f"{path}: is written as Python writes lists and dicts, with single quotes; expected JSON: write "
            "it with json.dump"
        )
    if _begins_array(head):
        return "json"
    if _strings(head):
        return "json lines"
    if re.match(rb'\{\s*["}]', head):
        whole = newline and is_json(first)
        return "json" if not whole and first.rstrip()[-1:] in b"{[,:" else "json lines"
    if (table := _table(path, head)) is not None:
        raise UserError(
            f"{path}: is a table ({table}); expected text: write the column with the text as JSON lines"
        )
    return "text"


def _begins_array(head: bytes) -> bool:
    """Whether a JSON array begins; "[Illustration]" begins a book, "[1, 2] show" a sentence."""
    if re.match(rb'\[\s*(?:\{\s*["}]|\[\s*[\[{"]|\]\s*$)', head):
        return True
    if head.startswith(b"[") and len(head) < HEAD_BYTES - 64 and is_json(head):
        return re.fullmatch(rb"\[\d+\]\s*", head) is None
    string = re.match(rb'\[\s*"(?:[^"\\\n]|\\.)*("\s*[,\]])?', head)
    return bool(string and (string[1] or string.end() == len(head)))


def _strings(head: bytes) -> bool:
    """Whether each line is a JSON string: two or more without a blank line, as no prose is quoted."""
    lines = head.rstrip().split(b"\n")
    lines = lines[:-1] if len(head) >= HEAD_BYTES - 64 and len(lines) > 2 else lines  # may be cut
    return len(lines) > 1 and all(line.startswith(b'"') and is_json(line) for line in lines)


def is_json(line: bytes) -> bool:
    """Whether bytes are valid JSON."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _table(path: str | os.PathLike, head: bytes) -> str | None:
    """Say by what columns are separated if the lines are rows of a table."""
    text = head.decode("utf-8", "ignore")
    lines = [line for line in text.split("\n")[: -1 if len(head) >= 4096 else None] if line.strip()]
    lines = lines[:_TABLE_ROWS]
    named = re.search(r"\.(csv|tsv)(\.\w+)?$", os.fspath(Path(path).name), re.I)
    if named:
        return f"{named[1].upper()}, as its name says"
    tabs = {len(line.strip("\t ").split("\t")) for line in lines}
    if len(lines) > 1 and len(tabs) == 1 and tabs.pop() > 1:
        return "every line has as many tabs"
    for separator, name in ((",", "commas"), (";", "semicolons"), ("|", "bars")):
        if len(lines) > 1 and separator in lines[0]:
            header = next(csv.reader(lines, delimiter=separator))
            names = [field.strip() for field in header]
            if len(set(names)) == len(names) and all(map(_COLUMN.fullmatch, names)):
                if separator + " " in lines[0] or names == [""]:
                    continue
                rows = list(csv.reader(lines, delimiter=separator))
                rows = rows[:-1] if len(rows) > 2 else rows  # the last may be cut
                if {len(row) for row in rows} == {len(names)}:
                    return f"columns {', '.join(names[:4])}, separated by {name}"
    return None
