"""Fine-tune a DistilBERT on each of several tasks, and score each model on all of them.

    python distilbert/finetune.py
    python distilbert/finetune.py --student_model checkpoints/distilbert_pretrain --tasks SST-2,mine/task.json

Five tasks by default. Each model is a folder of its own, OUTPUT_DIR/TASK/distilbert_finetune, and OUTPUT_DIR
holds glue_cross_eval_metrics.json, a row for each task that a model was fine-tuned on, a column for each that
it was scored on: loss and accuracy, and the task's own metrics beside them; and the same as a picture. A
classifier of another task's labels is a check of sanity, not a result. After an interruption the same command
with --resume continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


from cli.finetuning import fine_tune
from cli.flags import add_model_flags, add_training_flags
from cli.help import script_parser
from cli.settings import mention_ignored_flags, settings_from
from cli.siblings import (
    add_task_flags,
    add_workers_flag,
    limit_workers,
    read_task_data,
    scores,
    short_name,
)
from cli.task import named_tasks
from cli.training import check_start, load_tokenizer
from distillation.distributed import Runtime, start_runtime
from files.atomic import atomic_open, find_input
from files.errors import run_script
from tasks.evaluation import predict_logits
from tasks.features import Split
from tasks.task import Task
from transformer.modeling import TinyBertForSequenceClassification

STUDENT = ROOT / "checkpoints/distilbert_pretrain"
GRID_NAME = "glue_cross_eval_metrics.json"
Grid = dict[str, dict[str, dict[str, float]]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--student_model",
        "--model",
        default=str(STUDENT),
        help="what distilbert/pretrain.py wrote: folder, hub name or address",
    )
    add_task_flags(group, ROOT)
    group.add_argument(
        "--output_dir", default=str(ROOT / "checkpoints"), help="folder for models and scores"
    )
    add_workers_flag(group, 16)
    add_model_flags(group)
    add_training_flags(
        parser, train_batch_size=64, eval_batch_size=64, learning_rate=2e-5, num_train_epochs=3,
        eval_step=None,
    )  # fmt: skip
    parser.set_defaults(
        optimizer="adamw", schedule="constant", warmup_proportion=0.0, max_grad_norm=0.0, seed=1,
        # What `fine_tune` takes besides.
        vocab_model=None, from_scratch=False, head=None, drop_head=True, drop_projection=True,
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    limit_workers(args)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    settings = settings_from(args, "warmup_constant", runtime)
    mention_ignored_flags(args)
    tasks = named_tasks(args.tasks, args.glue_dir)
    if args.student_model == str(STUDENT):
        find_input(STUDENT, "the student: distilbert/pretrain.py makes it")
    runs = {}
    for task, folder in tasks:
        place = Path(args.output_dir) / short_name(task) / "distilbert_finetune"
        runs[short_name(task)] = argparse.Namespace(
            **{**vars(args), "output_dir": str(place), "bert_model": args.student_model}
        )
        check_start(runs[short_name(task)], settings, runtime, folder)
    tokenizer = load_tokenizer(args, args.student_model)
    data = {
        short_name(task): read_task_data(args, task, folder, tokenizer) for task, folder in tasks
    }
    grid: Grid = {}
    for task, _ in tasks:
        name = short_name(task)
        fine_tune(runs[name], settings, task, lambda _, own=data[name]: own, runtime)
        if runtime.is_main and not args.dry_run:
            model = TinyBertForSequenceClassification.from_pretrained(runs[name].output_dir)
            model.to(runtime.device).eval()
            scored = {short_name(t): (t, data[short_name(t)].scored) for t, _ in tasks}
            grid[name] = score_on_all(model, scored, args.eval_batch_size, runtime)
            write_grid(Path(args.output_dir), grid, list(data))
        runtime.wait()
    return 0


def score_on_all(
    model: TinyBertForSequenceClassification,
    tasks: Mapping[str, tuple[Task, Split]],
    batch_size: int,
    runtime: Runtime,
) -> dict[str, dict[str, float]]:
    """Loss, accuracy and a task's own metrics of a classifier on each task that has as many classes."""
    found = {}
    for name, (task, rows) in tasks.items():
        if task.num_labels != model.config.num_labels:
            continue
        logits = predict_logits(model, rows.store, batch_size, runtime.device)
        found[name] = scores(task, logits, rows.labels)
    return found


def write_grid(folder: Path, grid: Grid, names: Sequence[str]) -> None:
    """Write what has been scored so far, and say it."""
    with atomic_open(folder / GRID_NAME) as file:
        json.dump(grid, file, indent=4)
    table: list[list[Any]] = [
        [grid[row].get(column, {}).get("accuracy") for column in names] for row in grid
    ]
    from reporting.plots import save_heat_map  # matplotlib takes half a second

    save_heat_map(
        folder / "glue_cross_eval.png", table, list(grid), names,
        "Accuracy × 100: fine-tuned on (rows), scored on (columns)",
    )  # fmt: skip
    width = max(map(len, names)) + 2
    print("".join(name.rjust(width) for name in ["", *names]))
    for row, values in zip(grid, table, strict=True):
        cells = ["-" if value is None else f"{100 * value:.1f}" for value in values]
        print("".join(cell.rjust(width) for cell in [row, *cells]), flush=True)


if __name__ == "__main__":
    run_script(main)
