"""How long a step takes on a GPU: measured, or by its data sheet from one that was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import Figure
from files.errors import UserError

GPU_RESULTS = Path(__file__).parent.parent / "docs" / "benchmarks-gpu.json"
DEVICES = Path(__file__).with_name("devices.json")


class Work(NamedTuple):
    """GFLOP of matrix products, and the forward passes (with their backward passes) they come in."""

    gflop: float
    steps: float

    def __add__(self, other: Work) -> Work:
        return Work(self.gflop + other.gflop, self.steps + other.steps)

    def times(self, factor: float) -> Work:
        """The same so often."""
        return Work(self.gflop * factor, self.steps * factor)


class StepTime(NamedTuple):
    """Seconds of a step: `start`, and `per_gflop` for each GFLOP of its matrix products."""

    start: float
    per_gflop: float

    @classmethod
    def through(cls, small: Figure, large: Figure) -> StepTime:
        """The straight line through two measured steps."""
        slope = (large.ours - small.ours) / (large.gflop - small.gflop)
        return cls(small.ours - slope * small.gflop, slope)

    def times(self, factor: float) -> StepTime:
        """The same where arithmetic and memory take `factor` times as long; starting does not."""
        return StepTime(self.start, self.per_gflop * factor)

    def hours(self, work: Work, share: float = 1.0) -> float:
        """Hours of some work of whose arithmetic this GPU does a share in every step."""
        return (self.start * work.steps + self.per_gflop * share * work.gflop) / 3600


def measured_step(results: Mapping[str, Any], precision: str = "bf16") -> tuple[Figure, Figure]:
    """Steps of general distillation in the smallest and the largest batch measured."""
    figures = map(Figure.from_json, results["rows"]["general"]["figures"])
    steps = [figure for figure in figures if figure.job.endswith(f", {precision}")]
    return steps[0], steps[-1]


def slower(
    device: Mapping[str, Any],
    measured: Mapping[str, Any],
    products: float,
    precision: str = "bf16",
) -> float:
    """How many times as long a device takes as the measured one, by their data sheets.

    Args:
        products: share of the measured time that its matrix products need at its own best; the rest
            is taken to be memory's.
    """
    arithmetic = measured[f"{precision}_tflops"] / device[f"{precision}_tflops"]
    memory = measured["bandwidth_gb_s"] / device["bandwidth_gb_s"]
    return products * arithmetic + (1 - products) * memory


def device_steps(
    results: Mapping[str, Any], devices: Sequence[Mapping[str, Any]], precision: str = "bf16"
) -> list[tuple[Mapping[str, Any], StepTime]]:
    """Each device with its time of a step.

    Args:
        results: of `make bench-gpu`.
        devices: those of devices.json.

    Raises:
        UserError: devices.json does not know the card that was measured.
    """
    card = results["rows"]["general"]["machine"]["gpu"]
    known = {device["card"]: device for device in reversed(devices)}
    if card not in known:
        raise UserError(f"{GPU_RESULTS}: measured on {card}; {DEVICES} knows {', '.join(known)}")
    small, large = measured_step(results, precision)
    line = StepTime.through(small, large)
    return [
        (device, line.times(slower(device, known[card], large.of_ceiling, precision)))
        for device in devices
    ]


def step_on(card: str, precision: str) -> StepTime | None:
    """The time of a step on a card, by the name its driver gives; None for one that nobody knows."""
    results, table = (json.loads(path.read_text("utf-8")) for path in (GPU_RESULTS, DEVICES))
    for device, step in device_steps(results, table["cards"], precision):
        if device["card"] == card:
            return step
    return None
