"""Fronts of length configurations: a table, and a picture of what they cost and which lengths they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from files.atomic import atomic_open

# Dynamic-TinyBERT, table 1: its best speed-up with F1 within 1 point of BERT-base's, F1 of all lengths.
PUBLISHED = {"Dynamic-TinyBERT": (3.3, 88.71), "+ LengthDrop": (3.54, 88.24)}


def front_table(rows: Sequence[Mapping[str, Any]], main: str) -> str:
    """A Markdown table of a front, the whole model first."""
    lines = [
        f"| lengths | {main} | GMACs | share | ms a batch | p90 | × whole | × padded |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {', '.join(map(str, row['lengths']))} | {row[main]:.4g} | {row['gmacs']:.4g} | "
            f"{row['share']:.3f} | {row['latency_ms_p50']:.1f} | {row['latency_ms_p90']:.1f} | "
            f"{row['speedup']:.2f} | {row['speedup_padded']:.2f} |"
        )
    return "\n".join(lines)


def draw_front(rows: Sequence[Mapping[str, Any]], main: str, longest: int, path: Path) -> None:
    """Draw score over cost, and which share of the tokens each configuration keeps by layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    shares = [row["share"] for row in rows]
    left.plot(shares, [row[main] for row in rows], "o-", label="multiply-accumulates")
    times = [1 / row["speedup"] for row in rows]
    left.plot(times, [row[main] for row in rows], "s", label="time", alpha=0.6)
    left.set(xlabel="share of the whole model's work", ylabel=main, title="front")
    left.grid(alpha=0.3)
    left.legend()
    table = [[1.0, *(length / longest for length in row["lengths"])] for row in rows]
    image = right.imshow(table, aspect="auto", vmin=0, vmax=1, cmap="viridis")
    right.set(
        xlabel="layer (0: all tokens)",
        ylabel="configuration, the whole model first",
        title="tokens kept by layer",
    )
    figure.colorbar(image, ax=right)
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
