"""One file from a server that stalls, breaks off, ignores ranges, refuses and lies."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os

import pytest
import requests

from files import download as downloading
from files import remote
from files.checksums import is_checksum
from files.download import download
from files.errors import UserError
from tests.serving import serve

CONTENT = bytes(range(256)) * 5120
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(downloading, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", (10.0, 0.3))
    with serve() as site:
        site.files["/big"] = CONTENT
        yield site


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("faults", "starts"),
    [
        ([500], [0, 0]),
        ([503, 429], [0, 0, 0]),
        (["cut"], [0, 0.5]),
        (["stall"], [0, 0.5]),
        (["cut", "stall", 502], [0, 0.5, 0.75, 0.75]),
        (["cut", "whole"], [0, 0.5]),
        (["cut", "elsewhere"], [0, 0.5, 0]),
        (["unasked"], [0, 0]),
        (["long"], [0]),
    ],
    ids=str,
)
def test_passing_faults_are_outlived_and_what_arrived_is_kept(site, tmp_path, faults, starts):
    site.faults["/big"] = list(faults)
    assert download(f"{site.url}/big", tmp_path / "big") == tmp_path / "big"
    assert (tmp_path / "big").read_bytes() == CONTENT
    expected = [f"bytes={int(start * len(CONTENT))}-" if start else None for start in starts]
    assert site.ranges[: len(starts)] == expected
    assert names(tmp_path) == ["big"]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site, tmp_path, fault):
    site.faults["/big"] = [fault, 500, 500, 500, 500]
    with pytest.raises(
        UserError, match=r"cannot be fetched .*655,360 bytes are kept in .*big\.part"
    ):
        download(f"{site.url}/big", tmp_path / "big")
    assert names(tmp_path) == ["big.part", "big.part.json"]
    site.faults.clear()
    site.ranges.clear()
    download(f"{site.url}/big", tmp_path / "big", CHECKSUM, len(CONTENT))
    assert site.ranges == ["bytes=655360-"]
    assert (tmp_path / "big").read_bytes() == CONTENT and names(tmp_path) == ["big"]


def test_a_part_of_another_version_is_not_gone_on_with(site, tmp_path):
    site.faults["/big"] = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError):
        download(f"{site.url}/big", tmp_path / "big")
    site.files["/big"] = CONTENT[::-1]
    assert download(f"{site.url}/big", tmp_path / "big").read_bytes() == CONTENT[::-1]
    assert site.ranges[-1] == "bytes=655360-"  # asked for the rest, got the whole


@pytest.mark.parametrize("checksum", [None, CHECKSUM])
def test_where_a_server_names_no_version_only_a_checksum_lets_a_part_be_used(
    site, tmp_path, checksum
):
    site.etags = False
    site.faults["/big"] = ["cut"]
    download(f"{site.url}/big", tmp_path / "big", checksum)
    assert site.ranges == [None, "bytes=655360-" if checksum else None]


def test_parts_of_two_versions_are_noticed_by_the_checksum_and_started_again(site, tmp_path):
    site.etags = False
    site.faults["/big"] = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError):
        download(f"{site.url}/big", tmp_path / "big", CHECKSUM)
    part = bytearray((tmp_path / "big.part").read_bytes())
    part[7] ^= 1
    (tmp_path / "big.part").write_bytes(part)
    assert download(f"{site.url}/big", tmp_path / "big", CHECKSUM).read_bytes() == CONTENT
    assert site.ranges[-2:] == ["bytes=655360-", None]


def test_a_part_of_another_address_or_with_a_torn_note_is_not_used(site, tmp_path):
    for note in ("{", "[]", '{"url": 1, "version": 2, "size": "x"}'):
        (tmp_path / "big.part").write_bytes(b"something else")
        (tmp_path / "big.part.json").write_text(note)
        assert download(f"{site.url}/big", tmp_path / "big").read_bytes() == CONTENT
    assert site.ranges == [None] * 3 and names(tmp_path) == ["big"]


def test_a_whole_part_is_only_renamed(site, tmp_path):
    begun = {"url": downloading._digest(f"{site.url}/big"), "version": '"v"', "size": len(CONTENT)}
    (tmp_path / "big.part").write_bytes(CONTENT)
    (tmp_path / "big.part.json").write_text(json.dumps(begun))
    assert download(f"{site.url}/big", tmp_path / "big", CHECKSUM).read_bytes() == CONTENT
    assert site.requests == [] and names(tmp_path) == ["big"]


@pytest.mark.parametrize(
    ("fault", "message", "requests"),
    [
        (404, "no such file", 1),
        (403, "access denied", 1),
        (418, "418", 1),
        (500, "cannot be fetched .*500", 4),
        ("stall", "cannot be fetched .*timed out", 4),
        ("cut", "cannot be fetched .*broke off|cannot be fetched .*Incomplete", 4),
    ],
)
def test_a_failure_says_why_and_leaves_the_old_file(site, tmp_path, fault, message, requests):
    site.files["/f"] = CONTENT
    site.faults["/f"] = [fault] * 9
    (tmp_path / "f").write_text("the old file")
    with pytest.raises(UserError, match=message) as caught:
        download(f"{site.url}/f", tmp_path / "f")
    assert f"{site.url}/f" in str(caught.value) and "\n" not in str(caught.value)
    assert site.count("/f") == requests
    assert (tmp_path / "f").read_text() == "the old file"
    assert set(names(tmp_path)) - {"f"} == (
        {"f.part", "f.part.json"} if isinstance(fault, str) else set()
    )


def test_attempts_that_bring_much_do_not_count_towards_the_limit(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "PROGRESS_BYTES", 1 << 10)
    site.faults["/big"] = ["cut"] * 7
    assert download(f"{site.url}/big", tmp_path / "big").read_bytes() == CONTENT
    assert site.count("/big") == 8


def test_a_server_that_changes_its_file_for_ever_is_given_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "PROGRESS_BYTES", 1 << 10)
    site.faults["/big"] = ["cut", "elsewhere"] * 50
    with pytest.raises(UserError, match="cannot be fetched"):
        download(f"{site.url}/big", tmp_path / "big")
    assert site.count("/big") < 12


@pytest.mark.parametrize(
    ("checksum", "size", "message"),
    [
        ("0" * 64, None, "has the SHA256 [0-9a-f]{64}; expected 0000"),
        ("0" * 40, None, "has the SHA1 [0-9a-f]{40}; expected 0000"),
        (None, 8, "1,310,720 bytes; expected 8"),
    ],
)
def test_what_is_not_as_expected_is_thrown_away(site, tmp_path, checksum, size, message):
    with pytest.raises(UserError, match=message):
        download(f"{site.url}/big", tmp_path / "big", checksum, size)
    assert names(tmp_path) == [] and site.count("/big") == 1


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_each_kind_of_checksum_is_known(site, tmp_path, kind):
    good = hashlib.new(kind, CONTENT).hexdigest()
    assert is_checksum(good) and not is_checksum(good[1:] + "x")
    download(f"{site.url}/big", tmp_path / "big", good)


def test_a_server_that_lies_about_the_length_is_caught_by_size_or_checksum(site, tmp_path):
    for wanted in ({"size": len(CONTENT)}, {"checksum": CHECKSUM}):
        site.faults["/big"] = ["short"]
        with pytest.raises(UserError, match="expected"):
            download(f"{site.url}/big", tmp_path / "big", **wanted)
        assert names(tmp_path) == []


def test_a_web_page_in_place_of_a_file_is_refused(site, tmp_path):
    site.headers["/big"] = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(UserError, match="sends a web page"):
        download(f"{site.url}/big", tmp_path / "big")
    assert names(tmp_path) == []


def test_more_than_the_disk_holds_is_not_begun(site, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 6})
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="6 bytes free; .* needs 1,310,720"):
        download(f"{site.url}/big", tmp_path / "big")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_is_named_and_what_arrived_is_kept(site, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            download(f"{site.url}/big", tmp_path / "big")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "big.part")
    assert not (tmp_path / "big").exists()
    assert download(f"{site.url}/big", tmp_path / "big").read_bytes() == CONTENT


def test_a_wait_the_server_asks_for_is_kept(site, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(downloading.time, "sleep", waits.append)
    site.faults["/big"] = [503, 429]
    site.headers["/big refused"] = {"Retry-After": "7"}
    download(f"{site.url}/big", tmp_path / "big")
    assert waits == [7.0, 7.0]


def test_redirects_are_followed(site, tmp_path):
    site.redirects["/old"] = "/big"
    assert download(f"{site.url}/old", tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("hops", [["http://h/f"], ["http://h/a", "https://h/f"]], ids=str)
def test_an_encrypted_address_that_leads_to_an_open_one_is_refused(tmp_path, monkeypatch, hops):
    class Answer(requests.Response):
        def __init__(self, url):
            super().__init__()
            self.url, self.status_code, self.raw = url, 200, io.BytesIO()

    def get(url, **options):
        answer = Answer(hops[-1])
        answer.history = [Answer(url), *map(Answer, hops[:-1])]
        return answer

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(
        UserError, match="https://h/old: leads to http://h/., which is not encrypted"
    ):
        download("https://h/old", tmp_path / "f")
    assert names(tmp_path) == []


def test_the_proxy_of_the_environment_is_used(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("no_proxy", "")
    site.files["http://far.invalid/f"] = b"through the proxy"
    assert download("http://far.invalid/f", tmp_path / "f").read_bytes() == b"through the proxy"


def test_a_password_in_an_address_is_never_shown_or_kept(site, tmp_path, capsys):
    address = site.url.replace("://", "://me:secret@")
    site.faults["/big"] = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError) as caught:
        download(f"{address}/big", tmp_path / "big")
    told = str(caught.value) + capsys.readouterr().err + (tmp_path / "big.part.json").read_text()
    assert "secret" not in told and site.url in told


def test_nobody_listening_is_one_clear_line(site, tmp_path):
    with pytest.raises(UserError, match="cannot be fetched .*[Cc]onnection refused") as caught:
        download("http://127.0.0.1:9/f", tmp_path / "f")
    assert len(str(caught.value)) < 200 and names(tmp_path) == []


def test_a_link_in_the_place_of_the_part_is_not_followed(site, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "big.part").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"big\.part"):
        download(f"{site.url}/big", tmp_path / "big")
    assert (tmp_path / "victim").read_text() == "mine"


def _download(url, path):
    downloading.BACKOFF_SECONDS = 0.01
    download(url, path)


def test_two_processes_at_one_file_take_turns(site, tmp_path):
    site.faults["/big"] = ["cut"] * 2
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_download, args=(f"{site.url}/big", tmp_path / "big"))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "big").read_bytes() == CONTENT
    assert names(tmp_path) == ["big"] and os.listdir(tmp_path) == ["big"]
