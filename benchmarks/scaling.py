"""Hours and money of the full profile on GPUs, computed from a run of the benchmarks.

    python -m benchmarks.scaling        # docs/benchmarks.json -> docs/scaling.md

Measured are, on a CPU, the time a step spends outside matrix products (if nothing else ran beside it), and
how fast text is prepared. All else is arithmetic on shapes, and assumptions that stand in devices.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import Figure
from benchmarks.inputs import CPU
from benchmarks.lengths import TASKS, load_lengths
from benchmarks.measure import ROOT
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
TASK_BATCH, AUGMENT_BATCH = 32, 64
GENERAL_BATCH_4L, GENERAL_BATCH_6L = 64, 256 // 8  # 8 micro-steps
PUBLISHED_HOURS = 7 * 24  # "roughly 7 days on an RTX 4090"


class Work(NamedTuple):
    """GFLOP of matrix products, and the forward passes (with their backward passes) they come in."""

    gflop: float
    steps: float

    def __add__(self, other: Work) -> Work:
        return Work(self.gflop + other.gflop, self.steps + other.steps)

    def times(self, factor: float) -> Work:
        """The same so often."""
        return Work(self.gflop * factor, self.steps * factor)


class Stage(NamedTuple):
    """Work of a stage of reproduction.sh by its chains, which may run side by side.

    Attributes:
        splits: whether one chain can use several GPUs (data-parallel training).
        published: whether the published run has it; what the students are compared with (no general
            distillation, labels only) is this project's own.
    """

    name: str
    chains: dict[str, Work]
    splits: bool
    published: bool = True

    @property
    def work(self) -> Work:
        """Work of all chains."""
        return sum(self.chains.values(), Work(0, 0))


def task_lengths(task: str, padded: bool) -> tuple[int, float]:
    """Rows of train_aug.tsv and their length."""
    counts = load_lengths(task)
    return counts["augmented_rows"], FULL_LENGTH if padded else counts["augmented_sequence"]


def layers_epoch(student: BertConfig, task: str, padded: bool = False) -> Work:
    """Intermediate distillation of a task, one epoch."""
    rows, length = task_lengths(task, padded)
    return Work(rows * layer_step_gflop(student, CPU.teacher, [length]), rows / TASK_BATCH)


def predictions(student: BertConfig, task: str, padded: bool) -> Work:
    """Prediction distillation of a task, all epochs; the published scripts run the teacher in each."""
    rows, length = task_lengths(task, padded)
    work = prediction_gflop(student, CPU.teacher, [length], PREDICTION_EPOCHS)
    if padded:
        teacher = classifier_macs(CPU.teacher, length, training=True)
        work += 2e-9 * (PREDICTION_EPOCHS - 1) * teacher
    return Work(rows * work, PREDICTION_EPOCHS * rows / TASK_BATCH)


def label_epoch(config: BertConfig, rows: float, length: float) -> Work:
    """Training a classifier on labels, one epoch."""
    return Work(2e-9 * 3 * rows * classifier_macs(config, length, training=True), rows / TASK_BATCH)


def augmentation(task: str) -> Work:
    """One masked pass for each replaceable word of each sentence."""
    counts = load_lengths(task)
    passes = [
        (rows * counts["masked"] * pieces, min(2 * pieces + 3, 512))
        for side in counts["sides"]
        for pieces, rows in side
    ]
    gflop = 2e-9 * sum(count * masked_word_macs(CPU.teacher, length) for count, length in passes)
    return Work(gflop, sum(count for count, _ in passes) / AUGMENT_BATCH)


def general_epoch(student: BertConfig, words: float, batch: int) -> Work:
    """General distillation on a corpus of so many words, one epoch in (micro-)batches."""
    sequences = words * PIECES_PER_WORD / SEQUENCE
    gflop = sequences * layer_step_gflop(student, CPU.teacher, [SEQUENCE])
    return Work(gflop, sequences / batch)


def full_profile(padded: bool = False, words: float = WORDS) -> list[Stage]:
    """The stages in which models run; `padded` as the published scripts compute them."""
    small, large = CPU.student, CPU.student_6l

    def both(student: BertConfig, task: str) -> Work:
        layers = layers_epoch(student, task, padded).times(LAYER_EPOCHS)
        return layers + predictions(student, task, padded)

    def teacher(task: str) -> Work:
        counts = load_lengths(task)
        length = FULL_LENGTH if padded else counts["sequence"]
        return label_epoch(CPU.teacher, counts["rows"], length).times(TEACHER_EPOCHS)

    def compared(task: str) -> Work:
        labels = label_epoch(small, *task_lengths(task, padded))
        return both(small, task) + labels.times(LABEL_EPOCHS)

    def by_task(work: Callable[[str], Work]) -> dict[str, Work]:
        return {task: work(task) for task in TASKS}

    def general(student: BertConfig, epochs: int) -> dict[str, Work]:
        batch = GENERAL_BATCH_4L if student is small else GENERAL_BATCH_6L
        return {"": general_epoch(student, words, batch).times(epochs)}

    return [
        Stage("general, 4 layers", general(small, GENERAL_EPOCHS), True),
        Stage("general, 6 layers", general(large, GENERAL_EPOCHS), True),
        Stage("general, 6 layers, smart start", general(large, SMART_EPOCHS), True),
        Stage("augmentation", by_task(augmentation), False),
        Stage("teachers", by_task(teacher), False),
        Stage("tasks, 4 layers", by_task(lambda task: both(small, task)), False),
        Stage("tasks, 4 layers, to compare with", by_task(compared), False, published=False),
        Stage("tasks, 6 layers", by_task(lambda task: both(large, task)), False),
        Stage("tasks, 6 layers, smart start", by_task(lambda t: both(large, t).times(2)), False),
    ]


def measured_traffic(figure: Figure) -> float:
    """Gigabytes moved for each GFLOP, from the time of a step that is not the matrix products'."""
    seconds = max(figure.ours - figure.floor, 0.0)
    return seconds * figure.ceiling["copy"] / figure.gflop


