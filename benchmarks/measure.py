"""What every benchmark shares: the machine's ceilings, alternating measurements, memory, figures.

A figure is never quoted alone: beside it stand the same job done plainly, the published scripts'
figure scaled to this machine, and what the machine itself can do, measured in turn within one run, so
that noise hits them alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

# Rate of fp32 matrix products, GFLOP/s, of the machine on which the published scripts were measured.
PUBLISHED_FP32 = 175.0
ROOT = Path(__file__).resolve().parent.parent


class CeilingSizes(NamedTuple):
    """How large the ceiling's own work is: side of the square matrices, products timed together, bytes."""

    side: int = 2048
    products: int = 1
    copied: int = 1 << 28


CPU_SIZES = CeilingSizes()
GPU_SIZES = CeilingSizes(side=8192, products=16, copied=1 << 31)
TINY_SIZES = CeilingSizes(side=96, products=1, copied=1 << 16)


class Ceiling:
    """What the machine can do at best: matrix products in fp32 and bf16, and copying.

    `sample()` measures each once; the rates are medians over the samples. The threads are those the
    measured code uses.
    """

    def __init__(self, device: torch.device, sizes: CeilingSizes) -> None:
        self.device, self.sizes = device, sizes
        generator = torch.Generator(device).manual_seed(0)
        square = (sizes.side, sizes.side)
        factors = [torch.randn(square, generator=generator, device=device) for _ in range(2)]
        self._work = {
            "fp32": partial(self._products, factors),
            "bf16": partial(self._products, [factor.bfloat16() for factor in factors]),
            "copy": self._copier(),
        }
        self._samples: dict[str, list[float]] = {name: [] for name in self._work}
        for work in self._work.values():  # the first call of each kernel takes longer
            work()

    def _products(self, factors: Sequence[torch.Tensor]) -> float:
        for _ in range(self.sizes.products):
            factors[0] @ factors[1]
        return 2e-9 * self.sizes.products * self.sizes.side**3

    def _copier(self) -> Callable[[], float]:
        source = torch.zeros(self.sizes.copied // 4, device=self.device)
        target = torch.empty_like(source)

        def copy() -> float:
            target.copy_(source)
            return 2e-9 * self.sizes.copied  # read once, written once

        return copy

    def sample(self) -> None:
        """Measure each ceiling once."""
        for name, work in self._work.items():
            seconds, amount = timed(work, self.device)
            self._samples[name].append(amount / seconds)

    def rates(self) -> dict[str, float]:
        """Medians: `fp32` and `bf16` in GFLOP/s, `copy` in GB/s (bytes read and written)."""
        return {name: statistics.median(samples) for name, samples in self._samples.items()}


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds that `work()` takes, the device's queue emptied before and after, and its result."""
    synchronize(device)
    start = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - start, result


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(
    jobs: Mapping[str, Callable[[], Any]], ceiling: Ceiling, repeats: int, warmups: int = 1
) -> dict[str, list[float]]:
    """Run the jobs and the ceiling in turn, `repeats` times each; return each job's seconds.

    Args:
        warmups: runs of every job before that are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(-warmups, repeats):
        for name, job in jobs.items():
            taken, _ = timed(job, ceiling.device)
            if turn >= 0:
                seconds[name].append(taken)
        if turn >= 0:
            ceiling.sample()
    return seconds


class Program(NamedTuple):
    """What a finished program took: wall-clock seconds, and the most memory its largest process held."""

    seconds: float
    peak_bytes: int


# A process begins with the peak of the one it was started from, and the benchmark is a large one. This
# small program stands in between.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
facts = [time.perf_counter() - start, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)]
open(sys.argv[1], "w").write(json.dumps(facts))
"""


def run_program(arguments: Sequence[str | os.PathLike], scratch: Path) -> Program:
    """Run `python ARGUMENTS` from the repository root, its output kept in `scratch`.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    facts, log = scratch / "program.json", scratch / "program.log"
    words = [sys.executable, *map(os.fspath, arguments)]
    with log.open("wb") as output:
        subprocess.run(
            [sys.executable, "-c", _LAUNCHER, facts, *words],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
    seconds, peak, status = json.loads(facts.read_text())
    if status:
        raise RuntimeError(f"{' '.join(words)}: exit status {status}\n{log.read_text()[-2000:]}")
    return Program(seconds, peak)


class Target(NamedTuple):
    """What a figure is asked to reach.

    Attributes:
        against: `floor`: ours / (work / fp32 ceiling) at most `value`; `published`: as many times
            faster than the published scripts as `value`, at least; `limit`: ours at most `value`.
        aim: a further value, hoped for but not asked.
    """

    against: str
    value: float
    aim: float | None = None


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        row: the key that `--only` names; several figures may come from one row.
        job: what is done, on what.
        unit: of ours, the reference and the published figure. A unit ending in `/s` is a rate: more is
            better; of every other unit less is better.
        ours: the figure itself.
        samples: how many measurements it rests on.
        ceiling: see `Ceiling.rates`, measured between those of this figure.
        precision: of the forward passes, `fp32` or `bf16`; None where no model runs.
        gflop: useful work (no padding) per unit: of a step, of a row.
        reference: the same job done plainly, in the same run, and
        reference_is: how plainly.
        published: the published scripts' figure on their machine, and
        published_scales: whether it depends on the machine's speed.
    """

    row: str
    job: str
    unit: str
    ours: float
    samples: int
    ceiling: Mapping[str, float]
    precision: str | None = None
    gflop: float | None = None
    reference: float | None = None
    reference_is: str = ""
    published: float | None = None
    published_scales: bool = True
    target: Target | None = None
    note: str = ""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")

    @property
    def published_here(self) -> float | None:
        """The published figure as it would be on this machine, by the fp32 rates of the two."""
        if self.published is None or not self.published_scales:
            return self.published
        faster = self.ceiling["fp32"] / PUBLISHED_FP32
        return self.published * faster if self.is_rate else self.published / faster

    @property
    def floor(self) -> float | None:
        """What the unit would be if the useful work ran at the fp32 ceiling."""
        if self.gflop is None:
            return None
        return (
            self.ceiling["fp32"] / self.gflop if self.is_rate else self.gflop / self.ceiling["fp32"]
        )

    @property
    def of_ceiling(self) -> float | None:
        """Useful work per second as a share of the ceiling of its own precision."""
        if self.gflop is None or self.precision is None:
            return None
        rate = self.ours * self.gflop if self.is_rate else self.gflop / self.ours
        return rate / self.ceiling[self.precision]

    def times(self, other: float | None) -> float | None:
        """How many times better ours is than `other`, a figure of the same unit."""
        if other is None:
            return None
        return self.ours / other if self.is_rate else other / self.ours

    @property
    def reached(self) -> float | None:
        """What stands beside the target's value."""
        if self.target is None:
            return None
        if self.target.against == "floor":
            return 1 / self.times(self.floor)
        return self.times(self.published_here) if self.target.against == "published" else self.ours

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        if self.target.against == "published":
            return self.reached >= self.target.value
        return self.reached <= self.target.value

    def to_json(self) -> dict[str, Any]:
        """The figure with what is derived from it, for the results file."""
        derived = ("published_here", "floor", "of_ceiling", "reached", "met")
        values = {**vars(self), "target": self.target and self.target._asdict()}
        return values | {name: getattr(self, name) for name in derived}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Figure:
        """The figure that `to_json` wrote; what is derived is derived anew."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        target = known["target"]
        return cls(**known | {"target": target and Target(**target)})


@dataclass(frozen=True)
class Stopwatch:
    """Times the steps of a training run from outside, by way of the loss function it is handed.

    A step lasts from one call of the loss function to the next: forward and backward passes, the
    optimiser, the next batch. In between, off the clock, other work may be done. The first step warms
    up and the last is never seen to end; neither is counted.

    Attributes:
        device: where the steps are computed.
        between: called with the coming batch before each step.
        work: GFLOP of a batch that are of use.
    """

    device: torch.device
    between: Callable[[dict[str, torch.Tensor]], object]
    work: Callable[[dict[str, torch.Tensor]], float]
    seconds: list[float] = field(default_factory=list)
    gflop: list[float] = field(default_factory=list)
    _started: list[float] = field(default_factory=list)

    def wrap(self, losses: Callable) -> Callable:
        """The loss function with the clock in it."""

        def timed_losses(model, batch):
            synchronize(self.device)
            if self._started:
                self.seconds.append(time.perf_counter() - self._started.pop())
            self.between(batch)
            self.gflop.append(self.work(batch))
            synchronize(self.device)
            self._started.append(time.perf_counter())
            return losses(model, batch)

        return timed_losses

    def mean(self) -> float:
        """Seconds of a step whose work is the mean of all: time of the steps counted, by their work."""
        return sum(self.seconds[1:]) / sum(self.gflop[1:-1]) * self.mean_gflop()

    def mean_gflop(self) -> float:
        """Mean work of all steps, the first and the last included."""
        return statistics.mean(self.gflop)

    def median(self) -> float:
        """Median seconds of the steps counted; for steps of equal work."""
        return statistics.median(self.seconds[1:])


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Where a run was made: processor, threads, memory, versions."""
    facts = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["gpu_memory_gb"] = round(
            torch.cuda.get_device_properties(device).total_memory / 2**30
        )
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
