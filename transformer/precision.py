"""The precision of forward passes: mixed precision, and weights that need no fp32 copy."""

from __future__ import annotations

import contextlib
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from transformer.processor import processor

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The context that a forward pass of precision `fp32`, `bf16` or `fp16` runs in."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _HALF[precision])


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has arithmetic for bfloat16, by what it is; nothing is measured."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(processor().bf16)


def compare_precisions(device: torch.device, repeats: int = 3) -> tuple[float, float]:
    """Seconds that a linear layer of BERT-base, 64 tokens long, takes in fp32 and under bf16's autocast.

    Medians, measured in turns; all of it takes milliseconds, or tens of them where bfloat16 is slow.
    """
    values = torch.ones(64, 768, device=device)
    weight, bias = torch.ones(768, 768, device=device), torch.ones(768, device=device)
    taken: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with torch.inference_mode():
        for _ in range(1 + repeats):
            for precision, seconds in taken.items():
                with autocast(precision, device):
                    start = time.perf_counter()
                    F.linear(values, weight, bias).sum().item()  # waits for a GPU
                    seconds.append(time.perf_counter() - start)
    exact, rounded = (statistics.median(seconds[1:]) for seconds in taken.values())
    return exact, rounded


def cast_frozen_linears(model: nn.Module, precision: str) -> None:
    """Hold the linear layers of a frozen model in the precision that `autocast` casts them to.

    autocast casts weights at every use, and keeps the copies only of weights that are trained. The
    numbers are the same; the model then runs under that `autocast` alone.
    """
    if precision == "fp32":
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.to(_HALF[precision])
