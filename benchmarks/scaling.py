"""Hours and money of the full profile on GPUs, computed from a run of the benchmarks.

    python -m benchmarks.scaling        # docs/benchmarks.json -> docs/scaling.md

Measured are, on a CPU, the time a step spends outside matrix products, and how fast text is prepared. All
else is arithmetic on shapes, and assumptions that stand in devices.json and below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.inputs import CPU
from benchmarks.lengths import TASKS, load_lengths
from benchmarks.measure import ROOT, Figure
from benchmarks.shapes import (
    classifier_macs,
    encoder_macs,
    layer_step_gflop,
    masked_word_macs,
    prediction_gflop,
)
from transformer.configuration import BertConfig
from transformer.errors import run_script
from transformer.file_utils import atomic_open

RESULTS, PAGE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "scaling.md"
DEVICES = Path(__file__).with_name("devices.json")
TEMPLATE = Path(__file__).with_name("scaling.template.md")
NEEDED = {"general", "pregeneration"}  # rows of the results that the page rests on
# Words of the paper's corpus; pieces a word and pieces a sequence as seen in docs/results-small.md.
WORDS, PIECES_PER_WORD, SEQUENCE = 2.5e9, 1.63, 118
FULL_LENGTH = 128  # what the published scripts pad every row to
GENERAL_EPOCHS, SMART_EPOCHS = 3, 1  # the profile's
LAYER_EPOCHS, PREDICTION_EPOCHS, LABEL_EPOCHS, TEACHER_EPOCHS = 10, 3, 13, 5
PUBLISHED_HOURS = 7 * 24  # "roughly 7 days on an RTX 4090"


class Stage(NamedTuple):
    """Work of a stage of reproduction.sh in GFLOP, by its chains; a chain's parts follow each other.

    Attributes:
        splits: whether one chain can use several GPUs (data-parallel training).
        published: whether the published run has it; `labels only` and `no general distillation` are
            this project's own.
    """

    name: str
    chains: dict[str, float]
    splits: bool
    published: bool = True

    @property
    def gflop(self) -> float:
        """Work of all chains."""
        return sum(self.chains.values())


def task_lengths(task: str, padded: bool) -> tuple[int, float]:
    """Rows of train_aug.tsv and their length."""
    counts = load_lengths(task)
    return counts["augmented_rows"], FULL_LENGTH if padded else counts["augmented_sequence"]


def layers_gflop(student: BertConfig, task: str, padded: bool) -> float:
    """Intermediate distillation of a task, all epochs."""
    rows, length = task_lengths(task, padded)
    return LAYER_EPOCHS * rows * layer_step_gflop(student, CPU.teacher, [length])


def predictions_gflop(student: BertConfig, task: str, padded: bool) -> float:
    """Prediction distillation of a task, all epochs; the published scripts run the teacher in each."""
    rows, length = task_lengths(task, padded)
    work = prediction_gflop(student, CPU.teacher, [length], PREDICTION_EPOCHS)
    if padded:
        work += 2e-9 * (PREDICTION_EPOCHS - 1) * classifier_macs(CPU.teacher, length)
    return rows * work


def training_gflop(config: BertConfig, rows: float, length: float) -> float:
    """Training a classifier on labels, one pass."""
    return 2e-9 * 3 * rows * classifier_macs(config, length)


def augmentation_gflop(task: str) -> float:
    """One masked pass for each replaceable word of each sentence."""
    counts = load_lengths(task)
    return 2e-9 * sum(
        rows * counts["masked"] * pieces * masked_word_macs(CPU.teacher, min(2 * pieces + 3, 512))
        for side in counts["sides"]
        for pieces, rows in side
    )


def general_gflop(student: BertConfig, words: float, epochs: int) -> float:
    """General distillation on a corpus of so many words."""
    sequences = words * PIECES_PER_WORD / SEQUENCE
    return epochs * sequences * layer_step_gflop(student, CPU.teacher, [SEQUENCE])


def full_profile(padded: bool = False, words: float = WORDS) -> list[Stage]:
    """The stages in which models run; `padded` as the published scripts compute them."""
    small, large = CPU.student, CPU.student_6l

    def both(student: BertConfig, task: str) -> float:
        return layers_gflop(student, task, padded) + predictions_gflop(student, task, padded)

    def teacher(task: str) -> float:
        counts = load_lengths(task)
        length = FULL_LENGTH if padded else counts["sequence"]
        return TEACHER_EPOCHS * training_gflop(CPU.teacher, counts["rows"], length)

    def labels(task: str) -> float:
        return LABEL_EPOCHS * training_gflop(small, *task_lengths(task, padded))

    def by_task(work) -> dict[str, float]:
        return {task: work(task) for task in TASKS}

    return [
        Stage("general, 4 layers", {"": general_gflop(small, words, GENERAL_EPOCHS)}, True),
        Stage("general, 6 layers", {"": general_gflop(large, words, GENERAL_EPOCHS)}, True),
        Stage("general, 6 layers, smart start", {"": general_gflop(large, words, SMART_EPOCHS)}, True),
        Stage("augmentation", by_task(augmentation_gflop), False),
        Stage("teachers", by_task(teacher), False),
        Stage("tasks, 4 layers", by_task(lambda task: both(small, task)), False),
        Stage("tasks, 4 layers, to compare with",
              by_task(lambda task: both(small, task) + labels(task)), False, published=False),
        Stage("tasks, 6 layers", by_task(lambda task: both(large, task)), False),
        Stage("tasks, 6 layers, smart start", by_task(lambda task: 2 * both(large, task)), False),
    ]  # fmt: skip


def bytes_per_gflop(figure: Figure) -> float:
    """Gigabytes moved for each GFLOP, from the time of a step that is not the matrix products'."""
    seconds = max(figure.ours - figure.floor, 0.0)
    return seconds * figure.ceiling["copy"] / figure.gflop


