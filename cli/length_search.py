"""The search for length configurations: flags, and from a model to its front in files and config.json."""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cli.flags import proportion, whole_number
from cli.plan import print_facts
from cli.squad import in_mode
from corpus.token_store import TokenStore
from files.atomic import atomic_open
from files.errors import UserError
from files.locks import wait_for_lock
from files.progress import progress_bar
from reporting.fronts import draw_front, front_table
from search.front import Evaluated, area, pareto_front, upper_hull
from search.lengths import Lengths, multiply_accumulates, published_floor, shortened
from search.propose import Evolution, Space
from search.study import BACKENDS, Study
from transformer.file_utils import CONFIG_NAME
from transformer.lengths import LengthConfig
from transformer.modeling import BertPreTrainedModel
from transformer.weights import weights_checksum

STUDY_NAME, TRIALS_NAME, FRONT_NAME = "study.log", "trials.jsonl", "pareto.csv"
SAMPLED = 5  # batches of several lengths that a configuration's time is measured on


def add_search_flags(parser: argparse.ArgumentParser, evolution: bool = False) -> None:
    """Add what is searched and how; `evolution` also the published flags of the evolutionary search."""
    group = parser.add_argument_group("search for length configurations")
    group.add_argument(
        "--search_backend",
        choices=BACKENDS,
        default="tpe",
        help="who proposes configurations: Optuna's samplers, the evolutionary search of Length-Adaptive "
        "Transformer, or chance",
    )
    group.add_argument(
        "--search_trials", type=whole_number, default=150, help="configurations to evaluate"
    )
    group.add_argument(
        "--search_cost",
        choices=("macs", "time"),
        default="macs",
        help="what is to be small: multiply-accumulates, the same on every machine; or time, measured in "
        "turns with the whole model",
    )
    group.add_argument(
        "--search_floor",
        type=whole_number,
        help="shortest length, of --max_seq_length (default: as published, 91 of 384 for 6 layers; the best "
        "published configurations of other models end at 33)",
    )
    group.add_argument(
        "--search_drop",
        type=proportion,
        default=0.5,
        help="share of its tokens that a layer drops at most",
    )
    group.add_argument(
        "--timed_batches",
        type=whole_number,
        default=30,
        help="batches that a time is the median of, after ten that are not counted",
    )
    if not evolution:
        return
    for name, default, what in (
        ("--evo_iter", 100, "generations"),
        ("--population_size", 20, "uniform configurations to begin with"),
        ("--mutation_size", 30, "mutations in a generation"),
        ("--crossover_size", 30, "crossovers in a generation"),
    ):
        group.add_argument(name, type=whole_number, default=default, help=f"of --do_search: {what}")
    group.add_argument(
        "--mutation_prob", type=proportion, default=0.5, help="of --do_search: of each layer"
    )


@dataclass(frozen=True)
class Subject:
    """A model whose lengths are searched.

    Attributes:
        main: the metric to be high.
        search: what configurations are chosen on: their metrics.
        report: what the chosen ones are reported on.
        store: the sequences of the first, whose lengths the cost depends on.
        device: where the model is.
    """

    model: BertPreTrainedModel
    main: str
    search: Callable[[LengthConfig | None], Mapping[str, float]]
    report: Callable[[LengthConfig | None], Mapping[str, float]]
    store: TokenStore
    device: torch.device


