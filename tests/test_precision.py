"""Mixed precision: what it costs in the losses, and the ways around its price."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from distillation.objectives import attention_losses, hidden_losses
from distillation.precision import autocast, cast_frozen_linears
from transformer.modeling import BertModel, TinyBertForSequenceClassification

UNIT = 2.0**-9  # bfloat16 keeps 8 bits: half of its last one, relative
LAYERS = 4


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
    plain, scores = attention(hidden, mask, False)
    assert scores is None
    query, key, value = (
        linear(hidden).view(2, 9, 4, 6).transpose(1, 2)
        for linear in (attention.query, attention.key, attention.value)
    )
    fused = F.scaled_dot_product_attention(query, key, value, mask.bfloat16())
    fused = fused.transpose(1, 2).reshape(2, 9, 24)
    torch.testing.assert_close(plain, fused, rtol=8 * UNIT, atol=8 * UNIT)
