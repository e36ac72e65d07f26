"""How the benchmarks measure: the machine's ceilings, alternating jobs, steps of a training, memory."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distillation.global_batches import Batch
from transformer.linear import linear, products_by
from transformer.precision import multiplies_bf16
from transformer.processor import processor

ROOT = Path(__file__).resolve().parent.parent


class CeilingSizes(NamedTuple):
    """How large the ceiling's own work is: side of the square matrices, products timed together, bytes."""

    side: int = 2048
    products: int = 1
    copied: int = 1 << 28


CPU_SIZES = CeilingSizes()
GPU_SIZES = CeilingSizes(side=8192, products=4, copied=1 << 31)
TINY_SIZES = CeilingSizes(side=96, products=1, copied=1 << 16)


class Ceiling:
    """What the machine can do at best: matrix products in fp32 and bf16, and copying.

    On a CPU fp32 is measured twice: as `torch.matmul` does it, like the published figures' machine, and as
    the models' linear layers do (transformer/linear.py). bf16 is left out where the device has no arithmetic
    for it.

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
            "copy": self._copier(),
        }
        if multiplies_bf16(device):
            halves = [factor.bfloat16() for factor in factors]
            self._work["bf16"] = partial(self._products, halves)
        if device.type == "cpu":
            self._work["linear"] = partial(self._products, factors, linear)
        self._samples: dict[str, list[float]] = {name: [] for name in self._work}
        for work in self._work.values():  # the first call of each kernel takes longer
            work()

    def _products(
        self, factors: Sequence[torch.Tensor], multiply: Callable = torch.matmul
    ) -> float:
        for _ in range(self.sizes.products):
            multiply(*factors)
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
        """Medians: `fp32`, `linear`, `bf16` in GFLOP/s, `copy` in GB/s (bytes read and written)."""
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
    jobs: Mapping[Any, Callable[[], Any]], ceiling: Ceiling, repeats: int, warmups: int = 1
) -> dict[Any, list[float]]:
    """Run the jobs and the ceiling in turn, `repeats` times each; return each job's seconds.

    Args:
        warmups: runs of every job before that are not counted.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in jobs}
    for turn in range(-warmups, repeats):
        # Back and forth: whichever job finds the inputs of the one before in the caches gains by it.
        for name, job in list(jobs.items())[:: -1 if turn % 2 else 1]:
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


@dataclass(frozen=True)
class Stopwatch:
    """Times the steps of a training run from outside.

    A step lasts from its call to the next one's: forward and backward passes, the optimiser, the log, the
    next batch. In between, off the clock, other work may be done. A GPU's own clock tells when it came
    there; it is not waited for. The first step warms up and the last is never seen to end; neither is
    counted. Nor is one whose shape came less than `known` times before: a GPU is still recording such steps.

    Attributes:
        device: where the steps are computed.
        between: called with the coming batch before each step; says whether it did anything.
        work: GFLOP of a batch that are of use.
    """

    device: torch.device
    between: Callable[[Batch], bool]
    work: Callable[[Batch], float]
    known: int = 0
    gflop: list[float] = field(default_factory=list)
    _shapes: Counter = field(default_factory=Counter)
    _counts: list[bool] = field(default_factory=list)
    _spans: list[tuple[Any, Any]] = field(default_factory=list)
    _started: list[Any] = field(default_factory=list)

    def wrap(self, step: Callable) -> Callable:
        """The step of a training loop with the clock in it; it is handed a `GlobalBatch` first."""

        def timed_step(whole, *arguments):
            now = self._now()
            if self._started:
                self._spans.append((self._started.pop(), now))
            ((batch, _),) = whole.parts
            shape = batch["input_ids"].shape
            self._counts.append(self._shapes[shape] >= self.known and bool(self.gflop))
            self._shapes[shape] += 1
            self.gflop.append(self.work(batch))
            if self.between(batch):
                synchronize(self.device)
                now = self._now()
            self._started.append(now)
            step(whole, *arguments)

        return timed_step

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @property
    def seconds(self) -> list[float]:
        """Of each step that was seen to end."""
        synchronize(self.device)
        if self.device.type != "cuda":
            return [end - start for start, end in self._spans]
        return [1e-3 * start.elapsed_time(end) for start, end in self._spans]

    def counted(self) -> list[tuple[float, float]]:
        """Seconds and GFLOP of the steps that count."""
        steps = zip(self.seconds, self.gflop, self._counts, strict=False)
        return [(seconds, gflop) for seconds, gflop, counts in steps if counts]

    def mean(self) -> float:
        """Seconds of a step whose work is the mean of all: time of the steps counted, by their work."""
        seconds, gflop = map(sum, zip(*self.counted(), strict=True))
        return seconds / gflop * self.mean_gflop()

    def mean_gflop(self) -> float:
        """Mean work of all steps."""
        return statistics.mean(self.gflop)

    def median_for(self, gflop: float) -> float:
        """Median seconds of the steps counted, each as if its work were `gflop`."""
        return statistics.median(seconds / work * gflop for seconds, work in self.counted())


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Where a run was made: processor, threads, memory, versions."""
    facts = {
        "processor": processor().name,
        "instructions": processor().instructions,
        "matrix products by": products_by(),
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
