"""The linear layers of a CPU's faster library compute what torch's own do."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from transformer import linear as module
from transformer.encoder import BertLayer
from transformer.linear import Linear, linear, onednn_linear, onednn_multiplies, products_by
from transformer.processor import Processor

ROOT = Path(__file__).resolve().parent.parent
wanted = pytest.mark.skipif(not onednn_multiplies(), reason="this torch lacks the operator")


@pytest.fixture
def calls(monkeypatch):
    """Lists the products that oneDNN computes."""
    product, made = module._product, []

    def counted(values, weight, bias=None):
        made.append((tuple(values.shape), tuple(weight.shape)))
        return product(values, weight, bias)

    monkeypatch.setattr(module, "_product", counted)
    monkeypatch.setattr(module, "SMALL", 2**21)
    monkeypatch.setattr(module, "NARROW", 0)
    monkeypatch.setattr(module, "products_by", lambda: "oneDNN")
    return made


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@wanted
@pytest.mark.parametrize("shape", [(4096,), (64, 64), (8, 16, 32)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_torch_in_double_precision(calls, shape, with_bias):
    values, weight, bias = normal(*shape, 96), normal(48, 96, seed=1), normal(48, seed=2)
    given = [values, weight, bias][: 2 + with_bias]
    found = {}
    for kind, of in ((torch.float32, linear), (torch.float64, F.linear)):
        inputs = [tensor.to(kind).requires_grad_() for tensor in given]
        output = of(*inputs)
        gradients = torch.autograd.grad(output, inputs, normal(*shape, 48, seed=3).to(kind))
        found[kind] = [tensor.double() for tensor in (output.detach(), *gradients)]
    assert len(calls) == 3
    for ours, exact in zip(*found.values(), strict=True):
        assert (ours - exact).norm() < 1e-6 * exact.norm()


@wanted
def test_turned_and_cut_tensors_are_read_right(calls):
    values, weight = normal(96, 4096).t(), normal(96, 48, seed=1).t()
    torch.testing.assert_close(
        linear(values, weight), F.linear(values, weight), rtol=1e-5, atol=1e-4
    )
    first = normal(4096, 3, 96)[:, 0]
    torch.testing.assert_close(linear(first, weight), F.linear(first, weight), rtol=1e-5, atol=1e-4)
    bias = normal(96, seed=2)[::2]
    torch.testing.assert_close(
        linear(first, weight, bias), F.linear(first, weight, bias), rtol=1e-5, atol=1e-4
    )
    assert len(calls) == 3


@wanted
def test_gradients_have_gradients(calls):
    found = []
    for of in (linear, F.linear):
        inputs = [t.requires_grad_() for t in (normal(4096, 96), normal(48, 96), normal(48))]
        first = torch.autograd.grad(of(*inputs).pow(3).mean(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    assert len(calls) > 3
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


NONE = (False, False, False)  # neither scores nor probabilities nor queries are wanted


@pytest.mark.parametrize("how", ["export", "strict export", "trace"])
def test_a_graph_of_few_rows_holds_for_many(tiny_config, monkeypatch, how):
    monkeypatch.setattr(module, "SMALL", 2**21)
    monkeypatch.setattr(module, "NARROW", 0)
    monkeypatch.setattr(module, "products_by", lambda: "oneDNN")
    layer = BertLayer(tiny_config(hidden_size=64, intermediate_size=256)).eval()
    layer.requires_grad_(False)
    few, many = ((normal(rows, 8, 64), torch.zeros(rows, 1, 1, 8)) for rows in (2, 64))
    assert many[0].numel() * 64 >= module.SMALL > few[0].numel() * 256
    if how == "trace":
        graph = torch.jit.trace(lambda *inputs: layer(*inputs, NONE)[0], few)
    else:
        rows = {0: torch.export.Dim("rows", min=1, max=512)}
        graph = torch.export.export(
            layer, (*few, NONE), dynamic_shapes=(rows, rows, (None,) * 3), strict="strict" in how
        ).module()
    expected, output = layer(*many, NONE)[0], graph(*many, *[NONE] * (how != "trace"))
    torch.testing.assert_close(
        output if how == "trace" else output[0], expected, rtol=1e-4, atol=1e-5
    )


@wanted
def test_a_layer_of_bert_trains_alike(calls, tiny_config, monkeypatch):
    layer = BertLayer(tiny_config(hidden_size=64, intermediate_size=256)).train()
    hidden, mask = normal(32, 24, 64), torch.zeros(32, 1, 1, 24)
    gradients = []
    for small in (0, 2**62):
        monkeypatch.setattr(module, "SMALL", small)
        twin = copy.deepcopy(layer)
        twin(hidden, mask, (True, False, False))[0].square().sum().backward()
        gradients.append({name: p.grad for name, p in twin.named_parameters()})
    assert len(calls) == 6 * 3 - 3  # the hidden state itself needs no gradient
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@wanted
@pytest.mark.parametrize("multiply", [onednn_linear, F.linear])
def test_the_same_product_has_the_same_bits(multiply):
    values, weight, bias = normal(4096, 96), normal(48, 96, seed=1), normal(48, seed=2)
    first = multiply(values, weight, bias)
    assert all(torch.equal(multiply(values, weight, bias), first) for _ in range(20))


EPYC = ("AuthenticAMD", "AVX-512")


@wanted
@pytest.mark.parametrize(
    "vendor, vectors, mkl, library",
    [
        (*EPYC, True, "oneDNN"),
        (*EPYC, False, "torch"),  # compared with MKL alone
        ("AuthenticAMD", "AVX2", True, "torch"),
        ("AuthenticAMD", "", True, "torch"),
        # Not measured: nothing is assumed.
        ("GenuineIntel", "AVX-512", True, "torch"),
        ("HygonGenuine", "AVX-512", True, "torch"),
        ("", "NEON", False, "torch"),
        ("", "", True, "torch"),
    ],
)
def test_the_library_follows_from_the_processor(monkeypatch, vendor, vectors, mkl, library):
    monkeypatch.setattr(module, "processor", lambda: Processor("P", vendor, vectors))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    assert products_by.__wrapped__() == library


def test_an_operator_that_fails_leaves_the_products_to_torch(monkeypatch):
    monkeypatch.setattr(module, "processor", lambda: Processor("P", *EPYC))
    monkeypatch.setattr(module, "onednn_multiplies", lambda: False)
    assert products_by.__wrapped__() == "torch"


@pytest.mark.parametrize(
    "case", ["small", "narrow", "double", "autocast", "meta", "other processor"]
)
def test_elsewhere_torchs_own_layer_is_called(calls, case, monkeypatch):
    layer, values = Linear(96, 48), normal(4096, 96)
    if case == "small":
        values = values[: module.SMALL // 96 // 48]
    if case == "narrow":
        monkeypatch.setattr(module, "NARROW", 49)
    if case in ("double", "meta"):
        change = {"dtype": torch.float64} if case == "double" else {"device": "meta"}
        layer, values = layer.to(**change), values.to(**change)
    if case == "other processor":
        monkeypatch.setattr(module, "products_by", lambda: "torch")
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        output = layer(values)
        expected = F.linear(values, layer.weight, layer.bias)
    assert not calls and output.dtype == expected.dtype
    assert case == "meta" or torch.equal(output, expected)


@wanted
def test_the_operator_is_judged_alike_whatever_tensors_are_made_by_default():
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            assert onednn_multiplies.__wrapped__()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError])
def test_an_operator_that_is_missing_or_has_changed_is_done_without(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(module, "_product", fail)
    assert onednn_multiplies.__wrapped__() is False
    monkeypatch.setattr(
        module, "_product", lambda values, weight, bias=None: 1.001 * F.linear(values, weight, bias)
    )
    assert onednn_multiplies.__wrapped__() is False


GROWTH = """
import random, torch
from transformer import linear as module
module.SMALL = module.NARROW = 0
module.products_by = lambda: "oneDNN"

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

torch.set_num_threads(1)
random.seed(0)
weight, rows = torch.randn(1000, 96), [*range(300, 1300)]
module.linear(torch.randn(700, 96), weight)
before = resident()
for _ in range(2):
    random.shuffle(rows)
    for count in rows:
        module.linear(torch.randn(count, 96), weight)
print((resident() - before) / 2**20)
"""


@wanted
def test_a_thousand_shapes_do_not_fill_the_memory():
    """With the libraries' own limits they held 600 MB after these."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 400