def search_lengths(
    args: argparse.Namespace, subject: Subject, folder: Path
) -> list[dict[str, Any]]:
    """Search, measure the front, and leave it in `folder` and in the model's own config.json.

    A search that was interrupted goes on; other processes that are given the same folder share it.

    Returns:
        The rows of the front, the whole model first.
    """
    config = subject.model.config
    layers, longest = config.num_hidden_layers, args.max_seq_length
    floor = args.search_floor or min(published_floor(longest, layers), longest)
    space = Space(layers, longest, floor, args.search_drop)
    settings = {
        "model": weights_checksum(
            {name: value.cpu() for name, value in subject.model.state_dict().items()}
        ),
        "backend": args.search_backend, "cost": args.search_cost, "mode": args.length_mode,
        "seed": args.seed, "rows": len(subject.store), **asdict(space),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(args, folder, space, settings)
    whole = costs_of(args, subject, space.full)
    print_facts(
        f"search for length configurations by {args.search_backend}",
        {
            "evaluations": f"{args.search_trials:,}, of which {len(study.trials()):,} are done",
            "lengths": f"{floor} to {longest} in {layers} layers, {args.length_mode}",
            "on": f"{len(subject.store):,} rows of {subject.store.lengths.mean():.0f} tokens on average",
            "into": str(folder),
        },
    )

    def evaluate(lengths: Lengths) -> tuple[float, float, dict[str, Any]]:
        began = time.perf_counter()
        metrics = subject.search(in_mode(args, LengthConfig(lengths)))
        facts = {"seconds": round(time.perf_counter() - began, 3), **metrics}
        macs = costs_of(args, subject, lengths)
        facts["gmacs"] = macs / 1e9
        cost = macs / whole
        if args.search_cost == "time":
            times = measure(
                args, subject, {"whole": None, "this": in_mode(args, LengthConfig(lengths))}
            )
            cost = facts["time"] = times["this"][0] / times["whole"][0]
        return float(metrics[subject.main]), float(cost), facts

    with progress_bar(
        args.search_trials, "configuration", "search", initial=len(study.trials())
    ) as bar:
        study.run(evaluate, args.search_trials, lambda trial: bar.update())
    with open(folder / ".report.lock", "w") as file:
        wait_for_lock(file, f"{folder}: another process writes the front there, waiting")
        write_trials(study, folder)
        rows = report_front(args, subject, study.history(), folder)
    return rows


def open_study(
    args: argparse.Namespace, folder: Path, space: Space, settings: dict[str, Any]
) -> Study:
    """The study in a folder, new or begun.

    Raises:
        UserError: it is of another model or another search.
    """
    numbers = Evolution()
    if hasattr(args, "evo_iter"):
        numbers = Evolution(
            args.population_size, args.mutation_size, args.crossover_size, args.mutation_prob
        )
    study = Study(folder / STUDY_NAME, space, args.search_backend, args.seed, numbers)
    if not study.settings:
        study.describe(settings)
    for name, value in settings.items():
        if study.settings.get(name, value) != value:
            raise UserError(
                f"{folder / STUDY_NAME}: belongs to a search with {name} {study.settings[name]}, this one "
                f"has {value}; choose another --output_dir"
            )
    return study


def costs_of(args: argparse.Namespace, subject: Subject, lengths: Lengths) -> float:
    """Mean multiply-accumulates of a sequence."""
    config, tokens = subject.model.config, subject.store.lengths
    if args.length_mode == "absolute":
        tokens = np.full(1, args.max_seq_length)
        left: Sequence[Any] = lengths
    else:
        left = shortened([length / args.max_seq_length for length in lengths], tokens)
    macs = multiply_accumulates(left, tokens, config.hidden_size, config.intermediate_size)
    return float(np.mean(macs))


@torch.inference_mode()
def measure(
    args: argparse.Namespace, subject: Subject, configs: Mapping[str, LengthConfig | None]
) -> dict[str, tuple[float, float]]:
    """Median and 90th percentile of the milliseconds of a batch; the configurations take turns.

    The batches are of sequences of like length, from short to long, and what counts is their sum; the name
    "padded" is measured on as many sequences, each padded to `--max_seq_length`.
    """
    store, size = subject.store, min(args.eval_batch_size, len(subject.store))
    order = np.argsort(store.lengths, kind="stable")
    middles = np.linspace(0, len(order) - size, SAMPLED).astype(int)
    rows = [order[start : start + size] for start in middles]
    batches = {
        name: [
            {k: t.to(subject.device) for k, t in store.collate(some, pad_to).items()}
            for some in rows
        ]
        for name, pad_to in (("real", None), ("padded", args.max_seq_length))
    }
    times: dict[str, list[float]] = {name: [] for name in configs}
    warm = max(1, 10 // SAMPLED)
    for turn in range(warm + max(1, args.timed_batches // SAMPLED)):
        for name, lengths in configs.items():
            absolute = args.length_mode == "absolute"
            kind = "padded" if name.startswith("padded") or absolute else "real"
            began = time.perf_counter()
            for batch in batches[kind]:
                subject.model(**batch, **({} if lengths is None else {"lengths": lengths}))
            if subject.device.type == "cuda":
                torch.cuda.synchronize(subject.device)
            if turn >= warm:
                times[name].append(1000 * (time.perf_counter() - began) / SAMPLED)
    return {
        name: (statistics.median(spans), float(np.quantile(spans, 0.9)))
        for name, spans in times.items()
    }


def write_trials(study: Study, folder: Path) -> None:
    """Every configuration that was evaluated, a JSON object a line."""
    with atomic_open(folder / TRIALS_NAME) as file:
        for trial in study.trials():
            facts = {name: value for name, value in trial.user_attrs.items() if name != "owner"}
            print(json.dumps({"trial": trial.number, **facts, "cost": trial.values[1]}), file=file)


def report_front(
    args: argparse.Namespace, subject: Subject, history: Sequence[Evaluated], folder: Path
) -> list[dict[str, Any]]:
    """Score the front on what it was not chosen on, measure it again, and write it."""
    full = (args.max_seq_length,) * subject.model.config.num_hidden_layers
    front = [trial for trial in reversed(pareto_front(history)) if trial.lengths != full]
    chosen = [full, *(trial.lengths for trial in front)]
    configs: dict[str, LengthConfig | None] = {
        str(i): in_mode(args, LengthConfig(lengths)) for i, lengths in enumerate(chosen)
    }
    times = measure(args, subject, {"padded": None, **configs, "0": None})
    whole, rows = costs_of(args, subject, full), []
    for i, lengths in enumerate(chosen):
        metrics = subject.report(configs[str(i)])
        macs = costs_of(args, subject, lengths)
        middle, high = times[str(i)]
        rows.append(
            {
                "lengths": lengths, **metrics, "gmacs": macs / 1e9, "share": macs / whole,
                "latency_ms_p50": middle, "latency_ms_p90": high,
                "speedup": times["0"][0] / middle, "speedup_padded": times["padded"][0] / middle,
            }
        )  # fmt: skip
    for row in rows:
        row["on_front"] = row["lengths"] in {t.lengths for t in pareto_front(
            [Evaluated(r["lengths"], r[subject.main], r["share"]) for r in rows])}  # fmt: skip
    write_front(args, subject, rows, folder)
    whole_front = pareto_front(history)
    told = {
        "evaluated": f"{len(history):,} configurations, {len(front) + 1:,} on the front, "
        f"{len(upper_hull(whole_front)):,} on its hull",
        "area": f"{area(whole_front, min(t.cost for t in history), 1.0):.4f} {subject.main} over the cost",
        "padded": f"{times['padded'][0]:.1f} ms a batch padded to {args.max_seq_length}, "
        f"{times['0'][0]:.1f} ms at real lengths",
    }
    print_facts(f"front in {folder}", told)
    print(front_table(rows, subject.main), file=sys.stderr)
    return rows


def write_front(
    args: argparse.Namespace, subject: Subject, rows: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """pareto.csv, the CSV of the published search, the pictures, and `length_configs` of the model."""
    layers = subject.model.config.num_hidden_layers
    names = [f"l{i + 1}" for i in range(layers)]
    others = [name for name in rows[0] if name not in ("lengths", "on_front")]
    with atomic_open(folder / FRONT_NAME) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *others])
        for row in rows:
            writer.writerow([*row["lengths"], *(f"{row[name]:.6g}" for name in others)])
    with atomic_open(folder / "sigopt-pareto-front.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(f"x{i}" for i in range(layers)), subject.main, "evalTime"])
        for row in rows:
            batches = len(subject.store) / args.eval_batch_size
            seconds = row["latency_ms_p50"] / 1000 * batches
            writer.writerow([*row["lengths"], f"{row[subject.main]:.6g}", f"{seconds:.6g}"])
    with atomic_open(folder / "pareto.md") as file:
        file.write(front_table(rows, subject.main) + "\n")
    draw_front(rows, subject.main, args.max_seq_length, folder / "pareto.png")
    keep_configs(args, subject, rows)


def keep_configs(
    args: argparse.Namespace, subject: Subject, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Let the front travel with the model: write it into its folder's config.json."""
    folder = Path(args.searched_model)
    if not folder.is_dir():
        print(f"note: {folder}: is no folder; its config.json is left as it is", file=sys.stderr)
        return
    values = json.loads((folder / CONFIG_NAME).read_bytes())
    values["length_configs"] = [
        {
            "lengths": list(in_mode(args, LengthConfig(row["lengths"])).lengths),
            "metric": subject.main,
            "score": round(float(row[subject.main]), 4),
            "share": round(float(row["share"]), 6),
            "ms": round(float(row["latency_ms_p50"]), 4),
        }
        for row in rows
        if row["on_front"] or row is rows[0]
    ]
    with atomic_open(folder / CONFIG_NAME) as file:
        json.dump(values, file, indent=2)
        file.write("\n")
