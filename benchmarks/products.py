"""Which library multiplies fp32 matrices faster here: the probe of the table in transformer/linear.py.

python -m benchmarks --only products
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Target
from benchmarks.measure import alternate
from transformer.configuration import BertConfig
from transformer.linear import linear, onednn_linear, onednn_multiplies, products_by
from transformer.processor import processor

TOKENS = (512, 2048)  # in a batch of an evaluation, and of a training
WRONG = 1.05  # by how much the other library must be faster to contradict the table


def products(bench: Bench) -> list[Figure]:
    """The models' linear layers beside both libraries, with and without gradients."""
    libraries: dict[str, Callable] = {"models": linear, "torch": F.linear}
    if onednn_multiplies():
        libraries["oneDNN"] = onednn_linear
    works = [
        _work(rows, *shape, gradients)
        for rows in TOKENS
        for shape in _shapes(*bench.configs)
        for gradients in (False, True)
    ]
    ceiling, repeats = bench.ceiling(), 2 * bench.sizes.repeats
    jobs = {
        (number, name): partial(work, multiply)
        for number, work in enumerate(works)
        for name, multiply in libraries.items()
    }
    # The fastest turn: another program can only make one slower, and not every library alike.
    taken = {job: min(times) for job, times in alternate(jobs, ceiling, repeats).items()}
    medians = {
        name: statistics.median(taken[i, "models"] / taken[i, name] for i in range(len(works)))
        for name in libraries
    }
    shared = {
        "row": "products", "unit": "×", "samples": repeats,
        "ceiling": ceiling.rates(),
    }  # fmt: skip
    job = f"linear layers of BERT's shapes, multiplied by {products_by()}"
    return [
        bench.figure(
            **shared, job=f"{job}: time over that of torch's own", ours=medians["torch"],
            target=Target("limit", 1.03),
        ),
        bench.figure(
            **shared, job=f"{job}: time over that of the faster library", ours=max(medians.values()),
            target=Target("limit", WRONG), note=verdict(medians) + crowded(),
        ),
    ]  # fmt: skip


def verdict(ratios: dict[str, float]) -> str:
    """What the probe says of the table.

    Args:
        ratios: the models' time over that of `torch` and, where it works, of `oneDNN`.
    """
    here, used = processor(), products_by()
    entry = f'("{here.vendor}", "{here.vectors}")'
    other = "oneDNN" if used == "torch" else "torch"
    if other not in ratios:
        return f"products: this torch has no {other} operator; its own products are all there are"
    took = f"{other} took {1 / ratios[other]:.2f} × the time of {used} on {here.name}"
    if ratios[other] > WRONG:
        return (
            f"products: {took}; the table FASTER in transformer/linear.py is wrong here: set {entry}: "
            f'"{other}"'
        )
    return f"products: {took}, as the table FASTER in transformer/linear.py has it for {entry}"


def crowded() -> str:
    """A reservation, where other programs took the processor from the probe."""
    load = os.getloadavg()[0]
    if load < 1.5 * torch.get_num_threads():
        return ""
    return (
        f"; measured at a load of {load:.1f}: believe it only from a machine that does nothing else"
    )


def _shapes(*configs: BertConfig) -> list[tuple[int, int]]:
    """Outputs and inputs of the linear layers of an encoder's layers."""
    sizes = [(config.hidden_size, config.intermediate_size) for config in configs]
    return [shape for h, i in sizes for shape in ((h, h), (i, h), (h, i))]


def _work(rows: int, outputs: int, inputs: int, gradients: bool) -> Callable[[Callable], None]:
    """A job that is handed a way to multiply."""
    values, weight, bias, grad = (
        torch.randn(*shape)
        for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    )
    trained = [tensor.requires_grad_(gradients) for tensor in (values, weight, bias)]

    def run(multiply: Callable) -> None:
        output = multiply(*trained)
        if gradients:
            torch.autograd.grad(output, trained, grad)

    return run
