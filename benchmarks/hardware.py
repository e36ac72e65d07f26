"""What fits into how much GPU memory, with which flags, and how long it takes on one card or several.

    python -m benchmarks.hardware     # docs/benchmarks-gpu.json, devices.json -> docs/hardware.md

Hours are those of benchmarks/scaling.py. Memory is arithmetic on shapes, held against the one case measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.devices import DEVICES, GPU_RESULTS, StepTime, device_steps
from benchmarks.inputs import CPU
from benchmarks.measure import ROOT
from benchmarks.scaling import Stage, figure_of, full_profile, hours
from benchmarks.shapes import encoder_parameters
from cli.help import script_parser
from files.atomic import atomic_open
from files.errors import run_script
from transformer.configuration import BertConfig

PAGE = ROOT / "docs" / "hardware.md"
TEMPLATE = Path(__file__).with_name("hardware.template.md")
LENGTH = 128
USABLE = 0.85  # of a card's memory; CUDA itself and gaps between tensors take the rest
MOST_PARTS = 64


class Case(NamedTuple):
    """The command of a stage that needs the most memory.

    Attributes:
        rows: of a micro-batch, at LENGTH.
        trained, teacher: None where there is none.
        layers: whether attention scores and hidden states are compared.
    """

    stage: str
    program: str
    rows: int
    trained: BertConfig | None
    teacher: BertConfig | None
    layers: bool


def cases() -> list[Case]:
    """The stages of reproduction.sh in which a model runs, with the full profile's batches."""
    base, small, large = CPU.teacher, CPU.student, CPU.student_6l
    general, task = "general_distill.py", "task_distill.py"
    return [
        Case("general, 4 layers", general, 64, small, base, True),
        Case("general, 6 layers", general, 32, large, base, True),
        Case("general, 6 layers, smart start", general, 32, large, base, True),
        Case("augmentation", "data_augmentation.py", 64, None, base, False),
        Case("teachers", "finetune_teacher.py", 32, base, None, False),
        Case("tasks, 4 layers", task, 32, small, base, True),
        Case("tasks, 4 layers, to compare with", task, 32, small, base, True),
        Case("tasks, 6 layers", task, 32, large, base, True),
        Case("tasks, 6 layers, smart start", task, 32, large, base, True),
    ]


def kept_bytes(config: BertConfig, length: int) -> float:
    """Bytes of fp32 that autograd keeps of a token in one layer.

    As seen by torch.autograd.graph.saved_tensors_hooks on this project's own layers: 50,622 bytes and
    108.6 for each token of the sequence at BERT-base's width.
    """
    linear = 34 * config.hidden_size + 8 * config.intermediate_size
    return linear + 9 * config.num_attention_heads * length


def gigabytes(case: Case, rows: float) -> float:
    """Peak memory of a step on a GPU, GB, in fp32: weights, what autograd keeps, what passes through."""
    tokens, total = rows * LENGTH, 0.0
    if case.teacher is not None:
        wide = 4 * case.teacher.hidden_size + 2 * case.teacher.intermediate_size
        total += 4 * encoder_parameters(case.teacher) + 4 * wide * tokens
    if case.trained is not None:
        # Weights, gradients and the optimiser's two moments.
        total += 16 * encoder_parameters(case.trained)
        total += case.trained.num_hidden_layers * kept_bytes(case.trained, LENGTH) * tokens
    if case.layers:
        count = case.trained.num_hidden_layers
        # Attention scores of teacher and student, and their difference's gradient, in each mapped layer;
        # hidden states of the teacher, the student's projected ones, and theirs.
        total += 3 * 4 * count * case.teacher.num_attention_heads * LENGTH * tokens
        total += 3 * 4 * (count + 1) * case.teacher.hidden_size * tokens
    if case.trained is None:  # asked for words: scores over the vocabulary, twice
        total += 2 * 4 * case.teacher.vocab_size * rows
    return total / 1e9


def parts_needed(case: Case, memory: float) -> int | None:
    """Into how many parts a micro-batch must be split to fit; None where not even single rows do."""
    parts = 1
    while gigabytes(case, case.rows / parts) > USABLE * memory:
        parts *= 2
        if parts > min(case.rows, MOST_PARTS):
            return None
    return parts


def advice(case: Case, memory: float) -> str:
    """The flag that makes a stage fit into so many GB."""
    parts = parts_needed(case, memory)
    if parts is None:
        return "does not fit"
    if parts == 1:
        return "fits"
    if case.program == "data_augmentation.py":
        return f"`--batch_size {case.rows // parts}`"
    micro = 8 if case.program == "general_distill.py" and case.rows == 32 else 1
    return f"`--gradient_accumulation_steps {micro * parts}`"


def render(gpu: Mapping[str, Any]) -> str:
    """The page; `gpu` is what `make bench-gpu` has measured."""
    table = json.loads(DEVICES.read_text(encoding="utf-8"))
    measured = figure_of(gpu, "general", "peak memory of the GPU").ours
    stages = {stage.name: stage for stage in full_profile()}
    small = cases()[0]
    return TEMPLATE.read_text(encoding="utf-8").format(
        card=gpu["rows"]["general"]["machine"]["gpu"],
        measured=measured,
        computed=gigabytes(small, 32),
        usable=USABLE,
        memory_rows="\n".join(
            f"| {case.stage} | `{case.program}` | {case.rows} × {LENGTH} | "
            f"{gigabytes(case, case.rows):.1f} | {advice(case, 8)} | {advice(case, 24)} |"
            for case in cases()
        ),
        **{
            f"{precision}_rows": _hour_rows(stages, device_steps(gpu, table["cards"], precision))
            for precision in ("fp32", "bf16")
        },
        head=" | ".join(device["name"] for device in table["cards"]),
        rule="---|" * len(table["cards"]),
        sources="; ".join(dict.fromkeys(device["source"] for device in table["cards"])),
        keep=table["cards"][-1]["scaling"],
    )


def _hour_rows(
    stages: Mapping[str, Stage], devices: Sequence[tuple[Mapping[str, Any], StepTime]]
) -> str:
    taken = {
        name: [hours(stage, device, step) for device, step in devices]
        for name, stage in stages.items()
    }
    lines = [f"| {name} | {' | '.join(f'{h:.1f}' for h in row)} |" for name, row in taken.items()]
    totals = " | ".join(f"**{sum(column):.0f}**" for column in zip(*taken.values(), strict=True))
    return "\n".join([*lines, f"| **all** | {totals} |"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.prog = "python -m benchmarks.hardware"
    parser.parse_args(argv)
    with atomic_open(PAGE) as file:
        file.write(render(json.loads(GPU_RESULTS.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    run_script(main)
