"""Write docs/walkthrough.md: one example followed through every stage of a demo run.

    python -m demo.walkthrough --run runs/demo --output docs/walkthrough.md

It stops where a loss as the code computes it is not what the paper's formula gives, or a quoted line of
code is no longer there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cli.help import script_parser
from demo.walkthrough.data import augmentation_facts, corpus_facts
from demo.walkthrough.losses import general_facts, task_facts
from demo.walkthrough.outcome import evaluation_facts, training_facts, use_facts
from demo.walkthrough.page import TEMPLATE, fill
from demo.walkthrough.run import DemoRun
from files.atomic import atomic_open
from files.errors import UserError, run_script
from tasks.glue import find_task


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.prog = "python -m demo.walkthrough"
    parser.add_argument(
        "--run", type=Path, default=Path("runs/demo"), help="folder of a finished demo run"
    )
    parser.add_argument("--task", default="RTE", help="the task whose rows are followed")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/walkthrough.md"), help="the page to write"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    task = find_task(args.task)
    if task.labels is None:
        raise UserError(f"--task {args.task}: expected a task with classes")
    run = DemoRun(args.run, task)
    run.check()
    facts = corpus_facts(run)
    facts |= general_facts(run, int(facts["corpus_row"]))
    facts |= augmentation_facts(run) | task_facts(run)
    facts |= training_facts(run) | evaluation_facts(run) | use_facts(run)
    page = fill(TEMPLATE.read_text(encoding="utf-8"), facts, args.output.resolve().parent)
    with atomic_open(args.output) as file:
        file.write(page)
    print(f"{args.output}: {len(facts)} facts from {args.run}")
    return 0


if __name__ == "__main__":
    run_script(main)
