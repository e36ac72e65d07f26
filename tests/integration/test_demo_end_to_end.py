"""The demo in small, for real: every stage of reproduction.sh on one task, with a handful of steps."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from demo.walkthrough.page import quotes_in
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
source profiles/demo.env
DATA=work/data MODELS=work/models RESULTS=work/results
DUMP=$DATA/enwiki-demo-pages-articles-multistream.xml.bz2 GLOVE=$DATA/glove.demo.txt
STUDENT_4L=$MODELS/tinybert_4l_config STUDENT_6L=$MODELS/tinybert_6l_config
TASKS=CoLA WORKERS=1 GLUE_FLAGS="--train_scale 0.05 --dev_size 40 --test_size 10"
"""
FEW = "--max_steps 3"


def run(folder, *command):
    """Run a command in `folder` with this interpreter as `python`; return its output."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def check_walkthrough(folder):
    """The page that `make walkthrough` writes, made from the run in `folder`."""
    output = folder / "docs" / "walkthrough.md"
    command = "python -m demo.walkthrough --run work --task CoLA --output docs/walkthrough.md"
    run(folder, *command.split())
    page = output.read_text()
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert [int(heading.split()[1]) for heading in headings] == list(range(1, 12))
    assert "<<" not in page

    quotes = quotes_in(page)
    assert len(quotes) > 20
    for quote in quotes:
        source = (folder / quote.file).read_text().splitlines()
        there = source[quote.line - 1 : quote.line - 1 + len(quote.lines)]
        assert [line.strip() for line in there] == [line.strip() for line in quote.lines]

    # The last two cells: the value by our code, and by the formula.
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in page.splitlines()
        if re.match(
            r"\| (attention, layer|embeddings \||hidden state, layer|sum|the teacher|stage)", line
        )
    ]
    assert len(rows) == 6 + 6 + 3
    for row in rows:
        by_code, by_formula = map(float, row[-2:])
        assert by_code > 0 and abs(by_code - by_formula) <= 1e-4 * by_formula, row


def test_the_demo_runs_from_the_dump_to_the_table_is_not_run_twice_and_is_walked_through(tmp_path):
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

    reproduce = ("bash", "reproduction.sh", "--profile", "small.env")
    output = run(folder, *reproduce)
    table = [line for line in output.splitlines() if line.startswith("| ")]
    for row in ("6-layer teacher", "2-layer student, labels only", "3-layer student smart init"):
        assert any(line.startswith(f"| {row}") for line in table), output[-3000:]
    assert (folder / "work/results/report/report.csv").is_file()
    records = sorted(folder.glob("work/models/*/run.json"))
    assert len(records) >= 15
    assert all(json.loads(path.read_text())["steps"] == 3 for path in records)
    assert "not comparable" in output.lower()

    before = {path: path.stat().st_mtime_ns for path in folder.glob("work/models/*/*")}
    again = run(folder, *reproduce)
    stages = [line for line in again.splitlines() if "[stage " in line]
    assert sum("skipped" in line for line in stages) == 11  # all but environment and report
    assert {path: path.stat().st_mtime_ns for path in folder.glob("work/models/*/*")} == before

    # Here rather than in a test of its own: it needs this run, which takes most of the time.
    check_walkthrough(folder)
