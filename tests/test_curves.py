"""Training curves: what a run leaves as a PNG and as event files."""

import json
import sys
from pathlib import Path

import pytest

from cli import flags, settings
from distillation.checkpoint import ModelSaver
from distillation.records import METRICS_NAME
from files.errors import UserError
from reporting import curves
from tests.patience import PATIENCE
from tests.training_run import CPU, make_source

LINES = [
    {"step": 5, "epoch": 0, "loss": 4.0, "attention_loss": 1.0, "hidden_loss": 3.0,
     "attention_loss_by_layer": [0.25, 0.75], "hidden_loss_by_layer": [1.0, 1.5, 0.5],
     "learning_rate": 1e-3, "examples_per_second": 100.0, "tokens_per_second": 900.0},
    {"step": 5, "dev": {"dev": {"acc": 0.5}}},
    {"step": 6, "epoch": 0, "nonfinite_rows": [3, 4]},
    {"step": 10, "epoch": 1, "loss": 2.0, "learning_rate": 5e-4, "examples_per_second": 90.0},
]  # fmt: skip


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "a_student"
    folder.mkdir()
    (folder / METRICS_NAME).write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return folder


def panels(folder, monkeypatch):
    """Titles of the panels of curves.png, and the labels of their curves with their values."""
    from reporting import plots

    kept = []
    monkeypatch.setattr(
        plots.Figure, "savefig", lambda figure, file, **_: kept.append(figure) or file.write(b"x")
    )
    curves.draw_curves(folder)
    return {
        axes.get_title(loc="left"): {
            line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in axes.lines
        }
        for axes in kept[0].axes
    }


def test_curves_are_losses_in_total_and_by_layer_scores_rate_and_speed(run_folder, monkeypatch):
    (run_folder / "run.json").write_text(json.dumps({
        "mapping": {"hidden": [[0, 0], [1, 2], [2, 4]], "attention": [[0, 1], [1, 3]]},
        "arguments": {"rep_weight": 1, "emb_weight": 1},
    }))  # fmt: skip
    drawn = panels(run_folder, monkeypatch)
    assert list(drawn) == [
        "loss", "attention loss by layer", "hidden loss by layer", "dev scores", "learning rate",
        "examples a second", "tokens a second",
    ]  # fmt: skip
    assert [*drawn["loss"].values()] == [([5, 10], [4.0, 2.0])]
    assert drawn["attention loss by layer"] == {"layer 1": ([5], [0.25]), "layer 2": ([5], [0.75])}
    assert list(drawn["hidden loss by layer"]) == ["embeddings", "layer 1", "layer 2"]
    assert drawn["dev scores"] == {"dev acc": ([5], [0.5])}


def test_a_loss_left_out_shifts_no_layer_name(run_folder):
    for chosen, names in (
        ({"rep_weight": 0, "emb_weight": 1}, ["embeddings"]),
        ({"rep_weight": 1, "emb_weight": 0}, ["layer 1", "layer 2"]),
    ):
        mapping = {"hidden": [[0, 0], [1, 2], [2, 4]], "attention": [[0, 1], [1, 3]]}
        record = {"mapping": mapping, "arguments": chosen}
        (run_folder / "run.json").write_text(json.dumps(record))
        assert curves.layer_names(run_folder)["hidden_loss"] == names


def test_an_unfinished_run_is_drawn_as_far_as_it_went(run_folder):
    with (run_folder / METRICS_NAME).open("a") as log:
        log.write('{"step": 15, "lo')
    assert curves.undrawn(run_folder)
    curves.draw_curves(run_folder)
    picture = run_folder / curves.CURVES_NAME
    assert picture.read_bytes().startswith(b"\x89PNG") and not curves.undrawn(run_folder)


def test_a_run_without_a_logged_step_is_not_drawn(run_folder):
    (run_folder / METRICS_NAME).write_text("")
    curves.draw_curves(run_folder)
    assert not (run_folder / curves.CURVES_NAME).exists()


def train(model, folder, **settings):
    from distillation.objectives import label_training
    from distillation.state import TrainingSettings, TrainState
    from distillation.training import number_of_steps
    from distillation.training import train as training

    events = curves.EventFiles(folder)
    resume = folder.exists()
    folder.mkdir(exist_ok=True)
    settings = TrainingSettings(**{"epochs": 2, "learning_rate": 1e-3, "save_steps": 2, **settings})
    source, saver = make_source(), ModelSaver(model, folder)
    total = number_of_steps(source, settings)
    state = TrainState(model, label_training, saver, settings, CPU, total)
    training(state, source, folder, resume, events)
    events.close()


def events_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / curves.EVENTS_FOLDER))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_event_files_hold_the_log(run_folder):
    pytest.importorskip("tensorboard")
    curves.EventFiles(run_folder)(LINES[-1])  # the log's last line, written already
    events = events_of(run_folder)
    assert events["train/loss"] == [(5, 4.0), (10, 2.0)]
    assert events["train/hidden_loss/1"] == [(5, 1.5)]
    assert events["dev/acc"] == [(5, 0.5)]
    assert not any("rows" in tag or "step" in tag.split("/")[-1] for tag in events)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\0\xff\n",
        b"[1]\n",
        b'{"step": "a"}\n',
        b'{"step": 1, "loss": "a"}\n',
        b"[" * 10**5 + b"\n",
    ],
    ids=lambda line: str(line[:20]),
)
def test_a_damaged_line_of_the_log_is_left_out(run_folder, line):
    path = run_folder / METRICS_NAME
    path.write_bytes(path.read_bytes() + line)
    assert curves.read_metrics(run_folder) == LINES
    curves.draw_curves(run_folder)


def test_event_files_are_written_while_the_run_goes_on(make_model, tmp_path):
    pytest.importorskip("tensorboard")
    train(make_model(), tmp_path / "run")
    logged = [line for line in curves.read_metrics(tmp_path / "run") if "loss" in line]
    expected = [(line["step"], pytest.approx(line["loss"])) for line in logged]
    assert len(expected) == 6 and events_of(tmp_path / "run")["train/loss"] == expected


def test_targets_are_names_with_commas_or_none():
    assert flags.report_targets("png,tensorboard") == ["png", "tensorboard"]
    assert flags.report_targets("none") == []
    with pytest.raises(Exception, match="svg: expected none, or some of png, tensorboard"):
        flags.report_targets("png,svg")


def test_a_missing_package_is_named_before_the_run(monkeypatch):
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--report_to tensorboard: .* pip install tensorboard"):
        settings.check_targets(["tensorboard"])
    settings.check_targets([])


def test_training_imports_matplotlib_only_to_draw():
    import subprocess

    code = "import sys, task_distill; sys.exit('matplotlib' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=PATIENCE).returncode == 0
