"""Work that leads to an output is found again by what it was made from, if it was finished."""

import os

import pytest

from files.checksums import content_key
from files.errors import Mishap, UserError
from files.kept_work import differences, facts_of_done, identity, kept_folder, mark_done


def stop(tmp_path, seed, done, error=SystemExit):
    """A run that ends with an error, after or before its preliminary work is done."""
    made_from = {"seed": seed}
    with pytest.raises(error), kept_folder(tmp_path, ".work-", made_from, sole=True) as folder:
        if facts_of_done(folder) is None:
            (folder / "tokens").write_text(f"of {seed}")
            if done:
                mark_done(folder, made_from, tokens=5)
        raise error


def test_finished_work_is_found_by_what_it_was_made_from(tmp_path):
    stop(tmp_path, 1, done=True)
    with kept_folder(tmp_path, ".work-", {"seed": 1}, sole=True) as folder:
        assert facts_of_done(folder) == {"tokens": 5} and (folder / "tokens").read_text() == "of 1"
        assert folder.stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == [], "a run that ends leaves nothing"


def test_finished_work_of_another_run_is_refused_not_removed(tmp_path):
    stop(tmp_path, 1, done=True)
    (kept,) = tmp_path.iterdir()
    other = kept_folder(tmp_path, ".work-", {"seed": 2}, sole=True)
    with (
        pytest.raises(UserError, match="seed 1, expected 2.*--resume, or remove this folder"),
        other,
    ):
        pass
    assert (kept / "tokens").read_text() == "of 1"
    with kept_folder(tmp_path, ".work-", {"seed": 2}, sole=False):
        assert kept.exists(), "other outputs have such folders here"
    with kept_folder(tmp_path, ".work-", {"seed": 2}, sole=True, replace=True):
        assert not kept.exists()


def test_unfinished_work_is_not_kept(tmp_path):
    stop(tmp_path, 1, done=False)
    assert os.listdir(tmp_path) == []
    folder = tmp_path / f".work-{content_key({'seed': 1})}"
    folder.mkdir()  # as kill -9 leaves it
    (folder / "tokens").write_text("half")
    with kept_folder(tmp_path, ".work-", {"seed": 1}, sole=False) as folder:
        assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("error", "kept"),
    [(UserError, False), (Mishap, True), (OSError, True), (KeyboardInterrupt, True)],
)
def test_a_mistake_leaves_nothing_new_and_loses_nothing_old(tmp_path, error, kept):
    stop(tmp_path, 1, done=True, error=error)
    assert bool(os.listdir(tmp_path)) == kept
    stop(tmp_path, 1, done=True)
    stop(tmp_path, 1, done=True, error=error)
    assert os.listdir(tmp_path), "an earlier run had made it"


def test_what_differs_is_named():
    kept = {"M": 15, "model_checksum": "a", "shard": "1/2", "lengths": [1, 2]}
    now = {"M": 3, "model_checksum": "b", "seed": 42, "shard": "1/2", "lengths": (1, 2)}
    assert differences(kept, now) == (
        "M 15, expected 3; another model than expected; seed None, expected 42"
    )


def test_another_version_of_a_file_has_another_key(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("one")
    before = content_key(identity([path]), 1)
    assert before == content_key(identity([path]), 1) != content_key(identity([path]), 2)
    path.write_text("other")
    assert content_key(identity([path]), 1) != before
