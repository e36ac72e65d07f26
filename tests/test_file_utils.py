"""Files and folders appear whole or not at all; what lies in a folder is known through links."""

import os

import pytest

from files.atomic import atomic_folder, atomic_open, contents, lies_in


def test_a_folder_appears_with_all_it_holds(tmp_path):
    with atomic_folder(tmp_path / "deep" / "student") as folder:
        (folder / "config.json").write_text("{}")
        assert not (tmp_path / "deep/student").exists()
        assert folder.stat().st_mode & 0o077 == 0, "private until it is whole"
    assert os.listdir(tmp_path / "deep") == ["student"]
    assert os.listdir(tmp_path / "deep/student") == ["config.json"]
    assert (tmp_path / "deep/student").stat().st_mode & 0o777 == 0o777 & ~current_umask()


def test_it_takes_the_place_of_another_only_when_it_is_whole(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student/old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "student") as folder:
        (folder / "new").write_text("new")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["student"] and os.listdir(tmp_path / "student") == ["old"]
    with atomic_folder(tmp_path / "student") as folder:
        (folder / "new").write_text("new")
    assert os.listdir(tmp_path) == ["student"] and os.listdir(tmp_path / "student") == ["new"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path):
    (tmp_path / ".student.abc.folder").mkdir()
    (tmp_path / ".student.abc.folder/half").write_text("half")
    (tmp_path / ".other.abc.folder").mkdir()
    with atomic_folder(tmp_path / "student"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".other.abc.folder", "student"]


def test_a_file_is_private_until_it_is_whole(tmp_path):
    with atomic_open(tmp_path / "x") as file:
        (partial,) = tmp_path.iterdir()
        assert partial.stat().st_mode & 0o077 == 0
        file.write("x")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_folder_that_holds_placeholders_alone_is_empty(tmp_path):
    assert contents(tmp_path / "not there") == []
    for name in (".gitkeep", ".lock", ".DS_Store"):
        (tmp_path / name).touch()
    assert contents(tmp_path) == []
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).touch()
    assert contents(tmp_path) == [".hidden", "a", "b"]


def test_what_lies_in_a_folder_is_known_through_links(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("out/teacher", "outer", "elsewhere"):
        os.makedirs(name)
    os.symlink("out", "link")  # another name of the folder
    os.symlink("out/teacher", "inward")  # leads into it
    os.symlink("../elsewhere", "out/outward")  # stands in it, and would go with it
    for path in ("out", "out/", "out/new", "link/teacher", "inward", "out/outward", "outer/../out"):
        assert lies_in(path, "out") and lies_in(path, "link"), path
    for path in (".", "outer", "elsewhere", "out/../outer", "out/outward/new"):
        assert not lies_in(path, "out"), path
