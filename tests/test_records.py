"""Output folders and run records: nothing is lost, and a run can be told from another by its record."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from distillation import records
from distillation.checkpoint import CHECKPOINT_NAME
from distillation.records import METRICS_NAME, RunRecord, claim_output_dir, write_record
from files.atomic import RUN_RECORD_NAME
from files.checksums import file_facts
from files.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "student"


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def claim(folder, **options):
    """Claim the folder and let it go again."""
    with claim_output_dir(folder, **options):
        pass


def test_a_new_folder_is_made_with_its_parents(folder):
    with claim_output_dir(folder) as claimed:
        assert claimed == folder and folder.is_dir()
    claim(folder)  # an empty one will do


def test_a_finished_run_is_moved_aside_each_time(folder, capsys):
    for n in (1, 2, 3):
        fill(folder, RUN_RECORD_NAME, f"model of run {n}")
        claim(folder)
        assert os.listdir(folder) == []
        kept = folder.with_name(f"student.previous-{n}")
        assert sorted(os.listdir(kept)) == [f"model of run {n}", RUN_RECORD_NAME]
        assert f"now kept as {kept}" in capsys.readouterr().err


@pytest.mark.parametrize("name", [CHECKPOINT_NAME, METRICS_NAME])
def test_an_unfinished_run_is_refused(folder, name):
    fill(folder, name, "pytorch_model.bin")
    with pytest.raises(UserError, match="unfinished run; continue it with --resume") as error:
        claim(folder)
    assert str(error.value).startswith(f"--output_dir {folder}: ")
    assert len(os.listdir(folder)) == 2


def test_files_that_are_no_run_are_refused(folder):
    fill(folder, "thesis.tex")
    with pytest.raises(UserError, match=r"is not empty \(holds thesis.tex\)"):
        claim(folder)
    assert os.listdir(folder) == ["thesis.tex"]


@pytest.mark.parametrize("names", [["thesis.tex"], [RUN_RECORD_NAME], [CHECKPOINT_NAME]])
def test_overwriting_removes_what_is_there_when_asked(folder, names):
    fill(folder, *names)
    claim(folder, overwrite=True)
    assert os.listdir(folder) == [] and os.listdir(folder.parent) == ["student"]


def test_a_model_that_no_run_of_ours_has_left_is_not_resumed_over(folder):
    fill(folder, "pytorch_model.bin", "vocab.txt")
    with pytest.raises(UserError, match="holds a model and no run to resume"):
        claim(folder, resume=True)
    assert sorted(os.listdir(folder)) == ["pytorch_model.bin", "vocab.txt"]


@pytest.mark.parametrize("names", [[], ["vocab.txt"], [CHECKPOINT_NAME, METRICS_NAME]])
def test_resuming_keeps_what_is_there(folder, names):
    fill(folder, *names)
    claim(folder, resume=True)
    assert sorted(os.listdir(folder)) == sorted(names)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_a_file_in_its_place_is_refused(folder, options):
    folder.parent.mkdir()
    folder.write_text("precious")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        claim(folder, **options)
    assert folder.read_text() == "precious"


def test_a_link_to_a_folder_is_emptied_not_followed_away(folder, tmp_path):
    """A disk mounted elsewhere: the link stays, what it led to is emptied."""
    target = tmp_path / "disk"
    fill(target, "old.bin")
    folder.parent.mkdir()
    folder.symlink_to(target)
    claim(folder, overwrite=True)
    assert folder.is_symlink() and os.listdir(target) == []


def test_file_facts_identify_the_data(tmp_path):
    content = os.urandom(3000)
    (tmp_path / "train.tsv").write_bytes(content)
    (fact,) = file_facts([tmp_path / "train.tsv"])
    assert fact == {
        "path": str(tmp_path / "train.tsv"),
        "bytes": 3000,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_record_holds_what_a_reader_needs_to_repeat_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/task_distill.py", "--seed", "7"])
    record = RunRecord("prediction", {"seed": 7, "data_dir": tmp_path}, task="RTE", teacher="t")
    written = record.complete(metrics={"dev": {"acc": 0.5}}, best_step=3)
    write_record(tmp_path / RUN_RECORD_NAME, written)
    read = json.loads((tmp_path / RUN_RECORD_NAME).read_text())
    assert read["command"] == ["task_distill.py", "--seed", "7"]
    assert read["script"] == "task_distill.py"
    assert (read["schema"], read["stage"], read["task"], read["teacher"]) == (
        1,
        "prediction",
        "RTE",
        "t",
    )
    assert read["arguments"] == {"seed": 7, "data_dir": str(tmp_path)}
    assert read["metrics"] == {"dev": {"acc": 0.5}} and read["best_step"] == 3
    assert set(read["versions"]) >= {"python", "torch", "tokenizers"}
    assert set(read["hardware"]) >= {"machine", "cores"}
    assert read["started"] <= read["finished"] and read["seconds"] >= 0
    assert read["git_commit"] is None or len(read["git_commit"].rstrip("+")) == 40
    assert written["started"] == read["started"]


@pytest.mark.parametrize("name", ["task_distill.py", "distilbert/pretrain.py"])
def test_a_script_is_recorded_as_it_is_typed_at_the_root(monkeypatch, tmp_path, name):
    root = Path(records.__file__).resolve().parent.parent
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(root / name), "--seed", "7"])
    assert records.script_name() == name
    monkeypatch.setattr("sys.argv", [str(tmp_path / name)])
    assert records.script_name() == Path(name).name
