"""One report from the records that every run leaves: tables, figures, and what is missing.

    python report.py --results results --models models

Reads every eval.json (task_distill.py --do_eval) and run.json under --results, those of the models they
name, and the runs in --models. Writes report.html, which holds everything, report.md, report.csv, and
scores.png with the bars of all tasks.
Scores are dev scores x 100; over several seeds, mean ± standard deviation. Published figures stand
beside them where the dev set is GLUE's own, those measured on dev and those measured on test apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.flag_files import save_flags
from cli.help import script_parser
from distillation.records import METRICS_NAME
from files.atomic import RUN_RECORD_NAME, atomic_open, check_writable
from files.errors import UserError, run_script
from reporting import ablations as report_ablations
from reporting import figures as report_figures
from reporting import html as report_html
from reporting import models as report_models
from reporting import tables
from reporting.blocks import Block, Section, markdown
from reporting.names import MODELS
from reporting.results import Results, read_results
from tasks.own import read_task_file
from transformer.file_utils import CONFIG_NAME

PUBLISHED = Path(__file__).resolve().parent / "published.json"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--results", default="results", help="folder with the records")
    group.add_argument("--models", default="models", help="folder with the training runs")
    group.add_argument(
        "--output_dir", help="where the report goes (default: the folder report in --results)"
    )
    group = parser.add_argument_group("contents")
    group.add_argument(
        "--task_file",
        metavar="FILE",
        help="JSON file of a task of one's own: tell of that task alone",
    )
    group.add_argument(
        "--sentence", help="for the attention maps (default: the task's first dev row)"
    )
    group.add_argument(
        "--embedded_data",
        action="store_true",
        help="the tasks are made by demo/: show no published figures beside them",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if not Path(args.results).is_dir():
        raise UserError(f"--results {args.results}: no such folder; expected that of the records")
    folder = Path(args.output_dir or Path(args.results) / "report")
    check_writable(folder)
    runs = sorted(path.parent for path in Path(args.models).rglob(METRICS_NAME))
    runs = [run for run in runs if ".previous-" not in str(run)]
    only = read_task_file(args.task_file).folder if args.task_file else None
    results = read_results(args.results, runs, home=args.models, only=only)
    if only and only not in results.tasks.values():
        raise UserError(f"--task_file {args.task_file}: nothing in {args.results} scores {only}")
    sections = make_sections(args, results, runs, folder)
    with atomic_open(folder / "report.md") as file:
        file.write("# Report\n\n" + markdown(sections))
    with atomic_open(folder / "report.html") as file:
        file.write(report_html.page("TinyBERT, reproduced: report", lead(results), sections))
    save_flags(args, folder)
    shown = [section for section in sections if section.title in PRINTED]
    print("\n" + markdown(shown), end="")
    print(f"wrote {folder / 'report.html'}, report.md and report.csv", file=sys.stderr)
    return 0


PRINTED = (
    "Results",
    "Which orderings hold in this run",
    "Published figures",
    "Ablations",
    "Missing",
)


def make_sections(
    args: argparse.Namespace, results: Results, runs: list[Path], folder: Path
) -> list[Section]:
    """All sections in order, empty ones included; writes report.csv, whose content they share."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    tasks = tables.columns(results)
    ordered = (Path(args.results) / "stages").is_dir()  # reproduction.sh was to make every model
    models = tables.in_order({model for model, *_ in results.scores}, MODELS)
    models = [model for model in models if not report_ablations.is_ablation(model)]
    comparable = [
        task
        for task, rows in published["dev_rows"].items()
        if task in tasks and results.dev_rows.get(task) == rows and not args.embedded_data
    ]
    comparable = tables.in_order(comparable, tasks)
    figures = published["scores"] if comparable else []
    write_csv(folder / "report.csv", results, figures)

    problems = report_ablations.missing_ablations(results, tasks, published["ablations"])
    problems += models_gone(args.models, results)
    lineage = report_models.find_lineage(results, tasks)
    if ordered and tasks and lineage is None:
        problems.append(
            "attention maps, distances to the teacher: left out, they need a distilled student on the disk "
            "with its teacher and the runs it came from"
        )

    def drawn(make: Callable[..., list[Block]], *arguments) -> list[Block]:
        """A section made from models on the disk; what is wrong with them is told, not fatal."""
        try:
            return make(*arguments)
        except (UserError, OSError, ImportError) as error:
            problems.append(f"{make.__name__.removesuffix('_section')}: {error}")
            return []

    table = tables.results_section(results, models, tasks)
    if table:
        table += drawn(report_figures.bars_section, results, models, tasks, figures, folder)
    embedded = args.embedded_data
    compared = tables.published_section(results, published["scores"], comparable, embedded)
    sizes = published["sizes"]
    sections = [
        Section("Results", table),
        Section(
            "Which orderings hold in this run", tables.orderings_section(results, tasks, ordered)
        ),
        Section("Published figures", compared if tasks else []),
        Section(
            "Ablations",
            report_ablations.ablations_section(results, tasks, published["ablations"]),
        ),
        Section(
            "Size and speed",
            drawn(
                report_figures.size_section, results, models, tasks, sizes, folder / "latency.json"
            ),
        ),
        Section(
            "Attention",
            drawn(report_figures.attention_section, lineage, args.sentence) if lineage else [],
        ),
        Section(
            "Distance to the teacher",
            drawn(report_figures.distance_section, lineage) if lineage else [],
        ),
        Section("All metrics", tables.metrics_section(results, models, tasks)),
        Section("Training", tables.training_section(results)),
        Section("Training curves", drawn(report_figures.curves_section, runs, Path(args.models))),
        Section("Time", tables.time_section(Path(args.results))),
    ]
    unfinished = [
        str(run.relative_to(args.models)) for run in runs if not (run / RUN_RECORD_NAME).is_file()
    ]
    missing = tables.missing_section(
        results, tasks, tuple(MODELS) if ordered else (), unfinished, problems
    )
    return [*sections, Section("Missing", missing)]


def models_gone(models: str, results: Results) -> list[str]:
    """What to say of models that cannot be looked at any more."""
    told = [] if Path(models).is_dir() else [f"--models {models}: no such folder"]
    gone = [
        path
        for (model, _), path in results.folders.items()
        if not report_ablations.is_ablation(model) and not (path / CONFIG_NAME).is_file()
    ]
    if gone:
        such = f"{len(gone)} models, such as {gone[0]}" if len(gone) > 1 else str(gone[0])
        told.append(
            f"scored, but not on the disk (--models {models}): {such}; no latency is measured"
        )
    return told


def lead(results: Results) -> str:
    """What the report is about, in one sentence."""
    seeds = max((len(score.values) for score in results.scores.values()), default=0)
    models = len({model for model, *_ in results.scores})
    if not models:
        return "Nothing has been scored yet."
    run = max(results.runs, key=lambda run: run.get("finished") or "", default={})
    hardware = run.get("hardware", {})
    where = hardware.get("gpu") or f"{hardware.get('cores', '?')} CPU cores"
    told = f"{counted(models, 'model')} on {', '.join(results.tasks)}, {counted(seeds, 'seed')}"
    if not results.runs:
        return f"{told}; no record of their training."
    return f"{told}; {counted(len(results.runs), 'training run')}, the last on {where}."


def counted(number: int, thing: str) -> str:
    """`1 model`, `2 models`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


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
