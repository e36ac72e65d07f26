"""One table of results from the records that every run leaves, as Markdown and CSV.

    python report.py --results results

Reads every eval.json (task_distill.py --do_eval) and run.json under --results and those of the
models they name. Scores are dev scores x 100; over several seeds, mean ± standard deviation.
Published figures stand beside them where the dev set is GLUE's own, those measured on dev and those
measured on test apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import report_tables as tables
from cli.results import Results, read_results
from transformer.errors import UserError, run_script
from transformer.file_utils import atomic_open

PUBLISHED = Path(__file__).resolve().parent / "published.json"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--results", default="results", help="folder with the records")
    parser.add_argument(
        "--output_dir", help="where report.md and report.csv go (default: --results/report)"
    )
    parser.add_argument(
        "--embedded_data",
        action="store_true",
        help="the tasks are made by demo/: show no published figures beside them",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    results = read_results(args.results)
    if not results.scores:
        raise UserError(
            f"{args.results}: no scores; expected eval.json files, as task_distill.py --do_eval "
            f"--output_dir {args.results}/eval/MODEL writes them. {' '.join(results.problems)}"
        )
    tasks = tables.in_order(results.headlines, tables.TASK_ORDER)
    models = tables.in_order({model for model, *_ in results.scores}, tables.MODELS)
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    comparable = [
        task
        for task, rows in published["dev_rows"].items()
        if task in tasks and results.dev_rows.get(task) == rows and not args.embedded_data
    ]
    comparable = tables.in_order(comparable, tasks)

    sections = [
        ("Results", tables.results_section(results, models, tasks)),
        ("Which orderings hold in this run", tables.orderings_section(results, tasks)),
        (
            "Published figures",
            tables.published_section(results, published["scores"], comparable, args.embedded_data),
        ),
        ("All metrics", tables.metrics_section(results, models, tasks)),
        ("Size", tables.size_section(results, models, published["sizes"])),
        ("Training", tables.training_section(results)),
        ("Time", tables.time_section(Path(args.results))),
        ("Missing", tables.missing_section(results, tasks)),
    ]
    folder = Path(args.output_dir or Path(args.results) / "report")
    with atomic_open(folder / "report.md") as file:
        file.write("# Report\n")
        for title, text in sections:
            if text:
                file.write(f"\n## {title}\n\n{text}\n")
    write_csv(folder / "report.csv", results, published["scores"] if comparable else [])
    for title, text in sections[:3] + sections[-1:]:
        if text:
            print(f"\n{title}\n\n{text}")
    print(f"\nwrote {folder / 'report.md'} and report.csv", file=sys.stderr)
    return 0


def write_csv(path: Path, results: Results, figures: list[dict]) -> None:
    """One line per score, ours and published."""
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "source", "task", "split", "metric", "score", "std", "seeds"])
        for (model, task, split, metric), score in results.scores.items():
            std = "" if score.std is None else f"{score.std:.4f}"
            writer.writerow(
                [model, "ours", task, split, metric, f"{score.mean:.4f}", std, len(score.values)]
            )
        for figure in figures:
            name = " ".join(filter(None, [figure["source"], figure["variant"]]))
            for task, (_, metric) in results.headlines.items():
                if task in figure:
                    writer.writerow(
                        [figure["model"], name, task, figure["split"], metric, figure[task], "", ""]
                    )


if __name__ == "__main__":
    run_script(main)
