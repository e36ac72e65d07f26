"""download_file.py against a server on this machine."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

import download_file
from files import download
from files import known_downloads as downloads
from files.errors import UserError
from files.locks import sole_writer
from tests.serving import serve

VECTORS = b"the 0.1 0.2\ncat 0.3 0.4\n" * 20_000


def zip_of(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    with serve() as site:
        site.files["/data/glove.zip"] = zip_of(glove_txt=VECTORS)
        yield site


def run(site, *arguments):
    return download_file.main([f"{site.url}/data/glove.zip", "--output_dir", "data", *arguments])


def names(folder="."):
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


def test_a_file_arrives_is_unpacked_and_is_not_fetched_again(site, capsys):
    assert run(site, "--unpack", "vectors/glove.txt") == 0
    assert Path("vectors/glove.txt").read_bytes() == VECTORS
    site.requests.clear()
    assert run(site, "--unpack", "vectors/glove.txt") == 0
    Path("vectors/glove.txt").unlink()
    assert run(site, "--unpack", "vectors/mine.txt") == 0  # the only file, under another name
    assert site.requests == [] and names("vectors") == ["vectors/mine.txt"]
    assert capsys.readouterr().out.count("already there") == 2


def test_without_a_known_checksum_the_first_arrival_is_trusted_and_noted(site, capsys):
    run(site)
    digest = hashlib.sha256(site.files["/data/glove.zip"]).hexdigest()
    assert Path("data/glove.zip.sha256").read_text() == f"{digest}  glove.zip\n"
    assert (
        f"no checksum is known; trusted as it is, and its SHA-256 {digest}"
        in capsys.readouterr().err
    )
    Path("data/glove.zip").unlink()
    site.files["/data/glove.zip"] = zip_of(glove_txt=b"something else")
    with pytest.raises(UserError, match=f"expected {digest}"):
        run(site)
    assert names() == ["data/glove.zip.sha256"]


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_a_given_checksum_is_compared_with_what_arrives_and_with_what_is_there(site, kind):
    good = hashlib.new(kind, site.files["/data/glove.zip"]).hexdigest()
    run(site, "--checksum", good.upper())
    assert names() == ["data/glove.zip"]  # nothing is noted that was known
    Path("data/glove.zip").write_bytes(b"changed")
    with pytest.raises(UserError, match="data/glove.zip: has the checksum .* remove the file"):
        run(site, "--checksum", good)


def test_the_table_knows_the_published_word_vectors(site, monkeypatch):
    facts = downloads.table()["https://nlp.stanford.edu/data/glove.840B.300d.zip"]
    assert facts["bytes"] == 2_176_768_927 and len(facts["sha256"]) == 64
    site.files["/data/glove.840B.300d.zip"] = site.files["/data/glove.zip"]
    words = ["https://nlp.stanford.edu/data/glove.840B.300d.zip", "--mirror", site.url]
    with pytest.raises(UserError, match="bytes; expected 2,176,768,927.*By hand: put https://nlp"):
        download_file.main(words)
    assert names() == []


def test_an_interrupted_download_is_gone_on_with(site):
    site.faults["/data/glove.zip"] = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError, match="bytes are kept in data/glove.zip.part"):
        run(site)
    run(site)
    assert site.ranges[-1] is not None
    assert Path("data/glove.zip").read_bytes() == site.files["/data/glove.zip"]


def test_offline_says_what_to_fetch_by_hand(site):
    with pytest.raises(UserError, match=f"put {site.url}/data/glove.zip there as data/glove.zip"):
        run(site, "--offline")
    assert site.requests == []
    Path("data").mkdir()
    Path("data/glove.zip").write_bytes(site.files["/data/glove.zip"])
    assert run(site, "--offline", "--unpack", "glove.txt") == 0
    assert site.requests == [] and Path("glove.txt").read_bytes() == VECTORS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zip_of(a_txt=b"a", b_txt=b"b"), "holds 2 files, glove.txt not exactly once"),
        (zip_of(), "holds 0 files"),
        (zip_of(glove_txt=VECTORS)[:-40], "not a valid zip file"),
        (b"", "not a valid zip file"),
    ],
    ids=["two", "none", "torn", "empty"],
)
def test_what_cannot_be_unpacked_leaves_nothing_unpacked(site, content, message):
    site.files["/data/glove.zip"] = content
    with pytest.raises(UserError, match=message):
        run(site, "--unpack", "out/glove.txt")
    assert names("out") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["glove.zip"], "glove.zip: expected an http"),
        (["file:///etc/passwd"], "expected an http"),
        (["http://h/f", "--mirror", "elsewhere"], "--mirror elsewhere"),
        (["http://h/f", "--checksum", "1234"], "--checksum 1234: expected a SHA-256"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        download_file.main(words)
    assert names() == []


def test_a_damaged_note_is_named(site):
    run(site)
    Path("data/glove.zip.sha256").write_text("nonsense")
    with pytest.raises(UserError, match="glove.zip.sha256: expected a checksum"):
        run(site)


def test_a_file_that_another_process_unpacks_is_refused(site):
    run(site)
    Path("vectors").mkdir()
    with (
        sole_writer("vectors/glove.txt"),
        pytest.raises(UserError, match=r"process \d+ on .* is writing there"),
    ):
        run(site, "--unpack", "vectors/glove.txt")
    run(site, "--unpack", "vectors/glove.txt")
    assert names("vectors") == ["vectors/glove.txt"]
