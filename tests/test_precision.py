"""Mixed precision: what it costs in the losses, and the ways around its price."""

import argparse
import copy
import math

import pytest
import torch
import torch.nn.functional as F

from cli.precision import add_bf16_flags, computed_on, precision_from
from distillation.distributed import Runtime
from distillation.objectives.attention import attention_losses
from distillation.objectives.hidden import hidden_losses
from files.errors import UserError
from transformer.modeling import BertModel, TinyBertForSequenceClassification
from transformer.precision import (
    autocast,
    cast_frozen_linears,
    compare_precisions,
    multiplies_bf16,
)
from transformer.processor import Processor

UNIT = 2.0**-9  # bfloat16 keeps 8 bits: half of its last one, relative
LAYERS = 4
CPU = torch.device("cpu")


@pytest.fixture
def teacher(tiny_config, randomised):
    config = tiny_config(num_hidden_layers=LAYERS, id2label=["a", "b", "c"])
    return randomised(TinyBertForSequenceClassification(config), 1).requires_grad_(False)


def test_a_teacher_of_half_weights_answers_as_under_autocast(teacher, tiny_batch, device):
    teacher = teacher.to(device)
    batch = {name: tensor.to(device) for name, tensor in tiny_batch().items()}
    cast = copy.deepcopy(teacher)
    cast_frozen_linears(cast, "bf16")
    assert cast.classifier.weight.dtype == torch.bfloat16
    assert cast.bert.embeddings.LayerNorm.weight.dtype == torch.float32
    with torch.no_grad(), autocast("bf16", device):
        expected, actual = teacher(**batch), cast(**batch)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_fp32_leaves_the_teacher_alone(teacher):
    cast_frozen_linears(teacher, "fp32")
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}


def rms(tensor):
    return tensor.float().square().mean().sqrt().item()


@pytest.mark.parametrize("length", [17, 40])
def test_losses_of_bf16_are_those_of_fp32_but_for_rounding(
    tiny_config, randomised, tiny_batch, length, device
):
    """The root of a mean of squares moves by at most the RMS of what its vector moves by.

    Values on the way through `LAYERS` layers of 6 products are rounded thrice a product; independent
    errors add up by their squares. A score is made of two such values.
    """
    config = tiny_config(num_hidden_layers=LAYERS)
    models = [randomised(BertModel(config), seed).to(device) for seed in (1, 2)]
    batch = {name: tensor.to(device) for name, tensor in tiny_batch(length=length).items()}
    with torch.no_grad():
        exact = [model(**batch) for model in models]
        with autocast("bf16", device):
            rounded = [model(**batch) for model in models]
    relative = UNIT * math.sqrt(3 * 6 * LAYERS)
    unmasked = batch["attention_mask"][:, None, None, :].bool()
    for losses, field, share in ((attention_losses, 1, 2.0), (hidden_losses, 2, 1.0)):
        for i in range(len(exact[0][field])):
            pair, coarse = ([out[field][i]] for out in exact), ([out[field][i]] for out in rounded)
            size = sum(rms(out[field][i] * (unmasked if field == 1 else 1)) for out in exact)
            (value,), (rough,) = losses(*pair), losses(*coarse)
            assert rough.dtype == torch.float32
            assert (rough == value) == (field == 2 and i == 0)  # embeddings are looked up in fp32
            assert abs(rough.sqrt() - value.sqrt()) < share * relative * size


def test_plain_attention_of_bf16_is_the_fused_one(teacher, tiny_batch):
    """In bfloat16 a CPU takes the plain path for layers nobody reads; both round their own way."""
    attention = teacher.bert.encoder.layer[0].attention.self.bfloat16()
    hidden = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.zeros(2, 1, 1, 9)
    mask[1, :, :, 5:] = -10000.0
    plain, seen = attention(hidden, mask, (False, False, False))
    assert seen == (None, None, None)
    query, key, value = (
        linear(hidden).view(2, 9, 4, 6).transpose(1, 2)
        for linear in (attention.query, attention.key, attention.value)
    )
    fused = F.scaled_dot_product_attention(query, key, value, mask.bfloat16())
    fused = fused.transpose(1, 2).reshape(2, 9, 24)
    torch.testing.assert_close(plain, fused, rtol=8 * UNIT, atol=8 * UNIT)


