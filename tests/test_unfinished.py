"""An output that is stopped at any moment is resumed; never mixed with another, nor thrown away for it."""

import json
import os

import pytest

from files.checksums import content_key
from files.errors import Mishap, UserError
from files.resumable import unfinished

LINES = [b"%d\n" % number for number in range(10)]


@pytest.fixture(autouse=True)
def mark_always(monkeypatch):
    monkeypatch.setattr("files.resumable.SECONDS", 0)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "corpus.txt"


def write(output, stop_at=None, seed=1, resume=True, error=SystemExit):
    """Write the lines, or be stopped before one of them; return how many a run before had written."""
    with unfinished(output, {"seed": seed}, resume) as file:
        done = (file.facts or {"lines": 0})["lines"]
        for number in range(done, len(LINES)):
            if number == stop_at:
                file.write(b"not marked any more")
                raise error
            file.write(LINES[number])
            file.mark({"lines": number + 1})
    return done


def stop(output, at, **options):
    with pytest.raises(options.get("error", SystemExit)):
        write(output, at, **options)


@pytest.mark.parametrize("at", range(10))
def test_a_stopped_run_is_gone_on_with(output, at, capsys):
    stop(output, at)
    assert not output.exists() and ("--resume continues" in capsys.readouterr().err) == (at > 0)
    stop(output, max(at, 8))
    assert write(output) == max(at, 8)
    assert output.read_bytes() == b"".join(LINES)
    assert os.listdir(output.parent) == ["corpus.txt"], "a run that ends leaves nothing"
    (output.parent / "other").touch()
    assert output.stat().st_mode == (output.parent / "other").stat().st_mode


def test_what_is_kept_is_private(output):
    stop(output, 3)
    assert os.stat(f"{output}.unfinished").st_mode & 0o077 == 0


def test_the_output_of_an_earlier_run_stays_until_the_new_one_is_complete(output):
    output.write_text("earlier")
    stop(output, 3)
    assert output.read_text() == "earlier"
    write(output)
    assert output.read_bytes() == b"".join(LINES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 2}, "seed 1, expected 2; run that command again with --resume, or remove"),
        ({"resume": False}, "--resume continues it, or remove this folder to start over"),
        ({"seed": 2, "resume": False}, "seed 1, expected 2"),
    ],
)
def test_work_of_other_flags_or_files_is_refused_not_removed(output, options, message):
    stop(output, 3)
    with pytest.raises(UserError, match=message):
        write(output, **options)
    assert not output.exists() and write(output) == 3


def test_work_of_an_earlier_version_is_refused_not_removed(output):
    folder = output.with_name("corpus.txt.unfinished")
    folder.mkdir()
    (folder / "content").write_bytes(b"0\n")
    done = {"key": "a", "bytes": 2, "crc32": 1, "facts": {}}
    (folder / "done.json").write_text(json.dumps({"done": done, "check": content_key(done)}))
    with pytest.raises(UserError, match="remove this folder to start over"):
        write(output)
    assert (folder / "content").exists()


def flip(folder):
    data = bytearray((folder / "content").read_bytes())
    data[1] ^= 1
    (folder / "content").write_bytes(data)


def change_facts(folder):
    text = (folder / "done.json").read_text()
    assert '"lines": 3' in text
    (folder / "done.json").write_text(text.replace('"lines": 3', '"lines": 2'))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda folder: os.truncate(folder / "content", 3),
        lambda folder: (folder / "content").unlink(),
        lambda folder: (folder / "done.json").write_text('{"key": "a", "bytes": 1'),
        lambda folder: (folder / "done.json").write_text('{"done": {"key": "a"}, "check": ""}'),
        change_facts,
        lambda folder: (folder / "done.json").write_text("[]"),
    ],
)
def test_what_was_damaged_since_is_not_gone_on_with(output, damage, capsys):
    stop(output, 3)
    damage(output.with_name("corpus.txt.unfinished"))
    assert write(output) == 0
    assert output.read_bytes() == b"".join(LINES)
    assert "what it left is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_not_ours_is_refused_and_left_alone(output, kind):
    folder = output.with_name("corpus.txt.unfinished")
    stop(output, 3)
    if kind == "folder":
        (folder / "thesis.txt").write_text("mine")
    else:
        folder.rename(output.parent / "elsewhere")
        folder.write_text("mine") if kind == "file" else folder.symlink_to("elsewhere")
    with pytest.raises(UserError, match="is in the way"):
        write(output)
    assert folder.exists() and not output.exists()
    if kind == "link":
        assert sorted(os.listdir(output.parent / "elsewhere")) == ["content", "done.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, Mishap, RuntimeError])
def test_what_is_no_mistake_in_the_input_loses_nothing(output, error):
    """A worker that was killed, or a fault of ours after hours of work."""
    stop(output, 3, error=error)
    assert write(output) == 3


def test_a_users_mistake_leaves_nothing_and_a_failing_system_what_was_marked(output):
    stop(output, 3, error=UserError)
    assert os.listdir(output.parent) == []
    with pytest.raises(OSError) as caught:
        write(output, 3, error=OSError(28, "No space left on device"))
    assert caught.value.filename == str(output)
    assert write(output) == 3


def test_a_users_mistake_in_a_resumed_run_loses_nothing_of_the_run_before(output):
    """A model that is gone by now, say: hours of work are not the price."""
    stop(output, 3)
    stop(output, 3, error=UserError)
    assert write(output) == 3


def test_marks_are_not_made_more_often_than_needed(output, monkeypatch):
    monkeypatch.setattr("files.resumable.SECONDS", 3600)
    stop(output, 9)
    assert os.listdir(output.parent) == []
