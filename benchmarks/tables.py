"""Results as a page: what was measured, beside what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.figures import PUBLISHED_FP32, Figure

NOT_HERE = "not on this processor"
ABOUT = f"""\
Written by `{{command}}`; the same figures, unrounded, are in `{{results}}`. Models have random weights of
the right shapes, texts are invented words in sentences as long as the tasks' own
(`benchmarks/lengths.json`); the programs measured are the project's own.

- **plain** is the same job in a straightforward implementation, measured in the same run, as the note below
  says.
- **published** is the published scripts' figure, measured on a machine whose fp32 matrix products ran at
  {PUBLISHED_FP32:.0f} GFLOP/s, scaled by {PUBLISHED_FP32:.0f} over the rate measured here. For rows in which
  no model runs this scale is a rough one.
- **floor** is the useful work (matrix products, no padding) at the rate measured here of torch's own fp32
  product, like the published figures' scale. On some processors a CPU's other library, oneDNN, is faster
  than that: the models' linear layers take it there (`transformer/linear.py`), and what they reach is
  measured as well, under "the models'". A target that holds only where oneDNN multiplies says so, and is not
  judged elsewhere. Where a processor has no arithmetic for bfloat16, nothing is measured in it.
- **of ceiling** is the share of the highest rate measured in the row's precision that this work reaches.
- Ours, the plain job and the ceilings are measured in turn; figures are medians over the **runs** (or steps)
  of ours, except that steps on rows of different lengths are a mean by work. On a GPU a step whose shape is
  new is being recorded, and not counted."""


def render(results: Mapping[str, Any], command: str, file: str) -> str:
    """The page of a results file (see `benchmarks.__main__`)."""
    rows = results["rows"]
    parts = ["# Benchmarks", ABOUT.format(command=command, results=file), _conditions(rows)]
    figures = [Figure.from_json(f) for row in rows.values() for f in row.get("figures", ())]
    if figures:
        met = [figure.met for figure in figures if figure.met is not None]
        parts += ["## Speed and memory", f"Targets met: {sum(met)} of {len(met)}."] * bool(met)
        parts += [figures_table(figures), _notes(figures)]
    if "inference" in rows:
        parts += ["## Size and speed of the students", inference_tables(rows["inference"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(rows: Mapping[str, Any]) -> str:
    """The machine and the ceilings of every row, rows of one run together."""
    runs: dict[str, list[str]] = {}
    for name, row in rows.items():
        facts = [f"{key.replace('_', ' ')} {value}" for key, value in row["machine"].items()]
        runs.setdefault(", ".join([*facts, f"commit {row['commit']}"]), []).append(name)
    lines = [
        "| row | when | took | load before | fp32 GFLOP/s | the models' | bf16 GFLOP/s | copy GB/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        ceiling = row["ceiling"]
        lines.append(
            f"| {name} | {row['when']} | {row['seconds']} s | {row['load']} | {ceiling['fp32']:,.0f} | "
            f"{number(ceiling.get('linear'))} | {number(ceiling.get('bf16'))} | {ceiling['copy']:,.1f} |"
        )
    where = [f"- {facts} ({', '.join(names)})" for facts, names in runs.items()]
    return "\n".join(["## The machine", "", *where, "", *lines])


def figures_table(figures: list[Figure]) -> str:
    """One line a figure."""
    lines = [
        "| job | unit | ours | runs | plain | published | floor | of ceiling | target | reached | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        cells = [
            figure.job,
            figure.unit,
            NOT_HERE if figure.ours is None else f"**{number(figure.ours)}**",
            str(figure.samples),
            number(figure.reference),
            number(figure.published_here),
            number(figure.floor),
            "–" if figure.of_ceiling is None else f"{figure.of_ceiling:.0%}",
            target_text(figure),
            reached_text(figure),
            verdict_text(figure),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict_text(figure: Figure) -> str:
    """Whether a figure's target was reached, where there is one to judge by."""
    if figure.met is None:
        return "not judged here" if not figure.judged and figure.ours is not None else ""
    return "met" if figure.met else "**missed**"


def number(value: float | None) -> str:
    """Three digits that matter, thousands set apart."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def target_text(figure: Figure) -> str:
    """What is asked of a figure."""
    target = figure.target
    if target is None:
        return "–"
    where = f" by {target.library}" if target.library else ""
    if target.against in ("published", "plain"):
        return f"≥ {target.value:g} × {target.against}{where}"
    if target.against == "limit":
        return f"≤ {target.value:g} {figure.unit}"
    aim = f", aim {target.aim:g}" if target.aim else ""
    return f"≤ {target.value:g} × floor{aim}"


def reached_text(figure: Figure) -> str:
    """What a figure reached, as its target counts."""
    if figure.reached is None:
        return "–"
    unit = f" {figure.unit}" if figure.target.against == "limit" else " ×"
    return f"{figure.reached:.3g}{unit}"


def _notes(figures: list[Figure]) -> str:
    plain = {figure.reference_is: [] for figure in figures if figure.reference_is}
    for figure in figures:
        if figure.reference_is and figure.row not in plain[figure.reference_is]:
            plain[figure.reference_is].append(figure.row)
    notes = [f"- plain: {how} ({', '.join(rows)})" for how, rows in plain.items()]
    notes += [f"- {note}" for note in dict.fromkeys(f.note for f in figures if f.note)]
    return "\n".join(notes)


def inference_tables(row: Mapping[str, Any]) -> str:
    """Sizes beside the paper's, then latencies."""
    models, latency = row["inference"]["models"], row["inference"]["latency"]
    first = next(iter(models))
    base = {name: _speedup(latency[0], first, name) for name in models}
    fixed = next(e for e in latency if e["batch"] != 1 and e["length"] == "128")
    lines = [
        "| model | parameters | paper | GFLOP a sequence of 128 | paper | speed-up, batch 1 | "
        f"batch {fixed['batch']} | paper (K80) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        paper = model["paper"]
        lines.append(
            f"| {name} | {model['parameters'] / 1e6:.1f}M | {paper['parameters'] / 1e6:g}M | "
            f"{model['gflop']:.3g} | {paper['flops'] / 1e9:g} | {base[name]:.1f} × | "
            f"{_speedup(fixed, first, name):.1f} × | {paper['speedup']:.1f} × |"
        )
    lines += [
        "",
        "Speed-ups are at length 128, fp32. Parameters are those of embeddings, layers and pooler; a "
        "multiply-accumulate counts as two operations, as in the paper. Milliseconds a batch, ours:",
        "",
        f"| batch | length | {' | '.join(models)} |",
        f"|---|---|{'---|' * len(models)}",
    ]
    for entry in latency:
        times = (number(1e3 * entry["seconds"][name]) for name in models)
        lines.append(f"| {entry['batch']} | {entry['length']} | {' | '.join(times)} |")
    return "\n".join(lines)


def _speedup(entry: Mapping[str, Any], first: str, name: str) -> float:
    return entry["seconds"][first] / entry["seconds"][name]