def assumed_traffic(config: BertConfig = CPU.teacher) -> float:
    """Gigabytes for each GFLOP of a layer's forward pass, by counting passes over fp32 activations.

    16 over the hidden state (biases, dropout, residuals, LayerNorm), 2 over the inner state (GELU), 7
    over the attention scores (mask, softmax, dropout).
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    values = 16 * hidden + 2 * inner + 7 * config.num_attention_heads * FULL_LENGTH
    one_layer = 2e-9 * encoder_macs(config, FULL_LENGTH) / config.num_hidden_layers / FULL_LENGTH
    return 4e-9 * values / one_layer


def traffic_of(row: Mapping[str, Any], step: Figure) -> tuple[float, str]:
    """Gigabytes for each GFLOP, and how they were found: measured, unless others used the machine."""
    cores = row["machine"]["cores"]
    if row["load"] > cores:
        traffic = assumed_traffic()
        return traffic, (
            f"That run was made on a busy machine\n  (load {row['load']} on {cores} cores), "
            f"where the difference says nothing; instead {1e3 * traffic:.1f} MB are **assumed** to be\n"
            "  moved for each GFLOP, by counting passes over activations"
        )
    traffic = measured_traffic(step)
    return traffic, (
        f"The difference, at the copy rate of that machine ({step.ceiling['copy']:.1f} GB/s), stands for "
        f"{1e3 * traffic:.1f} MB moved for each GFLOP"
    )


def seconds_per_gflop(device: Mapping[str, Any], traffic: float) -> float:
    """What a GPU takes for a GFLOP of matrix products and what goes with it."""
    products = 1 / (1e3 * device["bf16_tflops"] * device["utilisation"])
    return products + traffic / (device["bandwidth_gb_s"] * device["bandwidth_use"])


def hours_of(work: Work, device: Mapping[str, Any], traffic: float) -> float:
    """Hours of some work on one GPU: its arithmetic, or starting its kernels, whichever takes longer."""
    arithmetic = work.gflop * seconds_per_gflop(device, traffic)
    return max(arithmetic, 1e-3 * device["step_ms"] * work.steps) / 3600


def hours(stage: Stage, device: Mapping[str, Any], traffic: float) -> float:
    """Wall-clock hours of a stage: chains side by side, or one over all GPUs."""
    chains = [hours_of(work, device, traffic) for work in stage.chains.values()]
    if stage.splits:
        return sum(chains) / (device["gpus"] * device["scaling"])
    return max(max(chains), sum(chains) / device["gpus"])


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
    traffic, found = traffic_of(results["rows"]["general"], step)
    tokens, stages = WORDS * PIECES_PER_WORD, full_profile()
    padded = sum(stage.work.gflop for stage in full_profile(padded=True) if stage.published)
    whole_step = layer_step_gflop(CPU.student, CPU.teacher, [FULL_LENGTH])
    linear = FULL_LENGTH * layer_step_gflop(CPU.student, CPU.teacher, [1])
    return TEMPLATE.read_text(encoding="utf-8").format(
        processor=results["rows"]["general"]["machine"]["processor"],
        threads=results["rows"]["general"]["machine"]["threads"],
        step=step.ours,
        floor=step.floor,
        traffic=found,
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
        useful=sum(stage.work.gflop for stage in stages if stage.published) / 1e9,
        step_ms=first["step_ms"],
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
        f"| {stage.name} | {stage.work.gflop / 1e9:.2g} | {' | '.join(f'{h:.1f}' for h in row)} |"
        for stage, row in zip(stages, taken, strict=True)
    ]
    work = sum(stage.work.gflop for stage in stages)
    rows.append(
        f"| **all** | **{work / 1e9:.1f}** | {' | '.join(f'**{total:.0f}**' for total in totals)} |"
    )
    prices = (
        f"{total * device['gpus'] * device['usd_per_hour']:,.0f}"
        for total, device in zip(totals, devices, strict=True)
    )
    return "\n".join([*rows, f"| US dollars | | {' | '.join(prices)} |"])


def _growth_rows(device: Mapping[str, Any], traffic: float) -> str:
    jobs = {
        f"general distillation of {name}: 1,000 million words, one epoch": general_epoch(
            student, 1e9, batch
        )
        for name, student, batch in (
            ("4 layers of 312", CPU.student, GENERAL_BATCH_4L),
            ("6 layers of 768", CPU.student_6l, GENERAL_BATCH_6L),
        )
    }
    for task in TASKS:
        rows, length = task_lengths(task, padded=False)
        size = f"one epoch of {rows:,} augmented rows of {length:.0f} pieces"
        jobs[f"{task}, the layers of 4 layers of 312: {size}"] = layers_epoch(CPU.student, task)
    return "\n".join(
        f"| {job} | {hours_of(work, device, traffic):.2f} |" for job, work in jobs.items()
    )


def main() -> int:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    with atomic_open(PAGE) as file:
        file.write(render(results))
    return 0


if __name__ == "__main__":
    run_script(main)