def flags(*given):
    parser = argparse.ArgumentParser()
    add_bf16_flags(parser)
    parser.add_argument("--fp16", action="store_true")
    return parser.parse_args(given)


def able(monkeypatch, answer):
    monkeypatch.setattr("cli.precision.multiplies_bf16", lambda device: answer)


@pytest.mark.parametrize(
    "given, here, precision",
    [
        ([], True, "fp32"),
        ([], False, "fp32"),
        (["--bf16"], True, "bf16"),
        (["--bf16"], False, "fp32"),
        (["--force_bf16"], False, "bf16"),
        (["--bf16", "--force_bf16"], False, "bf16"),
    ],
)
def test_bf16_is_for_processors_that_have_it(monkeypatch, capsys, given, here, precision):
    able(monkeypatch, here)
    monkeypatch.setattr("cli.precision.compare_precisions", lambda device: (0.0012, 0.009))
    assert precision_from(flags(*given), Runtime(CPU)) == precision
    told = capsys.readouterr().err
    if given == ["--bf16"] and not here:
        assert told == (
            "note: --bf16: this processor has no bfloat16 arithmetic: a linear layer of BERT's took 9 ms "
            "with it and 1.2 ms in float32, 7.5 times; float32 is used (--force_bf16 insists)\n"
        )
    else:
        assert not told


def test_one_process_without_bfloat16_decides_for_all(monkeypatch, capsys):
    able(monkeypatch, True)
    monkeypatch.setattr(Runtime, "highest", lambda runtime, value: 1)
    for rank in (0, 1):
        assert precision_from(flags("--bf16"), Runtime(CPU, rank=rank, world=2)) == "fp32"
    assert capsys.readouterr().err.count("note: --bf16: the processor of another process") == 1


@pytest.mark.parametrize("here, advice", [(True, "use --bf16"), (False, "leave it out")])
def test_fp16_without_a_gpu_is_refused(monkeypatch, here, advice):
    able(monkeypatch, here)
    with pytest.raises(UserError, match=f"--fp16: needs a CUDA GPU.*{advice}"):
        precision_from(flags("--fp16"), Runtime(CPU))


@pytest.mark.parametrize("flag", ["--bf16", "--force_bf16"])
def test_two_precisions_are_refused(flag):
    with pytest.raises(UserError, match=f"{flag} and --fp16: give one of them"):
        precision_from(flags(flag, "--fp16"), Runtime(CPU))


@pytest.mark.parametrize("bf16", ["", "AVX-512 BF16"])
def test_a_processors_instructions_say_whether_it_multiplies_bfloat16(monkeypatch, bf16):
    here = Processor("P", "AuthenticAMD", "AVX-512", bf16)
    monkeypatch.setattr("transformer.precision.processor", lambda: here)
    assert multiplies_bf16(CPU) is bool(bf16)


def test_precisions_are_compared_by_measuring_both():
    assert all(0 < seconds < 60 for seconds in compare_precisions(CPU, repeats=1))


@pytest.mark.parametrize("library", ["torch", "oneDNN"])
def test_where_and_how_is_computed_is_said(monkeypatch, library):
    monkeypatch.setattr("cli.precision.products_by", lambda: library)
    here = Processor("AMD EPYC", "AuthenticAMD", "AVX2")
    monkeypatch.setattr("cli.precision.processor", lambda: here)
    told = computed_on(CPU, "fp32")
    assert told == f"cpu (AMD EPYC; AVX2, no bfloat16), fp32, matrix products by {library}"
    assert computed_on(CPU, "bf16") == "cpu (AMD EPYC; AVX2, no bfloat16), bf16"
    assert computed_on(torch.device("cuda", 0), "fp32") == "cuda, fp32"
