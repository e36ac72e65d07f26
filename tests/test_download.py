"""Downloads against real servers on this machine: http.server, and moto's S3."""

import hashlib
import os

import pytest

from files import download, remote
from files.download import cached_path
from files.errors import UserError
from tests.serving import serve
from transformer import hub
from transformer.file_utils import cached_path as published_cached_path
from transformer.hub import find_model_file


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    with serve() as site:
        yield site


@pytest.fixture(scope="module")
def s3():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "BACKOFF_SECONDS", 0.01)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import boto3

        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        yield client
    server.stop()


def contents(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_local_path_is_returned_as_it_is(tmp_path):
    (tmp_path / "vocab.txt").write_text("x")
    assert cached_path(tmp_path / "vocab.txt") == tmp_path / "vocab.txt"
    assert published_cached_path(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("wrong", ["nothing/here.txt", "ftp://host/file", "file:///etc/hosts"])
def test_what_is_neither_path_nor_known_address_is_refused(wrong):
    with pytest.raises(UserError, match=wrong):
        cached_path(wrong)


def test_a_file_is_fetched_once_for_each_version(site, tmp_path):
    site.files["/m/vocab.txt"] = b"one\n"
    first = cached_path(f"{site.url}/m/vocab.txt", tmp_path)
    assert first.read_bytes() == b"one\n" and first.name.endswith("-vocab.txt")
    os.utime(first, (1, 1))
    assert published_cached_path(f"{site.url}/m/vocab.txt", tmp_path) == first
    assert first.stat().st_mtime == 1
    site.files["/m/vocab.txt"] = b"two\n"
    second = cached_path(f"{site.url}/m/vocab.txt", tmp_path)
    assert second != first and second.read_bytes() == b"two\n" and first.read_bytes() == b"one\n"


def test_the_cache_folder_is_named_by_the_environment(site, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYBERT_CACHE", str(tmp_path / "cache"))
    site.files["/a"] = b"a"
    assert cached_path(f"{site.url}/a").parent == tmp_path / "cache"


def test_an_address_never_becomes_a_path(site, tmp_path):
    site.files["/x/..%2F..%2Fetc%2Fpasswd"] = b"a"
    path = cached_path(f"{site.url}/x/..%2F..%2Fetc%2Fpasswd", tmp_path)
    assert path.parent == tmp_path and "/" not in path.name


def test_plain_http_is_said_not_to_be_encrypted(site, tmp_path, capsys):
    site.files["/a"] = site.files["/b"] = b"a"
    cached_path(f"{site.url}/a", tmp_path)
    cached_path(f"{site.url}/b", tmp_path)
    assert capsys.readouterr().err.count(f"{site.url} is not encrypted") == 1


@pytest.mark.parametrize(
    "address",
    ["http://", "http://[::1", "https://a..b/f", "http://h:port/f", "http://\ud800/f", "http:///f"],
    ids=ascii,
)
def test_what_only_looks_like_an_address_is_one_line(tmp_path, monkeypatch, address):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    for get in (
        lambda: cached_path(address, tmp_path),
        lambda: download.download(address, tmp_path / "f"),
    ):
        with pytest.raises(UserError):
            get()
    assert contents(tmp_path) == []


def test_a_cached_copy_serves_while_the_server_is_down(site, tmp_path, capsys):
    site.files["/f"] = b"content"
    path = cached_path(f"{site.url}/f", tmp_path)
    site.faults["/f"] = [503] * 9
    assert cached_path(f"{site.url}/f", tmp_path) == path
    assert f"using {path}" in capsys.readouterr().err


def test_offline_the_newest_copy_serves_and_nobody_is_asked(site, tmp_path, monkeypatch):
    for content in (b"old", b"new"):
        site.files["/f"] = content
        path = cached_path(f"{site.url}/f", tmp_path)
    site.requests.clear()
    monkeypatch.setenv("TINYBERT_OFFLINE", "1")
    assert cached_path(f"{site.url}/f", tmp_path) == path and path.read_bytes() == b"new"
    with pytest.raises(UserError, match="/g: cannot be fetched .TINYBERT_OFFLINE is set"):
        cached_path(f"{site.url}/g", tmp_path)
    assert site.requests == []


def test_a_damaged_cached_copy_is_not_used(site, tmp_path):
    site.files["/f"] = b"content"
    good = hashlib.sha256(b"content").hexdigest()
    cached_path(f"{site.url}/f", tmp_path, sha256=good).write_bytes(b"c0ntent")
    with pytest.raises(UserError, match="remove the file"):
        cached_path(f"{site.url}/f", tmp_path, sha256=good)


def test_s3_files_are_cached_by_version(s3, tmp_path, capsys):
    s3.put_object(Bucket="models", Key="tiny/vocab.txt", Body=b"one")
    remote._say_not_encrypted.cache_clear()
    first = cached_path("s3://models/tiny/vocab.txt", tmp_path)
    assert first.read_bytes() == b"one"
    assert "is not encrypted" in capsys.readouterr().err  # this server has no TLS
    s3.put_object(Bucket="models", Key="tiny/vocab.txt", Body=b"two")
    second = cached_path("s3://models/tiny/vocab.txt", tmp_path)
    assert second != first and second.read_bytes() == b"two"


def test_an_s3_file_is_resumed_if_it_is_still_the_same(s3, tmp_path):
    content = bytes(range(256)) * 40
    answer = s3.put_object(Bucket="models", Key="big", Body=content)
    with remote.open_remote("s3://models/big", 1000, answer["ETag"]) as opened:
        assert (opened.start, opened.size) == (1000, len(content))
        assert b"".join(opened.blocks) == content[1000:]
    s3.put_object(Bucket="models", Key="big", Body=content[::-1])
    with (
        pytest.raises(remote.Changed),
        remote.open_remote("s3://models/big", 1000, answer["ETag"]),
    ):
        pass
    with pytest.raises(remote.Changed), remote.open_remote("s3://models/big", 99999, ""):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://models/nothing", "no such file"),
        ("s3://no-such-bucket/f", "no such file"),
        ("s3://models", "expected s3://BUCKET/KEY"),
        ("s3://No Bucket!/f", "bucket name"),
    ],
)
def test_wrong_s3_addresses_are_refused(s3, tmp_path, address, message):
    with pytest.raises(UserError, match=message):
        cached_path(address, tmp_path)
    assert contents(tmp_path) == []


def test_an_s3_server_that_is_down_is_one_clear_line(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be fetched"):
        cached_path("s3://models/f", tmp_path)


def test_model_files_are_found_in_folders(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert find_model_file(tmp_path, "config.json") == tmp_path / "config.json"
    assert find_model_file(tmp_path, "vocab.txt", required=False) is None
    with pytest.raises(UserError, match=r"vocab\.txt: no such file"):
        find_model_file(tmp_path, "vocab.txt")


def test_model_files_are_found_at_addresses(site, tmp_path):
    site.files["/m/config.json"] = b"{}"
    for address in (f"{site.url}/m", f"{site.url}/m/", f"{site.url}/m/config.json"):
        assert find_model_file(address, "config.json", tmp_path).read_bytes() == b"{}"
    assert find_model_file(f"{site.url}/m", "vocab.txt", tmp_path, required=False) is None
    with pytest.raises(UserError, match="no such file"):
        find_model_file(f"{site.url}/m", "vocab.txt", tmp_path)


@pytest.mark.parametrize("missing", ["models/student", "/no/such/model", "../up", "a/b/c", ""])
def test_a_missing_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch, missing):
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_find_on_hub", lambda *a: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match="no such f"):
        find_model_file(missing, "config.json")
