"""Word vectors: what is read, what is refused, and who is near whom."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import threading

import numpy as np
import pytest

from files.errors import UserError
from tasks.word_vectors import nearest_words, read_word_vectors


def write(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def random_vectors(count, dimension, seed=0):
    numbers = np.random.default_rng(seed).normal(size=(count, dimension)).round(4)
    return {f"w{i}": row.tolist() for i, row in enumerate(numbers)}


def as_text(vectors):
    return "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in vectors.items())


def slow_nearest(vectors, word, count):
    """Cosines one by one, in double precision; the first of equal ones first."""

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    others = [other for other in vectors if other != word]
    ranked = sorted(others, key=lambda other: -cosine(vectors[other], vectors[word]))[:count]
    return [other for other in others if other in ranked]


def test_rows_have_length_one_and_keep_the_order_of_the_file(tmp_path):
    vectors = read_word_vectors(write(tmp_path, "the 3 4\ncat 0 -2\n"))
    assert vectors.words == ["the", "cat"]
    np.testing.assert_allclose(vectors.matrix, [[0.6, 0.8], [0, -1]], rtol=1e-6)
    assert vectors.matrix.dtype == np.float32


def test_words_with_spaces_as_in_the_840B_set_are_read_whole(tmp_path):
    text = "the 1 2\n. . . 1 3\nat name@domain.com 1 4\n\u00a0x\u0085 2 1\n"
    vectors = read_word_vectors(write(tmp_path, text))
    assert vectors.words == ["the", ". . .", "at name@domain.com", "\u00a0x\u0085"]


def test_only_the_first_vectors_are_read(tmp_path):
    path = write(tmp_path, "a 1 2\nb 2 1\nc what is this\n")
    assert read_word_vectors(path, limit=2).words == ["a", "b"]


def test_a_pipe_is_read_too(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a 1 2\nb 2 1\n",))
    writer.start()
    assert read_word_vectors(pipe).words == ["a", "b"]
    writer.join()


def test_zero_repeated_and_unknown_words_are_skipped_and_counted(tmp_path):
    text = "a 1 2\nzero 0 0\na 5 6\n<unk> 1 1\ntab\tbed 1 1\n 3 4\nb 2 1\n"
    vectors = read_word_vectors(write(tmp_path, text))
    assert (vectors.words, vectors.skipped) == (["a", "b"], 5)
    assert np.isfinite(vectors.matrix).all()


def test_a_header_line_carriage_returns_and_blank_lines_are_passed_over(tmp_path):
    vectors = read_word_vectors(write(tmp_path, "2 3\r\na 1 2 3\r\n\r\nb 3 2 1 \r\n\r\n"))
    assert vectors.words == ["a", "b"]
    assert vectors.matrix.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no word vectors"),
        ("\n\n", "no word vectors"),
        ("zero 0 0\n", "no word vectors"),
        ("a 1 2 3\nb 1 2\n", ":2: "),
        ("a 1 2\nb 1 2.5 3\n", ":2: more than 2 numbers"),
        ("a 1 2\nb 1 two\n", ":2: not 2 numbers after 'b'"),
        ("a 1 2\nb 1,2 3\n", ":2: "),
        ("a 1 2\nb\n", ":2: "),
        ("hello\nworld\n", ":1: "),
        ("a 1 2\nb nan 1\n", ":2: a number that is not finite"),
        ("a 1 2\nb 1e30 inf\n", ":2: a number that is not finite"),
        (b"a 1 2\nb\xff 1 2\n", ":2: is not UTF-8"),
        (b"PK\x03\x04\xd0\x00\x00 \x08 \x00\n\x8f", "is a zip archive"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_word_vectors(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("count", [1, 7, 15])
def test_nearest_words_equal_a_loop_over_cosines(tmp_path, monkeypatch, count):
    monkeypatch.setattr("tasks.word_vectors._QUERIES", 16)
    plain = random_vectors(300, 10)
    vectors = read_word_vectors(write(tmp_path, as_text(plain)))
    asked = [f"w{i}" for i in range(0, 300, 7)]
    nearest = nearest_words(vectors, asked, count)
    assert nearest == {word: slow_nearest(plain, word, count) for word in asked}


def test_nearly_equal_neighbours_do_not_depend_on_what_else_is_asked_for(tmp_path):
    plain = random_vectors(40, 6)
    # Two dozen copies of one direction, equal or apart by less than single precision shows.
    for i in range(24):
        plain[f"copy{i}"] = [x * (1 + i) + 1e-7 * i for x in plain["w0"]]
    vectors = read_word_vectors(write(tmp_path, as_text(plain)))
    together = nearest_words(vectors, plain, 5)
    for word in plain:
        assert nearest_words(vectors, [word], 5) == {word: together[word]}
        assert len(set(together[word])) == 5 and word not in together[word]


def test_equal_vectors_go_by_the_order_of_the_file(tmp_path):
    vectors = read_word_vectors(write(tmp_path, "q 1 0\na 1 1\nb 1 1\nc 1 1\nfar -1 0\n"))
    assert nearest_words(vectors, ["q"], 2) == {"q": ["a", "b"]}


def test_a_small_file_gives_fewer_neighbours_and_an_unknown_word_none(tmp_path):
    vectors = read_word_vectors(write(tmp_path, "a 1 2\nb 2 1\nc 1 -1\n"))
    assert nearest_words(vectors, ["a", "missing"], 15) == {"a": ["b", "c"]}
    alone = read_word_vectors(write(tmp_path, "a 1 2\n"))
    assert nearest_words(alone, ["a"], 15) == {"a": []}


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress, lzma.compress])
@pytest.mark.parametrize("header", ["", "\ufeff", "3 2\n", "\ufeff3 2\n"])
def test_a_byte_order_mark_a_header_and_compression_are_passed_over(tmp_path, header, pack):
    path = write(tmp_path, pack(f"{header}cat 1 0\ndog 0 1\nred 1 1\n".encode()))
    assert read_word_vectors(path).words == ["cat", "dog", "red"]
    assert read_word_vectors(path, limit=2).words == ["cat", "dog"]


def test_an_archive_is_named_not_read(tmp_path):
    with pytest.raises(UserError, match="is a zip archive.*unpack it first"):
        read_word_vectors(write(tmp_path, b"PK\x03\x04" + bytes(99)))
