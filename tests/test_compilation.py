"""--compile computes what the loop computes without it."""

import copy
from functools import partial

import pytest
import torch

from distillation.compilation import check_compiler, compile_layers
from distillation.mapping import layer_mapping
from files.errors import UserError
from tests.training_run import LayerWeights, layer_distillation
from transformer.modeling import BertModel, TinyBertForPreTraining

CPU = torch.device("cpu")


def losses_and_gradients(teacher, student, batches, compiled=False):
    losses = layer_distillation(
        partial(teacher, pool=False), layer_mapping("uniform", 2, 4), LayerWeights(), compiled
    )
    student.zero_grad()
    values = []
    for batch in batches:
        parts = losses(student, batch)
        parts.total().backward()
        values += [value.detach() for value in parts.named.values()]
    return torch.stack(values), {name: p.grad for name, p in student.named_parameters()}


def test_compiled_layers_give_the_same_losses_and_gradients(
    tiny_config, randomised, tiny_batch, device
):
    teacher = (
        randomised(BertModel(tiny_config(num_hidden_layers=4)), 1).requires_grad_(False).eval()
    )
    student = randomised(
        TinyBertForPreTraining.from_scratch(
            tiny_config(num_hidden_layers=2, hidden_dropout_prob=0, attention_probs_dropout_prob=0),
            fit_size=teacher.config.hidden_size,
        ),
        2,
    ).train()
    student, teacher = student.to(device), teacher.to(device)
    compiled = copy.deepcopy(student), copy.deepcopy(teacher)
    for model in compiled:
        compile_layers(model)
    assert list(compiled[0].state_dict()) == list(student.state_dict())

    batches = [
        {name: tensor.to(device) for name, tensor in tiny_batch(length=length).items()}
        for length in (17, 9)
    ]
    expected, gradients = losses_and_gradients(teacher, student, batches)
    counter = torch._dynamo.utils.counters
    counter.clear()
    actual, compiled_gradients = losses_and_gradients(compiled[1], compiled[0], batches, True)
    assert counter["stats"]["unique_graphs"] > 0 and not counter["graph_break"]
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(compiled_gradients, gradients, rtol=1e-4, atol=1e-6)


def test_without_a_compiler_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"--compile: no C\+\+ compiler"):
        check_compiler(CPU)
