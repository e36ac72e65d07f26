"""Every figure that is drawn: training curves as PNG, the report's figures as SVG.

Importing this takes matplotlib along, about half a second: it is imported where a figure is drawn.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from files.atomic import atomic_open

INK = "#123456"  # stands for the page's own text colour, light or dark, in an SVG
COLOURS = ("#3778bf", "#e07b39", "#4c9a52", "#b24a8f", "#8c6d3f", "#6a5acd", "#2aa5a0", "#c0392b")
WIDTH = 30  # characters of a line of a model's name
POINTS = 400  # of a curve: more cannot be seen
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
INKED = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"),
    INK,
)


def draw_training(
    lines: Sequence[Mapping[str, Any]],
    title: str,
    path: str | Path,
    names: Mapping[str, Sequence[str]],
) -> None:
    """Draw a run's `metrics.jsonl` as one PNG.

    Losses in total and by layer, dev scores, learning rate, and rows and tokens a second, over steps.

    Args:
        names: loss -> what its layers are called; without an entry they are numbered.
    """
    steps = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "dev" in line]
    steps = steps[:: max(1, len(steps) // POINTS)]
    panels = [("loss", {"": _series(steps, "loss")})]
    for name in ("attention_loss", "hidden_loss"):
        if layers := _by_layer(steps, f"{name}_by_layer", names.get(name, ())):
            panels.append((f"{name.replace('_', ' ')} by layer", layers))
    if scores:
        panels.append(("dev scores", _dev_scores(scores)))
    panels.append(("learning rate", {"": _series(steps, "learning_rate")}))
    for name in ("examples", "tokens"):
        if any(f"{name}_per_second" in line for line in steps):
            panels.append((f"{name} a second", {"": _series(steps, f"{name}_per_second")}))
    rows = -(-len(panels) // 3)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 2.7 * rows))
        # Set by hand: finding the margins would take as long as all the drawing.
        figure.subplots_adjust(0.075, 0.19 / rows, 0.99, 1 - 0.22 / rows, 0.25, 0.3)
        figure.text(0.01, 0.985, title, va="top", fontsize=11)
        for axes, (name, curves) in zip(figure.subplots(rows, 3).flat, panels, strict=False):
            _draw_panel(axes, name, curves)
        for axes in figure.axes[len(panels) :]:
            axes.remove()
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=80, metadata={"Software": None})
    with atomic_open(path, "wb") as file:
        file.write(picture.getvalue())


Curve = tuple[list[float], list[float]]


def _draw_panel(axes: Axes, name: str, curves: Mapping[str, Curve]) -> None:
    """Draw curves over steps; no axis goes below zero where no value does."""
    for label, (x, y) in curves.items():
        marker = "." if len(x) < 3 else None
        axes.plot(x, y, label=label, marker=marker, linewidth=1.3, clip_on=False)
    axes.set_title(name)
    low, high = _range(curves)
    if low > 0 and high > 20 * low and name != "learning rate":
        axes.set_yscale("log")
    if name == "dev scores" and low == high and 0 <= low <= 1:  # nothing else gives a scale
        axes.set_ylim(0, 1)
    elif low >= 0 > axes.get_ylim()[0]:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    steps = {step for x, _ in curves.values() for step in x}
    if len(steps) == 1:
        axes.set_xlim(min(steps) - 1, min(steps) + 1)
    if len(curves) > 1:
        axes.legend(ncols=1 + len(curves) // 7)


def _series(lines: Sequence[Mapping[str, Any]], key: str) -> Curve:
    found = [(line["step"], line[key]) for line in lines if key in line]
    return [step for step, _ in found], [value for _, value in found]


def _by_layer(
    lines: Sequence[Mapping[str, Any]], key: str, names: Sequence[str]
) -> dict[str, Curve]:
    lines = [line for line in lines if key in line]
    if not lines:
        return {}
    steps, number = [line["step"] for line in lines], len(lines[0][key])
    if len(names) != number:
        names = [f"pair {i + 1}" for i in range(number)]
    return {name: (steps, [line[key][i] for line in lines]) for i, name in enumerate(names)}


def _dev_scores(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for line in lines:
        for split, metrics in line["dev"].items():
            for metric, value in metrics.items():
                x, y = curves.setdefault(f"{split} {metric}", ([], []))
                x.append(line["step"])
                y.append(value)
    return curves


def _range(curves: Mapping[str, Curve]) -> tuple[float, float]:
    values = [value for _, y in curves.values() for value in y]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element whose ink is the page's text colour."""
    picture = io.StringIO()
    figure.savefig(picture, format="svg", transparent=True, metadata={"Date": None})
    svg = picture.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def wrapped(name: str) -> str:
    """A model's name in lines of no more characters than there is room for beside bars."""
    lines = [""]
    for word in re.split(r"(?<=[_/ ])|(?<=-)(?=[A-Za-z])", name):
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


Bars = Sequence[tuple[str, float, float | None]]  # model, score, standard deviation or None


def score_bars(task: str, bars: Bars, marks: Mapping[str, float]) -> str:
    """Scores of the models on one task, best read from top to bottom.

    Args:
        marks: model -> published dev score, drawn as a diamond.
    """
    with mpl.rc_context({**STYLE, **INKED}):
        figure = Figure(figsize=(4.8, _height(bars)), layout="constrained")
        _draw_bars(figure.subplots(), task, bars, marks)
        return _svg(figure)


