"""One output has one writer at a time, and a dead writer keeps nobody out."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from distillation.records import claim_output_dir
from files.atomic import RUN_RECORD_NAME, atomic_open
from files.errors import UserError
from files.locks import LOCK_NAME, sole_writer

HOLDER = """
import sys, time
from files.locks import sole_writer
with sole_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(3600)
"""


@pytest.fixture(params=["folder", "file"])
def output(request, tmp_path):
    """An output folder, or the name of an output file in a folder."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" if request.param == "folder" else tmp_path / "out" / "corpus.txt"


@pytest.fixture
def holder(output):
    """Another process that writes there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, output], cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_with_the_first_ones_id_and_host(output, holder):
    told = f"{output}: process {holder.pid} on {socket.gethostname()} is writing there"
    with pytest.raises(UserError, match=told), sole_writer(output):
        pass


def test_a_killed_holders_place_is_taken_and_its_rests_are_removed(output, holder, capsys):
    rest = output.parent / f".{output.name}.abcdefgh.part"
    if output.is_dir():
        rest = output / ".model.bin.abcdefgh.part"
    rest.write_text("half")
    kept = rest.with_name("model.part")
    kept.write_text("somebody's")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with sole_writer(output):
        assert f"process {holder.pid} on" in capsys.readouterr().err
        assert not rest.exists() and kept.exists()
    folder = output if output.is_dir() else output.parent
    assert os.listdir(folder) == ["model.part"], "the lock leaves nothing behind"


def test_two_files_of_one_folder_have_a_writer_each(tmp_path):
    rest = tmp_path / ".one.abcdefgh.part"
    with sole_writer(tmp_path / "one"):
        rest.write_text("being written")
        with sole_writer(tmp_path / "two"):
            assert rest.exists()
        with pytest.raises(UserError, match="one: process"), sole_writer(tmp_path / "one"):
            pass


def test_the_rests_are_what_atomic_open_leaves(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_open(tmp_path / "x") as file:
        left = Path(file.name) if isinstance(file.name, str) else None
        names = os.listdir(tmp_path)
        raise KeyboardInterrupt
    assert left is None and len(names) == 1
    (tmp_path / names[0]).write_text("as if killed")
    with sole_writer(tmp_path / "x"):
        assert names[0] not in os.listdir(tmp_path)


def test_a_folder_that_is_moved_aside_is_held_under_its_name(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / RUN_RECORD_NAME).write_text("{}")
    with (
        claim_output_dir(folder),
        pytest.raises(UserError, match=f"{folder}: process {os.getpid()} on"),
        sole_writer(folder),
    ):
        pass
    assert os.listdir(folder) == [] and os.listdir(tmp_path / "student.previous-1") == ["run.json"]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_no_flag_lets_a_second_run_into_a_folder(tmp_path, options):
    with claim_output_dir(tmp_path / "student") as folder:
        (folder / "model.bin").write_text("being written")
        with (
            pytest.raises(UserError, match="is writing there"),
            claim_output_dir(folder, **options),
        ):
            pass
        assert sorted(os.listdir(folder)) == [LOCK_NAME, "model.bin"]


def test_a_link_in_the_locks_place_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / LOCK_NAME).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="out: cannot be written there"), sole_writer(folder):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