def seconds_per_gflop(device: Mapping[str, Any], traffic: float) -> float:
    """What a GPU takes for a GFLOP of matrix products and what goes with it."""
    products = 1 / (1e3 * device["bf16_tflops"] * device["utilisation"])
    return products + traffic / (device["bandwidth_gb_s"] * device["bandwidth_use"])


def hours(stage: Stage, device: Mapping[str, Any], traffic: float) -> float:
    """Wall-clock hours of a stage: chains side by side, or one over all GPUs."""
    each = seconds_per_gflop(device, traffic) / 3600
    if stage.splits:
        return stage.gflop * each / (device["gpus"] * device["scaling"])
    return each * max(max(stage.chains.values()), stage.gflop / device["gpus"])


def figure_of(results: Mapping[str, Any], row: str, ending: str) -> Figure:
    """The figure of a row whose job ends so."""
    found = (f for f in results["rows"][row]["figures"] if f["job"].endswith(ending))
    return Figure.from_json(next(found))


def render(results: Mapping[str, Any]) -> str:
    """The page."""
    table = json.loads(DEVICES.read_text(encoding="utf-8"))
    devices, first = table["devices"], table["devices"][0]
    step = figure_of(results, "general", "fp32")
    pairs = figure_of(results, "pregeneration", "3 epochs")
    traffic, tokens, stages = bytes_per_gflop(step), WORDS * PIECES_PER_WORD, full_profile()
    padded = sum(stage.gflop for stage in full_profile(padded=True) if stage.published)
    whole_step = layer_step_gflop(CPU.student, CPU.teacher, [FULL_LENGTH])
    linear = FULL_LENGTH * layer_step_gflop(CPU.student, CPU.teacher, [1])
    return TEMPLATE.read_text(encoding="utf-8").format(
        processor=results["rows"]["general"]["machine"]["processor"],
        threads=results["rows"]["general"]["machine"]["threads"],
        step=step.ours,
        floor=step.floor,
        copy=step.ceiling["copy"],
        traffic_mb=1e3 * traffic,
        pieces_rate=pairs.ours / 1e6,
        words=WORDS / 1e6,
        tokens=tokens / 1e9,
        pieces_per_word=PIECES_PER_WORD,
        bandwidth_use=first["bandwidth_use"],
        tasks=len(TASKS),
        device_rows="\n".join(_device_row(device, traffic) for device in devices),
        prices=table["prices"],
        head=" | ".join(device["name"] for device in devices),
        rule="---|" * len(devices),
        hour_rows=_hour_rows(stages, devices, traffic),
        epochs=GENERAL_EPOCHS,
        pregeneration=GENERAL_EPOCHS * tokens / pairs.ours / 3600,
        full_length=FULL_LENGTH,
        padded=padded / 1e9,
        published_rate=padded / PUBLISHED_HOURS / 3600 / 1e3,
        useful=sum(stage.gflop for stage in stages if stage.published) / 1e9,
        first_device=first["name"],
        growth_rows=_growth_rows(first, traffic),
        square=1 - linear / whole_step,
        teacher_share=2e-9 * encoder_macs(CPU.teacher, FULL_LENGTH) / whole_step,
    )


def _device_row(device: Mapping[str, Any], traffic: float) -> str:
    return (
        f"| {device['name']} | {device['bf16_tflops']:g} | {device['fp32_tflops']:g} | "
        f"{device['bandwidth_gb_s']:,} | {device['usd_per_hour']:.2f} | {device['utilisation']:.0%} | "
        f"{device['scaling']:.0%} | {1e-3 / seconds_per_gflop(device, traffic):.0f} | {device['source']} |"
    )


def _hour_rows(stages: list[Stage], devices: list[Mapping[str, Any]], traffic: float) -> str:
    taken = [[hours(stage, device, traffic) for device in devices] for stage in stages]
    totals = [sum(column) for column in zip(*taken, strict=True)]
    rows = [
        f"| {stage.name} | {stage.gflop / 1e9:.2f} | {' | '.join(f'{h:.1f}' for h in row)} |"
        for stage, row in zip(stages, taken, strict=True)
    ]
    work = sum(stage.gflop for stage in stages)
    rows.append(
        f"| **all** | **{work / 1e9:.1f}** | {' | '.join(f'**{total:.0f}**' for total in totals)} |"
    )
    prices = (
        f"{total * device['gpus'] * device['usd_per_hour']:,.0f}"
        for total, device in zip(totals, devices, strict=True)
    )
    return "\n".join([*rows, f"| US dollars | | {' | '.join(prices)} |"])


def _growth_rows(device: Mapping[str, Any], traffic: float) -> str:
    each = seconds_per_gflop(device, traffic) / 3600
    rows = [
        f"| general distillation of {name}: 1,000 million words, one epoch | "
        f"{each * general_gflop(student, 1e9, 1):.1f} |"
        for name, student in (("4 layers of 312", CPU.student), ("6 layers of 768", CPU.student_6l))
    ]
    for task in TASKS:
        counts = load_lengths(task)
        epoch = each * layers_gflop(CPU.student, task, padded=False) / LAYER_EPOCHS
        rows.append(
            f"| {task}, the layers of 4 layers of 312: one epoch of {counts['augmented_rows']:,} augmented "
            f"rows of {counts['augmented_sequence']:.0f} pieces | {epoch:.2f} |"
        )
    return "\n".join(rows)


def main() -> int:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    with atomic_open(PAGE) as file:
        file.write(render(results))
    return 0


if __name__ == "__main__":
    run_script(main)
