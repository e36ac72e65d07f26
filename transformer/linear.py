"""Linear layers that take the faster of a CPU's two libraries for fp32 matrix products.

torch multiplies fp32 matrices by MKL and leaves bfloat16 to oneDNN. MKL favours its maker's processors, and
which library is faster depends on the processor: `FASTER` lists what was measured. torch itself calls
oneDNN for fp32 from compiled graphs alone; the operator that it uses there is called here.
"""

from __future__ import annotations

import functools
import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.processor import processor

# By vendor and widest vector instructions. `python -m benchmarks --only products` compares the two on a
# machine and says where this table is wrong. What is not listed has torch's own products.
FASTER = {
    ("AuthenticAMD", "AVX-512"): "oneDNN",  # 350 to 400 GFLOP/s, MKL 160 to 200: 2 cores of an EPYC
    ("AuthenticAMD", "AVX2"): "torch",  # 158 GFLOP/s by MKL, 109 by oneDNN: 2 cores of an EPYC
}

# Multiply-accumulates, and sides of a weight matrix. oneDNN prepares itself for each new shape, for a quarter
# of a millisecond; smaller products would not earn that back where shapes seldom come again.
SMALL, NARROW = 2**25, 128

# It keeps what it prepared, half a megabyte each, and torch keeps as much beside it: up to a gigabyte with
# the 1,024 shapes that both allow, and the batches of a training have as many.
for _name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "64")


class Linear(nn.Linear):
    """`nn.Linear` by way of `linear`; names and values of its parameters are the same."""

    def forward(self, values: Tensor) -> Tensor:
        return linear(values, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """values · weightᵀ + bias, as `F.linear`, up to rounding.

    Args:
        values: [..., K].
        weight: [N, K].
        bias: [N].

    Returns:
        [..., N].
    """
    if (
        # Asked first: a graph is to hold for every shape, and the sizes below would bind it to some.
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or values.device.type != "cpu"
        or not values.dtype == weight.dtype == torch.float32
        or min(weight.shape) < NARROW
        or values.numel() * len(weight) < SMALL
        or torch.is_autocast_enabled("cpu")
        or products_by() != "oneDNN"
    ):
        return F.linear(values, weight, bias)
    return onednn_linear(values, weight, bias)


@functools.cache
def products_by() -> str:
    """The library that multiplies large fp32 matrices on this CPU: `oneDNN`, or `torch` for its own choice.

    It follows from the processor and from torch alone: two runs on one machine get the same answer.
    """
    here = processor()
    faster = FASTER.get((here.vendor, here.vectors), "torch")
    # The table compares with MKL; builds of torch with another library were not measured.
    if faster == "oneDNN" and torch.backends.mkl.is_available() and onednn_multiplies():
        return "oneDNN"
    return "torch"


def onednn_linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by oneDNN, whatever the processor; the arguments are those of `linear`, float32."""
    return _Linear.apply(values, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return _product(values, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        columns = values.reshape(-1, values.shape[-1]).t()
        of_values, of_weight, of_bias = ctx.needs_input_grad
        # By `apply`, so that gradients have gradients.
        return (
            _Linear.apply(grad, weight.t(), None) if of_values else None,
            _Linear.apply(rows.t(), columns, None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _product(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        bias = bias.contiguous()  # its stride is not looked at
    return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")


@functools.cache
def onednn_multiplies() -> bool:
    """Whether this torch has the operator and it computes what it should.

    It is not part of torch's documented interface: where it is missing or has changed, `F.linear` serves.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        inputs = [
            torch.randn(
                shape, generator=generator, dtype=torch.float32, device="cpu"
            ).requires_grad_()
            for shape in ((2, 20, 24), (16, 24), (16,))
        ]
        found = []
        for of in (F.linear, _Linear.apply):
            try:
                output = of(*inputs)
                found.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
            except (AttributeError, NotImplementedError, RuntimeError, TypeError):
                return False
    return all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(*found, strict=True)
    )
