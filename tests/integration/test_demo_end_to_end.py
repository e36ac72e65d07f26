"""The demo in small, for real: every stage of reproduction.sh on one task, with a handful of steps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
source profiles/demo.env
DATA=work/data MODELS=work/models RESULTS=work/results
DUMP=$DATA/enwiki-demo-pages-articles-multistream.xml.bz2 GLOVE=$DATA/glove.demo.txt
STUDENT_4L=$MODELS/tinybert_4l_config STUDENT_6L=$MODELS/tinybert_6l_config
TASKS=CoLA WORKERS=1 GLUE_FLAGS="--train_scale 0.05 --dev_size 40 --test_size 10"
"""
FEW = "--max_steps 3"


def run(folder, *arguments):
    """Run reproduction.sh in `folder` with this interpreter as `python`; return its output."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "reproduction.sh", "--profile", "small.env", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_demo_runs_from_the_dump_to_the_table_and_is_not_run_twice(tmp_path):
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "tests", "__pycache__", "docs")
    shutil.copytree(ROOT, folder, ignore=ignored)
    flags = [
        "MLM_FLAGS", "MLM_DOUBLED_FLAGS", "DOWNLOADED_FLAGS", "GENERAL_FLAGS", "TEACHER_FLAGS",
        "INTERMEDIATE_FLAGS", "PREDICTION_FLAGS", "LABELS_ONLY_FLAGS",
    ]  # fmt: skip
    shorter = "".join(f'{name}="${name} {FEW}"\n' for name in flags)
    for name in ("INTERMEDIATE_FLAGS", "PREDICTION_FLAGS"):  # three steps make no teacher
        shorter += f'{name}="${name} --allow_weak_teacher"\n'
    (folder / "small.env").write_text(PROFILE + shorter)

    output = run(folder)
    table = [line for line in output.splitlines() if line.startswith("| ")]
    for row in ("6-layer teacher", "2-layer student, labels only", "3-layer student smart init"):
        assert any(line.startswith(f"| {row}") for line in table), output[-3000:]
    assert (folder / "work/results/report/report.csv").is_file()
    records = sorted(folder.glob("work/models/*/run.json"))
    assert len(records) >= 15
    assert all(json.loads(path.read_text())["steps"] == 3 for path in records)
    assert "not comparable" in output.lower()

    before = {path: path.stat().st_mtime_ns for path in folder.glob("work/models/*/*")}
    again = run(folder)
    stages = [line for line in again.splitlines() if "[stage " in line]
    assert sum("skipped" in line for line in stages) == 11  # all but environment and report
    assert {path: path.stat().st_mtime_ns for path in folder.glob("work/models/*/*")} == before
