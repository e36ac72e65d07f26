"""Hours and money of the full profile on GPUs, computed from runs of the benchmarks.

    python -m benchmarks.scaling        # docs/benchmarks-gpu.json, docs/benchmarks.json -> docs/scaling.md

Measured are steps of general distillation on a GPU, in a small batch and a large one, and how fast a CPU
prepares text. All else is arithmetic on shapes, and assumptions that stand in devices.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.devices import (
    DEVICES,
    GPU_RESULTS,
    StepTime,
    Work,
    device_steps,
    measured_step,
)
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
from cli.help import script_parser
from files.atomic import atomic_open
from files.errors import run_script
from transformer.configuration import BertConfig

RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "scaling.md"
TEMPLATE = Path(__file__).with_name("scaling.template.md")
# Words of the paper's corpus; tokens a word and tokens a sequence as seen in docs/results-small.md.
WORDS, PIECES_PER_WORD, SEQUENCE = 2.5e9, 1.63, 118
FULL_LENGTH = 128  # what the published scripts pad every row to
GENERAL_EPOCHS, SMART_EPOCHS = 3, 1  # the profile's
LAYER_EPOCHS, PREDICTION_EPOCHS, LABEL_EPOCHS, TEACHER_EPOCHS = 10, 3, 20, 5
TASK_BATCH, AUGMENT_BATCH = 32, 64
GENERAL_BATCH_4L, GENERAL_BATCH_6L = 64, 256 // 8  # 8 micro-steps
PUBLISHED_HOURS = 7 * 24  # "roughly 7 days on an RTX 4090"


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

    def labels(config: BertConfig, task: str, epochs: int) -> Work:
        counts = load_lengths(task)
        length = FULL_LENGTH if padded else counts["sequence"]
        return label_epoch(config, counts["rows"], length).times(epochs)

    def teacher(task: str) -> Work:
        return labels(CPU.teacher, task, TEACHER_EPOCHS)

    def compared(task: str) -> Work:
        return both(small, task) + labels(small, task, LABEL_EPOCHS)

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


def hours(stage: Stage, device: Mapping[str, Any], step: StepTime) -> float:
    """Wall-clock hours of a stage: chains side by side, or one over all GPUs."""
    if stage.splits:
        share = 1 / (device["gpus"] * device["scaling"])
        return sum(step.hours(work, share) for work in stage.chains.values())
    chains = [step.hours(work) for work in stage.chains.values()]
    return max(max(chains), sum(chains) / device["gpus"])


def figure_of(results: Mapping[str, Any], row: str, ending: str) -> Figure:
    """The figure of a row whose job ends so."""
    found = (f for f in results["rows"][row]["figures"] if f["job"].endswith(ending))
    return Figure.from_json(next(found))


def render(gpu: Mapping[str, Any], cpu: Mapping[str, Any]) -> str:
    """The page.

    Args:
        gpu, cpu: the results of `make bench-gpu` and `make bench`.

    Raises:
        UserError: devices.json does not know the card that was measured.
    """
    table = json.loads(DEVICES.read_text(encoding="utf-8"))
    small, large = measured_step(gpu)
    line, products = StepTime.through(small, large), large.of_ceiling
    devices = device_steps(gpu, table["devices"])
    card = gpu["rows"]["general"]["machine"]["gpu"]
    measured = next(d for d in table["devices"] if d["card"] == card)
    rows = figure_of(gpu, "intermediate-sst2", "bf16")
    compiled = figure_of(gpu, "general", "--compile")
    pairs = figure_of(cpu, "pregeneration", "3 epochs")
    tokens, stages = WORDS * PIECES_PER_WORD, full_profile()
    padded = sum(stage.work.gflop for stage in full_profile(padded=True) if stage.published)
    whole_step = layer_step_gflop(CPU.student, CPU.teacher, [FULL_LENGTH])
    linear = FULL_LENGTH * layer_step_gflop(CPU.student, CPU.teacher, [1])
    return TEMPLATE.read_text(encoding="utf-8").format(
        card=card,
        measured=measured["name"],
        small_job=small.job.removeprefix("general distillation, "),
        large_job=large.job.removeprefix("general distillation, "),
        small=1e3 * small.ours,
        large=1e3 * large.ours,
        start=1e3 * line.start,
        rate=1e-3 / line.per_gflop,
        products=products,
        compiled=1e3 * compiled.ours,
        rows_measured=1e3 * rows.ours,
        rows_computed=1e3 * (line.start + line.per_gflop * rows.gflop),
        pieces_rate=pairs.ours / 1e6,
        words=WORDS / 1e6,
        tokens=tokens / 1e9,
        pieces_per_word=PIECES_PER_WORD,
        tasks=len(TASKS),
        device_rows="\n".join(_device_row(device, step) for device, step in devices),
        prices=table["prices"],
        head=" | ".join(device["name"] for device, _ in devices),
        rule="---|" * len(devices),
        hour_rows=_hour_rows(stages, devices),
        epochs=GENERAL_EPOCHS,
        pregeneration=GENERAL_EPOCHS * tokens / pairs.ours / 3600,
        full_length=FULL_LENGTH,
        padded=padded / 1e9,
        published_rate=padded / PUBLISHED_HOURS / 3600 / 1e3,
        useful=sum(stage.work.gflop for stage in stages if stage.published) / 1e9,
        first_device=devices[0][0]["name"],
        growth_rows=_growth_rows(devices[0][1]),
        square=1 - linear / whole_step,
        teacher_share=2e-9 * encoder_macs(CPU.teacher, FULL_LENGTH) / whole_step,
    )


def _device_row(device: Mapping[str, Any], step: StepTime) -> str:
    return (
        f"| {device['name']} | {device['bf16_tflops']:g} | {device['bandwidth_gb_s']:,} | "
        f"{device['usd_per_hour']:.2f} | {device['scaling']:.0%} | {1e3 * step.start:.1f} | "
        f"{1e-3 / step.per_gflop:.0f} | {device['source']} |"
    )


def _hour_rows(stages: list[Stage], devices: list[tuple[Mapping[str, Any], StepTime]]) -> str:
    taken = [[hours(stage, device, step) for device, step in devices] for stage in stages]
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
        for total, (device, _) in zip(totals, devices, strict=True)
    )
    return "\n".join([*rows, f"| US dollars | | {' | '.join(prices)} |"])


def _growth_rows(step: StepTime) -> str:
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
        size = f"one epoch of {rows:,} augmented rows of {length:.0f} tokens"
        jobs[f"{task}, the layers of 4 layers of 312: {size}"] = layers_epoch(CPU.student, task)
    return "\n".join(f"| {job} | {step.hours(work):.2f} |" for job, work in jobs.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.prog = "python -m benchmarks.scaling"
    parser.parse_args(argv)
    gpu, cpu = (json.loads(path.read_text(encoding="utf-8")) for path in (GPU_RESULTS, RESULTS))
    with atomic_open(PAGE) as file:
        file.write(render(gpu, cpu))
    return 0


if __name__ == "__main__":
    run_script(main)
