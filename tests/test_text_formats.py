"""What is not plain text is read as what it is, or refused in one line that says what it is."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from corpus.documents import check_corpus_text
from corpus.json_records import read_records
from corpus.text_files import read_format
from files.errors import UserError

RECORDS = [{"title": "X", "text": "One here.\nTwo."}, {"text": "Drei “ü” \\u00e9 [{"}, "Four."]


def zipped() -> bytes:
    with zipfile.ZipFile(stream := io.BytesIO(), "w") as archive:
        archive.writestr("a.txt", "text")
    return stream.getvalue()


def numpy_file() -> bytes:
    np.save(stream := io.BytesIO(), np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1\x15\x04", "Parquet.*JSON lines"),
        (b"ARROW1\x00\x00", "Arrow"),
        (b"\xff\xff\xff\xff\x10\x00", "Arrow"),
        (zipped(), "zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x28\xb5\x2f\xfd\x00", "Zstandard.*zstd -d"),
        (b"%PDF-1.7\n", "PDF"),
        (numpy_file(), "numpy"),
        (pickle.dumps(["text"]), "pickle"),
        ("One. Two.".encode("utf-16"), "UTF-16.*iconv"),
        (("One. Two. " * 30).encode("utf-16-le"), "UTF-16 without"),
        (b"text\x00\x01\x02" * 9, "binary"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"{\\rtf1\\ansi text}", "RTF"),
        (b"<!DOCTYPE html>\n<html><body>Hi.</body></html>", "HTML"),
        (b"<?xml version='1.0'?>\n<feed><title>x</title></feed>", "XML, but not a MediaWiki dump"),
        (b"<rss version='2.0'>\n</rss>", "XML"),
        (b"sentence\tlabel\na film\t1\nno film\t0\n", "table.*tabs"),
        (b'id,title,text\n1,A,"One, two."\n2,B,Three.\n', "table.*id, title, text.*commas"),
        (b"id;text\n1;One.\n2;Two.\n", "semicolons"),
        (b"  \n", "is empty"),
        (b"One.\rTwo.\r", "carriage return"),
        (b"{'text': 'One.'}\n", "as Python writes"),
        (b"[{'text': 'One.'}]\n", "as Python writes"),
        (b"['One.', 'Two.']\n", "as Python writes"),
        (b'\x1e{"text": "One."}\n', "JSON text sequence"),
    ],
)
def test_what_is_not_text_is_named(tmp_path, data, message):
    path = tmp_path / "corpus"
    path.write_bytes(data)
    for read in (read_format, check_corpus_text):  # both programs' way
        with pytest.raises(UserError, match=f"corpus: is .*({message})|{message}"):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        "One. Two.\n",
        "[Illustration]\n\nA book begins.\n",
        '["Hello," he said,\nand left.]\n',
        "{{Infobox}} of a page.\n",
        "[1] A note.\n[2] Another.\n",
        "['Tis true.]\n",
        '"One," he said.\n"Two."\n',
        '"One."\n\n"Two."\n',
        "Hello, world.\nGoodbye, moon.\n",
        "1,000 of them came.\n2,000 went.\n",
        "ORCHIDS are flowers.\nPARIS too.\n",
        "<s> A sentence. </s>\n",
        "a < b, and c > d.\n",
        "\tAn indented line.\n\tAnother.\n",
        "\ufeffOne. Two.\n",
    ],
)
def test_plain_text_is_plain_text(tmp_path, text):
    path = tmp_path / "corpus.txt"
    path.write_text(text)
    assert read_format(path) == "text" and check_corpus_text(path) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"text": "One."}\n{"text": "Two."}\n', "json lines"),
        ('{"text": "One."}', "json lines"),
        ('{\n "text": "One."\n}\n', "json"),
        ('[{"text": "One."},\n{"text": "Two."}]', "json"),
        ('["One.", "Two."]', "json"),
        ('[["One.", "Two."], ["Three."]]', "json"),
        ("[1, 2]", "json"),
        ('"One."\n"Two."\n', "json lines"),
        ("<mediawiki>\n</mediawiki>", "dump"),
        ("<?xml version='1.0'?>\n<mediawiki>", "dump"),
        ('<doc id="1">\nOne.\n</doc>', "doc"),
    ],
)
def test_formats_that_prepare_data_reads_are_told_apart_and_pregeneration_refuses_them(
    tmp_path, text, kind
):
    path = tmp_path / "corpus"
    path.write_text(text)
    assert read_format(path) == kind
    with pytest.raises(UserError, match="prepare_data.py makes that of it"):
        check_corpus_text(path)


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("size", [1, 30, 10**6])
def test_arrays_and_objects_over_several_lines_are_read_as_records(tmp_path, indent, size):
    path = tmp_path / "corpus.json"
    array = json.dumps(RECORDS, indent=indent, ensure_ascii=False)
    objects = "\n".join(json.dumps(record, indent=indent) for record in RECORDS)
    for text in (array, f"\ufeff\n {array}\n\n", objects, array.replace("\n", "\r\n")):
        path.write_bytes(text.encode())
        blocks = list(read_records(path, size))
        assert [json.loads(line) for block in blocks for line in block.lines()] == RECORDS
        assert [block.first_line for block in blocks][:2] == ([1] if size > 100 else [1, 2])
    assert blocks[0].place(1) == f"{path}: record 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "One."},\n{"text": oops}]' + " " * 99, "corpus.json:2: is not JSON"),
        ('[{"text": "One."},\n{"text": "Tw', "corpus.json:2: is not JSON"),
        ('[{"text": "One."}\n', "corpus.json:2: the array has no end"),
        ('[{"text": "One."}]\nmore', "corpus.json:2: more text after"),
    ],
)
def test_torn_json_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "corpus.json"
    path.write_text(text)
    for size in (1, 10**6):
        with pytest.raises(UserError, match=message):
            list(read_records(path, size))
