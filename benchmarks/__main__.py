"""Measure the project's speed and memory, and write the pages that report them.

python -m benchmarks                         # make bench: docs/benchmarks.md and .json
python -m benchmarks --only general          # one row; the others stay as they are
python -m benchmarks --gpu                   # make bench-gpu: docs/benchmarks-gpu.md and .json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import data_rows, hardware, inputs, measure, scaling, training_rows
from benchmarks.bench import Bench
from benchmarks.inference import measure_inference
from benchmarks.products import products
from benchmarks.tables import render
from cli.help import script_parser
from files.atomic import atomic_open
from files.errors import UserError, run_script

ROWS: dict[str, Callable[[Bench], Any]] = {
    "products": products,
    "general": training_rows.general,
    "distilbert": training_rows.distilbert,
    "intermediate-sst2": training_rows.intermediate_sst2,
    "intermediate-rte": training_rows.intermediate_rte,
    "prediction": training_rows.prediction,
    "evaluation": training_rows.evaluation,
    "augmentation": data_rows.augmentation,
    "features": data_rows.features,
    "preparation": data_rows.preparation,
    "pregeneration": data_rows.pregeneration,
    "inference": measure_inference,
}
CPU_ALONE = {"products", "features", "preparation", "pregeneration"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.prog = "python -m benchmarks"
    parser.epilog = "rows: " + ", ".join(ROWS)
    parser.add_argument(
        "--only",
        metavar="ROW",
        action="append",
        choices=ROWS,
        help="measure this row; may be repeated",
    )
    parser.add_argument("--gpu", action="store_true", help="measure a GPU, with larger batches")
    parser.add_argument("--no_cuda", action="store_true", help="with --gpu: its path, on the CPU")
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes: whether it works, not how fast"
    )
    parser.add_argument(
        "--threads", type=int, help="CPU threads of torch (default: as torch decides)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the page, a .md file (default: in docs, or with --quick in tmp)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.gpu and not args.no_cuda and not torch.cuda.is_available():
        raise UserError(
            "--gpu: needs a CUDA GPU, and torch finds none on this machine; `make bench` measures the CPU"
        )
    if args.threads is not None:
        if args.threads < 1:
            raise UserError(f"--threads {args.threads}: expected at least 1")
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    name = "benchmarks-gpu" if args.gpu else "benchmarks"
    folder = measure.ROOT / ("tmp" if args.quick else "docs")
    page = args.output or folder / f"{name}.md"
    if page.suffix != ".md":
        raise UserError(f"--output {page}: expected a name ending in .md")
    measure_rows(args, page)
    if page.with_suffix(".json") in (scaling.RESULTS, scaling.GPU_RESULTS):
        scaling.main([])
        hardware.main([])
    return 0


def measure_rows(args: argparse.Namespace, page: Path) -> None:
    """Measure the rows asked for; the results and the page are written after each."""
    device = torch.device("cuda" if args.gpu and not args.no_cuda else "cpu")
    file = page.with_suffix(".json")
    results = json.loads(file.read_text()) if args.only and file.is_file() else {"rows": {}}
    command = f"make bench{'-gpu' * args.gpu}"
    if args.quick:
        command += ", quick: tiny shapes, figures that mean nothing"
    commit = _commit()  # before the pages of this run count as changes
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        bench = make_bench(args, device, Path(scratch))
        for name, row in ROWS.items():
            if name not in args.only if args.only else args.gpu and name in CPU_ALONE:
                continue
            start, when = time.monotonic(), datetime.now(UTC)
            load = round(os.getloadavg()[0], 1)
            measured = row(bench)
            facts = {
                "machine": measure.machine_facts(device), "commit": commit, "load": load,
                "when": f"{when:%Y-%m-%d %H:%M} UTC", "seconds": round(time.monotonic() - start),
            }  # fmt: skip
            if name == "inference":
                facts |= {"ceiling": measured["ceiling"], "inference": measured}
            else:
                facts |= {
                    "ceiling": measured[0].ceiling,
                    "figures": [figure.to_json() for figure in measured],
                }
            results["rows"] = {k: {**results["rows"], name: facts}.get(k) for k in ROWS}
            results["rows"] = {k: v for k, v in results["rows"].items() if v}
            with atomic_open(file) as output:
                json.dump(results, output, indent=1)
                output.write("\n")
            with atomic_open(page) as output:
                output.write(render(results, command, file.name))
            print(f"{name}: {facts['seconds']} s", file=sys.stderr, flush=True)
    print(page.read_text())


def make_bench(args: argparse.Namespace, device: torch.device, folder: Path) -> Bench:
    """A run of the size asked for."""
    if args.quick:
        return Bench.create(device, inputs.QUICK, measure.TINY_SIZES, folder, compare=not args.gpu)
    if args.gpu:
        return Bench.create(device, inputs.GPU, measure.GPU_SIZES, folder, compare=False)
    return Bench.create(device, inputs.CPU, measure.CPU_SIZES, folder, compare=True)


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(words, cwd=measure.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    run_script(main)
