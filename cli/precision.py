"""The flags that set the precision of forward passes, and what becomes of them on this machine."""

from __future__ import annotations

import argparse
import sys

import torch

from distillation.distributed import Runtime
from files.errors import UserError
from transformer.linear import products_by
from transformer.precision import compare_precisions, multiplies_bf16
from transformer.processor import processor


def add_bf16_flags(
    group: argparse._ArgumentGroup,
    what: str = "forward passes in bfloat16 instead of float32",
) -> None:
    """Add --bf16 and --force_bf16."""
    group.add_argument(
        "--bf16",
        action="store_true",
        help=f"{what}; where the processor has no bfloat16 arithmetic float32 is used, and that is said",
    )
    group.add_argument(
        "--force_bf16",
        action="store_true",
        help="bfloat16 even where the processor has no arithmetic for it, many times slower",
    )


def precision_from(args: argparse.Namespace, runtime: Runtime) -> str:
    """The precision that forward passes really have: fp32, bf16 or fp16; all processes get the same.

    --bf16 on a device without bfloat16 arithmetic is fp32 unless forced; the main process says so, and how
    much slower bfloat16 would be.

    Raises:
        UserError: flags exclude each other, or --fp16 was given without a GPU.
    """
    fp16 = getattr(args, "fp16", False)
    if (args.bf16 or args.force_bf16) and fp16:
        raise UserError(f"--{'bf16' if args.bf16 else 'force_bf16'} and --fp16: give one of them")
    able = multiplies_bf16(runtime.device)
    if fp16 and runtime.device.type != "cuda":
        advice = "use --bf16" if able else "leave it out"
        raise UserError(f"--fp16: needs a CUDA GPU, and there is none here; {advice}")
    if fp16:
        return "fp16"
    if args.force_bf16:
        return "bf16"
    if not args.bf16:
        return "fp32"
    # One process on another kind of machine decides for all.
    if not runtime.highest(int(not able)):
        return "bf16"
    if runtime.is_main:
        print(f"note: {_reason(runtime)}", file=sys.stderr)
    return "fp32"


def _reason(runtime: Runtime) -> str:
    device = runtime.device
    kept = "float32 is used (--force_bf16 insists"
    if multiplies_bf16(device):
        return f"--bf16: the processor of another process has no bfloat16 arithmetic; {kept})"
    exact, rounded = compare_precisions(device)
    name = "this processor" if device.type == "cpu" else "this GPU"
    more = "" if device.type == "cpu" else ", --fp16 is fast"
    return (
        f"--bf16: {name} has no bfloat16 arithmetic: a linear layer of BERT's took "
        f"{1e3 * rounded:.3g} ms with it and {1e3 * exact:.3g} ms in float32, "
        f"{rounded / exact:.2g} times; {kept}{more})"
    )


def computed_on(device: torch.device, precision: str) -> str:
    """Say where, how precisely and, in fp32 on a CPU, by which library models are computed."""
    if device.type != "cpu":
        return f"{device.type}, {precision}"
    here = processor()
    return (
        f"cpu ({here.name}; {here.instructions}), {precision}"
        + f", matrix products by {products_by()}" * (precision == "fp32")
    )