def draw_scores(panels: Sequence[tuple[str, Bars, Mapping[str, float]]], path: Path) -> None:
    """Draw the `score_bars` of several tasks side by side as one PNG."""
    height = max(_height(bars) for _, bars, _ in panels)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.4 + 2.3 * len(panels), height), layout="constrained")
        named: list[str] = []
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _draw_bars(axes, *panel)
            names = [name for name, *_ in panel[1]]
            if names == named:  # they stand on the left already
                axes.set_yticklabels([])
            named = names
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    with atomic_open(path, "wb") as file:
        file.write(picture.getvalue())


def _height(bars: Bars) -> float:
    return 0.7 + sum(0.18 + 0.13 * (wrapped(name).count("\n") + 1) for name, *_ in bars)


def _draw_bars(axes: Axes, task: str, bars: Bars, marks: Mapping[str, float]) -> None:
    axes.set_yticks(range(len(bars)), [wrapped(name) for name, *_ in bars])
    axes.barh(range(len(bars)), [score for _, score, _ in bars], color=COLOURS[0], height=0.65)
    for i, (name, score, deviation) in enumerate(bars):
        if deviation is not None:
            ink = mpl.rcParams["text.color"]
            axes.errorbar(score, i, xerr=deviation, color=ink, capsize=2, linewidth=1)
        if name in marks:
            axes.plot(marks[name], i, "D", color=COLOURS[1], markersize=5)
        place = (max(score, 0) + (deviation or 0), i)
        axes.annotate(f"{score:.1f}", place, (4, -3), textcoords="offset points")
    axes.set_title(task)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    low = min([0.0, *(score - (deviation or 0) for _, score, deviation in bars)])
    high = max([score for _, score, _ in bars] + list(marks.values()))
    axes.set_xlim(low * 1.1, high * 1.14 if high > 0 else 100)


def size_latency_score(points: Sequence[tuple[str, float, float, float]], batch: int) -> str:
    """Average score over latency; the area of a point is the model's number of parameters.

    Args:
        points: (model, milliseconds, average score, parameters) each.
    """
    most = max(parameters for *_, parameters in points)
    with mpl.rc_context({**STYLE, **INKED}):
        figure = Figure(figsize=(4.8, 3.8), layout="constrained")
        axes = figure.subplots()
        for i, (name, milliseconds, score, parameters) in enumerate(points):
            axes.scatter(
                milliseconds, score, s=30 + 500 * parameters / most,
                color=COLOURS[i % len(COLOURS)], alpha=0.65, label=name, clip_on=False,
            )  # fmt: skip
        axes.set_xlabel(f"ms for a batch of {batch}")
        axes.set_ylabel("average score")
        axes.margins(0.15)
        axes.set_xlim(left=0)
        low, high = (limit(score for _, _, score, _ in points) for limit in (min, max))
        room = max(0.15 * (high - low), 5)
        axes.set_ylim(max(low - room, 0) if low >= 0 else low - room, high + room)
        legend = axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), fontsize=7.5)
        for handle in legend.legend_handles:
            handle.set_sizes([30])
        return _svg(figure)


def attention_pair(
    tokens: Sequence[str], maps: Sequence[tuple[str, Sequence[Sequence[float]]]]
) -> str:
    """Attention maps side by side, on one scale; rows look at columns.

    Args:
        tokens: the sentence.
        maps: (title, probabilities [L, L]) each.
    """
    size = min(9.0, max(5.0, 5 + 6 / max(len(tokens), 1)))
    with mpl.rc_context({**STYLE, **INKED, "axes.grid": False, "xtick.labelsize": size}):
        figure = Figure(figsize=(5.6, 3.1), layout="constrained")
        highest = max(value for _, rows in maps for row in rows for value in row)
        for axes, (title, rows) in zip(figure.subplots(1, len(maps)), maps, strict=True):
            axes.imshow(rows, vmin=0, vmax=highest, cmap="viridis")
            axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=size)
            axes.set_yticks(range(len(tokens)), tokens, fontsize=size)
            axes.set_title(title)
        return _svg(figure)


def layer_distances(
    title: str, layers: Sequence[str], stages: Mapping[str, Sequence[float]]
) -> str:
    """Bars of a distance for each layer, one colour per stage of the distillation."""
    with mpl.rc_context({**STYLE, **INKED}):
        figure = Figure(figsize=(4.8, 2.9), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(stages)
        for i, (stage, values) in enumerate(stages.items()):
            places = [j + (i - (len(stages) - 1) / 2) * width for j in range(len(layers))]
            axes.bar(places, values, width, label=stage)
        axes.set_xticks(range(len(layers)), layers)
        axes.set_title(title)
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
        return _svg(figure)


def save_heat_map(
    path: str | Path,
    table: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> None:
    """Draw a table of shares as one PNG: colours, and the shares × 100 in them; None is left blank."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(1.6 + 0.8 * len(columns), 1.2 + 0.6 * len(rows)), layout="constrained"
        )
        axes = figure.subplots()
        values = [[math.nan if value is None else 100 * value for value in row] for row in table]
        axes.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                if not math.isnan(value):
                    colour = "white" if value < 60 else "black"
                    axes.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour)
        axes.set_title(title)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    with atomic_open(path, "wb") as file:
        file.write(picture.getvalue())
