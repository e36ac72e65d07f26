"""Work that leads to an output is found again by what it was made from, if it was finished."""

import os

import pytest

from tasks.kept_work import content_key, facts_of_done, identity, kept_folder, mark_done


def stop(tmp_path, key, done):
    """A run that is stopped, after or before its preliminary work is done."""
    with pytest.raises(SystemExit), kept_folder(tmp_path, ".work-", key, sole=True) as folder:
        (folder / "tokens").write_text(key)
        if done:
            mark_done(folder, tokens=5)
        raise SystemExit(143)


def test_finished_work_is_found_by_the_same_key_only(tmp_path):
    stop(tmp_path, "a", done=True)
    with kept_folder(tmp_path, ".work-", "a", sole=True) as folder:
        assert facts_of_done(folder) == {"tokens": 5} and (folder / "tokens").read_text() == "a"
        assert folder.stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == [], "a run that ends leaves nothing"
    stop(tmp_path, "a", done=True)
    with kept_folder(tmp_path, ".work-", "b", sole=True) as folder:
        assert facts_of_done(folder) is None and os.listdir(tmp_path) == [".work-b"]


def test_unfinished_work_is_not_kept(tmp_path):
    stop(tmp_path, "a", done=False)
    assert os.listdir(tmp_path) == []
    (tmp_path / ".work-a").mkdir()  # as kill -9 leaves it
    (tmp_path / ".work-a/tokens").write_text("half")
    with kept_folder(tmp_path, ".work-", "a", sole=False) as folder:
        assert os.listdir(folder) == []


def test_another_version_of_a_file_has_another_key(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("one")
    before = content_key(identity([path]), 1)
    assert before == content_key(identity([path]), 1) != content_key(identity([path]), 2)
    path.write_text("other")
    assert content_key(identity([path]), 1) != before
