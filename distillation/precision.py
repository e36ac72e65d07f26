"""The precision of forward passes: mixed precision, and weights that need no fp32 copy."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The context that a forward pass of precision `fp32`, `bf16` or `fp16` runs in."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _HALF[precision])


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
