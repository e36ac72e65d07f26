"""A measured figure and what it is compared with.

A figure is never quoted alone: beside it stand the same job done plainly, the published scripts'
figure scaled to this machine, and what the machine itself can do, measured in turn within one run, so
that noise hits them alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

# Rate of fp32 matrix products, GFLOP/s, of the machine on which the published scripts were measured.
PUBLISHED_FP32 = 175.0


class Target(NamedTuple):
    """What a figure is asked to reach.

    Attributes:
        against: `floor`: ours / (work / fp32 ceiling) at most `value`; `published`, `plain`: as many times
            faster than the published scripts, or than the plain job, as `value`, at least; `limit`: ours
            at most `value`.
        aim: a further value, hoped for but not asked.
        library: it holds only where this library multiplies fp32 matrices (see transformer/linear.py); the
            published figures are scaled by the rate of torch's own, so that a faster one is a lead.
    """

    against: str
    value: float
    aim: float | None = None
    library: str = ""


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        row: the key that `--only` names; several figures may come from one row.
        job: what is done, on what.
        unit: of ours, the reference and the published figure. A unit ending in `/s` is a rate: more is
            better; of every other unit less is better.
        ours: the figure itself; None where the processor cannot do the job.
        samples: how many measurements it rests on.
        ceiling: see `Ceiling.rates`, measured between those of this figure.
        precision: of the forward passes, `fp32` or `bf16`; None where no model runs.
        gflop: useful work (no padding) per unit: of a step, of a row.
        reference: the same job done plainly, in the same run, and
        reference_is: how plainly.
        published: the published scripts' figure on their machine, and
        published_scales: whether it depends on the machine's speed.
        judged: whether the target holds on this processor.
    """

    row: str
    job: str
    unit: str
    ours: float | None
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
    judged: bool = True

    def without_bf16(self, target: Target) -> Figure:
        """For the same job in bf16, `self` being in fp32, where the processor has no arithmetic for it."""
        return replace(
            self, job=self.job.replace("fp32", "bf16"), ours=None, samples=0, precision="bf16",
            reference=None, reference_is="", note="", target=self.target and target,
        )  # fmt: skip

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
        """What the unit would be if the useful work ran at the rate of torch's own fp32 product."""
        if self.gflop is None:
            return None
        return (
            self.ceiling["fp32"] / self.gflop if self.is_rate else self.gflop / self.ceiling["fp32"]
        )

    @property
    def of_ceiling(self) -> float | None:
        """Useful work per second as a share of the ceiling of its own precision; fp32's is the higher."""
        if self.gflop is None or self.precision is None or self.ours is None:
            return None
        rate = self.ours * self.gflop if self.is_rate else self.gflop / self.ours
        kinds = ("fp32", "linear") if self.precision == "fp32" else ("bf16",)
        return rate / max(self.ceiling.get(kind, 0.0) for kind in kinds)

    def times(self, other: float | None) -> float | None:
        """How many times better ours is than `other`, a figure of the same unit."""
        if other is None or self.ours is None:
            return None
        return self.ours / other if self.is_rate else other / self.ours

    @property
    def reached(self) -> float | None:
        """What stands beside the target's value."""
        if self.target is None or self.ours is None:
            return None
        if self.target.against == "floor":
            return 1 / self.times(self.floor)
        others = {"published": self.published_here, "plain": self.reference}
        if self.target.against in others:
            return self.times(others[self.target.against])
        return self.ours

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none to judge by."""
        if self.reached is None or not self.judged:
            return None
        if self.target.against in ("published", "plain"):
            return self.reached >= self.target.value
        return self.reached <= self.target.value

    def to_json(self) -> dict[str, Any]:
        """The figure with what is derived from it, for the results file."""
        derived = ("published_here", "floor", "of_ceiling", "reached", "met")
        values = {**vars(self), "target": self.target and self.target._asdict()}
        return values | {name: getattr(self, name) for name in derived}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Figure:
        """The figure that `to_json` wrote; what is derived is derived again."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        target = known["target"]
        return cls(**known | {"target": target and Target(**target)})
