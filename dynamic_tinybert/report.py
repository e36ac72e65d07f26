"""Compare students that answer questions with their teacher: best F1, and how fast they come near to it.

    python dynamic_tinybert/report.py --teacher models/squad_teacher \\
        --students dynamic=models/squad_dynamic,results/squad_search_dynamic --output_dir results/squad

A student is named by what it is an example of, and given as the folder of its training and that of its
search; several of one name are several seeds. Writes report.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.help import script_parser
from cli.length_search import FRONT_NAME
from files.atomic import RUN_RECORD_NAME, atomic_open
from files.errors import UserError, run_script

TITLES = {  # and what is published: F1 of all lengths, best speed-up within 1 point of the teacher
    "dynamic": ("Dynamic-TinyBERT", "88.71, 3.3 ×"),
    "length_drop": ("+ LengthDrop", "88.24, 3.54 ×"),
    "length_drop_original": ("+ LengthDrop with the original's divergence and LayerDrop", "–"),
}
WITHIN = 1.0  # of F1


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("--teacher", required=True, help="folder of the teacher's training")
    parser.add_argument(
        "--students", nargs="+", required=True, metavar="NAME=RUN,SEARCH", help="what to compare"
    )
    parser.add_argument("--output_dir", required=True, help="folder for the report")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    teacher = best_f1(Path(args.teacher))
    found: dict[str, list[tuple[float, dict[str, float] | None]]] = defaultdict(list)
    for text in args.students:
        name, equals, folders = text.partition("=")
        run, comma, search = folders.partition(",")
        if not (equals and comma) or name not in TITLES:
            raise UserError(
                f"--students {text}: expected NAME=RUN,SEARCH, NAME one of {', '.join(TITLES)}"
            )
        found[name].append((best_f1(Path(run)), nearest(Path(search), teacher)))
    lines = [
        "# Dynamic-TinyBERT, compared\n",
        "Best speed-up of a configuration whose F1 on the other half of the questions is within "
        f"{WITHIN:g} of the teacher's on all of them, or of the student's whole model where that is lower.\n",
        "| | F1, all lengths | share of the work | × whole student | × padded student | published |",
        "|---|---|---|---|---|---|",
        f"| teacher | {teacher:.2f} | | | | 88.5 |",
    ]
    for name, runs in found.items():
        title, published = TITLES[name]
        near = [row for _, row in runs if row is not None]
        cells = [spread([f1 for f1, _ in runs])]
        for key in ("share", "speedup", "speedup_padded"):
            cells.append(spread([row[key] for row in near]) if near else "none so near")
        lines.append(f"| {title} | {' | '.join(cells)} | {published} |")
    text = "\n".join(lines) + "\n"
    with atomic_open(Path(args.output_dir) / "report.md") as file:
        file.write(text)
    print(text, end="")
    return 0


def best_f1(folder: Path) -> float:
    """The best F1 of a training."""
    try:
        return json.loads((folder / RUN_RECORD_NAME).read_bytes())["metrics"]["dev"]["f1"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder / RUN_RECORD_NAME}: no F1 of a finished training ({error})"
        ) from None


def nearest(folder: Path, teacher: float) -> dict[str, float] | None:
    """The cheapest configuration of a front that is within reach."""
    try:
        with open(folder / FRONT_NAME, newline="") as file:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FRONT_NAME}: is no front of a search ({error})") from None
    least = min(teacher, rows[0]["f1"]) - WITHIN
    return min(
        (row for row in rows if row["f1"] >= least), key=lambda row: row["share"], default=None
    )


def spread(values: list[float]) -> str:
    """Mean, with the deviation of several."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    run_script(main)
