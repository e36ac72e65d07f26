"""Students cut from their teacher: the layers asked for, everything else as it was."""

import pytest
import torch

from distillation.initialisation import keep_layers
from files.errors import UserError
from transformer.encoder import Collect
from transformer.modeling import BertModel, TinyBertForSequenceClassification


@pytest.fixture(scope="module")
def teacher(tiny_config, randomised):
    return randomised(TinyBertForSequenceClassification(tiny_config(num_hidden_layers=6)))


@pytest.mark.parametrize("layers", [(0, 2, 4), (5, 4, 3, 2, 1, 0), (3,), (1, 0)])
def test_layer_j_of_the_student_is_layer_layers_j_of_the_teacher(teacher, tiny_config, layers):
    student = TinyBertForSequenceClassification(tiny_config(num_hidden_layers=len(layers)))
    student.load_state_dict(keep_layers(teacher.state_dict(), layers), strict=True)
    for j, layer in enumerate(layers):
        mine = student.bert.encoder.layer[j].state_dict()
        its = teacher.bert.encoder.layer[layer].state_dict()
        assert all(torch.equal(mine[name], its[name]) for name in its)
    for part in ("bert.embeddings", "bert.pooler", "classifier"):
        mine, its = student.get_submodule(part), teacher.get_submodule(part)
        assert all(
            torch.equal(a, b) for a, b in zip(mine.parameters(), its.parameters(), strict=True)
        )


def test_the_first_layers_compute_what_the_teachers_first_layers_compute(
    teacher, tiny_config, tiny_batch
):
    student = TinyBertForSequenceClassification(tiny_config(num_hidden_layers=2)).eval()
    student.load_state_dict(keep_layers(teacher.state_dict(), (0, 1)))
    states = Collect(hidden=(0, 1, 2))
    hidden = student(**tiny_batch(), collect=states).hidden
    assert all(map(torch.equal, hidden, teacher(**tiny_batch(), collect=states).hidden))


@pytest.mark.parametrize("layers", [(), (6,), (-1,), (0, 2, 4, 6), (0, 10**9)])
def test_layers_that_are_not_there_are_refused(teacher, layers):
    with pytest.raises(
        UserError, match="^--keep_layers .*expected layers among those there: 0,1,2,3,4,5$"
    ):
        keep_layers(teacher.state_dict(), layers)


def test_layers_named_again_make_a_deeper_model(teacher, tiny_config):
    deeper = TinyBertForSequenceClassification(tiny_config(num_hidden_layers=12))
    deeper.load_state_dict(keep_layers(teacher.state_dict(), [*range(6), *range(6)]))
    for i, layer in enumerate(deeper.bert.encoder.layer):
        for name, tensor in teacher.bert.encoder.layer[i % 6].state_dict().items():
            assert torch.equal(layer.state_dict()[name], tensor)


def test_weights_without_an_encoder_are_refused():
    with pytest.raises(UserError, match="no encoder layers"):
        keep_layers({"classifier.weight": torch.ones(1)}, (0,))


def test_two_digit_layers_are_told_apart(tiny_config):
    deep = BertModel(tiny_config(num_hidden_layers=12)).state_dict()
    kept = keep_layers(deep, (1, 11))
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(kept[name.format(0)], deep[name.format(1)])
    assert torch.equal(kept[name.format(1)], deep[name.format(11)])
    assert name.format(10) not in kept
