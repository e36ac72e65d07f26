"""Which part of BertAdam a task does not bear: fine-tune an encoder with its parts exchanged one by one.

    python -m benchmarks.optimizers --bert_model models/minilm --glue_dir data/glue_data \\
        --output_dir runs/optimizers
    python -m benchmarks.optimizers --table --output_dir runs/optimizers

Every run is a line of OUTPUT_DIR/runs.jsonl; those that are there are not run again. The regression task
is demo/similarity.py's, and needs no data. --table prints the page's table (docs/optimizers.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cli.help import script_parser
from corpus.batches import StoreBatches
from demo.similarity import write_similarity
from distillation.objectives import label_training
from distillation.state import TrainingSettings, make_optimizer
from files.errors import run_script
from tasks.classifiers import load_classifier, load_split
from tasks.evaluation import evaluate
from tasks.glue import find_task
from transformer.tokenization import BertTokenizer

# What differs from BertAdam or AdamW as it is; a pool of one batch is of random rows, not of like length.
VARIANTS: dict[str, dict[str, Any]] = {
    "bertadam tensor": {},
    "bertadam global": {"clip": "global"},
    "adamw tensor": {"optimizer_name": "adamw"},
    "adamw global": {"optimizer_name": "adamw", "clip": "global"},
    "bertadam none": {"max_grad_norm": -1},
    "adamw none": {"optimizer_name": "adamw", "max_grad_norm": -1},
    "bertadam tensor, e 1e-8": {"e": 1e-8},
    "adamw global, e 1e-6": {"optimizer_name": "adamw", "clip": "global", "e": 1e-6},
    "bertadam tensor, b2 0.98": {"b2": 0.98},
    "adamw global, random batches": {"optimizer_name": "adamw", "clip": "global", "pool": 1},
    "adamw global, b2 0.98": {"optimizer_name": "adamw", "clip": "global", "b2": 0.98},
}
CORNERS = tuple(VARIANTS)[:4]
CPU = torch.device("cpu")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.prog = "python -m benchmarks.optimizers"
    parser.add_argument("--bert_model", help="folder of the encoder")
    parser.add_argument("--glue_dir", type=Path, help="parent of the tasks' folders")
    parser.add_argument("--output_dir", type=Path, required=True, help="where runs.jsonl is")
    parser.add_argument(
        "--tasks", nargs="+", default=["STS-B"], help="STS-B stands for the regression task made"
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(CORNERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=5e-5)
    parser.add_argument("--max_seq_length", type=int, default=128)
    parser.add_argument("--table", action="store_true", help="print what was found and stop")
    return parser.parse_args(argv)


def fine_tune(args: argparse.Namespace, name: str, variant: str, seed: int) -> dict[str, float]:
    """Train one classifier, from the encoder; return its scores on the dev set."""
    task = find_task(name)
    folder = args.output_dir / name if name == "STS-B" else args.glue_dir / name
    tokenizer = BertTokenizer.from_pretrained(args.bert_model)
    train, dev = (
        load_split(task, folder, split, tokenizer, args.max_seq_length)
        for split in ("train", "dev")
    )
    torch.manual_seed(seed)
    model = load_classifier(task, args.bert_model, ("classifier.", "bert.pooler."))
    options = dict(VARIANTS[variant])
    pool = options.pop("pool", 100)
    named = {key: options.pop(key) for key in ("optimizer_name", "clip") if key in options}
    settings = TrainingSettings(epochs=1, learning_rate=args.learning_rate, **named)
    optimizer = make_optimizer(model, settings, args.steps)
    for group in optimizer.param_groups:
        group.update(options)
    source = StoreBatches(
        [train.store], args.train_batch_size, seed, {"labels": train.labels}, pool=pool
    )
    model.train()
    step = 0
    for epoch in range(args.steps):
        for rows in source.plan(epoch)[: args.steps - step]:
            batch = source.collate(epoch, rows, source.width(epoch, rows))
            optimizer.zero_grad()
            label_training(model, batch).total().backward()
            optimizer.step()
            step += 1
        if step == args.steps:
            break
    return evaluate(task, model.eval(), {"dev": dev}, 64, CPU)["dev"]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    path = args.output_dir / "runs.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if args.table:
        print(table(done))
        return 0
    if "STS-B" in args.tasks and not (args.output_dir / "STS-B").is_dir():
        rows = {"train": args.steps * args.train_batch_size, "dev": 300}
        write_similarity(args.output_dir / "STS-B", 42, rows)
    shared = {
        key: getattr(args, key)
        for key in ("steps", "train_batch_size", "learning_rate", "max_seq_length")
    }
    for name in args.tasks:
        for seed in args.seeds:
            for variant in args.variants:
                run = {"task": name, "variant": variant, "seed": seed, **shared}
                if any(run.items() <= other.items() for other in done):
                    continue
                began = time.process_time()
                scores = fine_tune(args, name, variant, seed)
                run |= {"scores": scores, "cpu_seconds": round(time.process_time() - began, 1)}
                print(json.dumps(run), file=sys.stderr)
                with path.open("a") as file:
                    file.write(json.dumps(run) + "\n")
    return 0


def table(runs: list[dict[str, Any]]) -> str:
    """Mean and range of the main metric over the seeds, × 100: rows variants, columns tasks."""
    found = defaultdict(list)
    for run in runs:
        column = f"{run['task']}, {run['steps']} × {run['train_batch_size']}"
        score = run["scores"][find_task(run["task"]).main_metric]
        found[run["variant"], column].append(100 * score)
    columns = list(dict.fromkeys(column for _, column in found))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant in VARIANTS:
        cells = []
        for column in columns:
            scores = found.get((variant, column), [])
            spread = f" ({min(scores):.1f} to {max(scores):.1f})" if len(scores) > 1 else ""
            cells.append(f"{statistics.mean(scores):.1f}{spread}" if scores else "–")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
