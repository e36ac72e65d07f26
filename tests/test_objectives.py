"""Each loss against a plain loop written from the paper's equation."""

import argparse
import functools
import math
from operator import or_

import pytest
import torch
import torch.nn.functional as F

from cli.objectives import layer_objectives, objective_weights
from distillation.mapping import LayerMapping, layer_mapping
from distillation.objective import Setup
from distillation.objectives import make_objectives
from distillation.objectives.attention import attention_losses
from distillation.objectives.hidden import hidden_losses
from distillation.objectives.logits import label_loss, logit_mse, soft_cross_entropy
from files.errors import UserError
from tests.training_run import LayerWeights
from transformer.encoder import Collect, EncoderOutput
from transformer.modeling import BertModel


def normal(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * scale


def scores(seed, mask=None):
    """Attention scores [2, 3, 4, 4]; `mask` [2, 4] is 1 for tokens."""
    values = normal(2, 3, 4, 4, seed=seed, scale=3.0)
    return values if mask is None else values + (1 - mask[:, None, None, :]) * -10000.0


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def attention_loss(student, teacher):
    return sum(attention_losses(student, teacher))


def hidden_loss(student, teacher):
    return sum(hidden_losses(student, teacher))


def attention_loop(student, teacher, mask):
    """Eq. 6: for each layer the squared differences over heads and places, masked ones being 0 = 0."""
    total = 0.0
    for layer_s, layer_t in zip(student, teacher, strict=True):
        batch, heads, length, _ = layer_s.shape
        summed = 0.0
        for b in range(batch):
            for h in range(heads):
                for i in range(length):
                    for j in range(length):
                        if mask[b, j]:
                            difference = layer_s[b, h, i, j].item() - layer_t[b, h, i, j].item()
                            summed += difference**2
        total += summed / (batch * heads * length * length)
    return total


def test_attention_loss_is_the_mean_squared_difference_of_scores():
    student, teacher = [scores(s, MASK) for s in (0, 1)], [scores(s, MASK) for s in (2, 3)]
    expected = attention_loop(student, teacher, MASK)
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_attention_loss_ignores_masked_positions():
    student, teacher = scores(0, MASK), scores(1, MASK)
    before = attention_loss([student], [teacher])
    student[1, :, :, 2:] += 50.0
    assert torch.equal(attention_loss([student], [teacher]), before)
    student.requires_grad_(True)
    attention_loss([student], [teacher]).backward()
    assert student.grad[1, :, :, 2:].eq(0).all()
    assert student.grad[1, :, :, :2].ne(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_loss_and_its_gradient_are_those_of_the_plain_formula(dtype):
    """Also where a score falls below the threshold on one side alone."""
    one, other = scores(0, MASK), scores(1, MASK)
    one[0, 0, 0, 0], other[0, 1, 0, 0] = -150.0, -150.0
    results = []
    for loss in (attention_loss, plain_attention_loss):
        student = one.to(dtype).requires_grad_(True)
        value = loss([student], [other.to(dtype)])
        (3 * value).backward()
        results.append((value.detach(), student.grad))
    torch.testing.assert_close(*results, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=0)
    assert results[0][1][0, 0, 0, 0] == 0 != results[0][1][0, 1, 0, 0]


def plain_attention_loss(student, teacher):
    return sum(
        F.mse_loss(*(x.float().masked_fill(x.float() <= -100, 0.0) for x in pair))
        for pair in zip(student, teacher, strict=True)
    )


def test_attention_gradient_is_that_of_finite_differences():
    teacher = scores(1, MASK).double()
    student = scores(0, MASK).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda s: attention_loss([s], [teacher]), student)


def test_attention_gradient_survives_half_precision():
    """The mean over many entries makes each gradient smaller than float16 can hold, but for the scale."""
    student = torch.full((1, 1, 1024, 1024), 0.5, dtype=torch.float16, requires_grad=True)
    teacher = torch.zeros_like(student)
    (attention_loss([student], [teacher]) * 2.0**16).backward()
    assert student.grad.eq(2.0**-4).all()


def test_scores_of_other_shapes_are_a_fault():
    with pytest.raises(ValueError, match=r"\[2, 3, 4, 4\] and \[2, 1, 4, 4\]"):
        attention_loss([scores(0)], [scores(1)[:, :1]])


def test_masked_entries_count_in_the_denominator():
    student, teacher = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    masked = (1 - MASK[:, None, None, :]) * -10000.0
    # 12 of 16 columns hold a difference of 1; the mean is over all 16.
    assert attention_loss([student + masked], [teacher + masked]).item() == pytest.approx(6 / 8)


def test_attention_loss_of_real_models_sees_tokens_only(tiny_config, randomised, tiny_batch):
    student, teacher = (randomised(BertModel(tiny_config()), seed) for seed in (1, 2))
    batch = tiny_batch()
    with torch.no_grad():
        every = Collect(scores=(0, 1))
        layers = [model(**batch, collect=every).scores for model in (student, teacher)]
    expected = attention_loop(*layers, batch["attention_mask"])
    assert attention_loss(*layers).item() == pytest.approx(expected, rel=1e-4)


def hidden_loop(student, teacher):
    """For each layer the mean of the squared differences."""
    total = 0.0
    for layer_s, layer_t in zip(student, teacher, strict=True):
        differences = [
            (s - t) ** 2 for s, t in zip(layer_s.flatten().tolist(), layer_t.flatten().tolist(), strict=True)
        ]  # fmt: skip
        total += sum(differences) / len(differences)
    return total


def test_hidden_loss_is_the_mean_squared_difference_of_states():
    student, teacher = (
        [normal(2, 4, 6, seed=s) for s in range(3)],
        [normal(2, 4, 6, seed=s) for s in (5, 6, 7)],
    )
    assert hidden_loss(student, teacher).item() == pytest.approx(hidden_loop(student, teacher))


def prediction_loop(student, teacher, temperature):
    """The summed products of teacher probability and student log-probability, negated."""
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist(), strict=True):
        exp_s, exp_t = ([math.exp(z / temperature) for z in row] for row in (z_s, z_t))
        for e_s, e_t in zip(exp_s, exp_t, strict=True):
            total -= e_t / sum(exp_t) * math.log(e_s / sum(exp_s))
    return total


@pytest.mark.parametrize("temperature", [1.0, 2.5, 0.5])
def test_soft_cross_entropy_is_the_paper_s(temperature):
    student, teacher = normal(5, 3, seed=1, scale=3), normal(5, 3, seed=2, scale=3)
    total = prediction_loop(student, teacher, temperature)
    mean = soft_cross_entropy(student, teacher, temperature)
    batchmean = soft_cross_entropy(student, teacher, temperature, "batchmean")
    assert mean.item() == pytest.approx(total / (5 * 3), rel=1e-5)
    assert batchmean.item() == pytest.approx(total / 5, rel=1e-5)


def test_soft_cross_entropy_has_no_squared_temperature_factor():
    logits = normal(4, 2, seed=1)
    warm = soft_cross_entropy(logits, logits, temperature=100.0)
    assert warm.item() == pytest.approx(math.log(2) / 2, rel=1e-3)


def test_soft_cross_entropy_is_least_where_student_and_teacher_agree():
    teacher = normal(6, 3, seed=3)
    logits = teacher.clone().requires_grad_(True)
    soft_cross_entropy(logits, teacher).backward()
    assert logits.grad.abs().max() < 1e-6
    assert soft_cross_entropy(teacher, teacher) < soft_cross_entropy(-teacher, teacher)


def test_soft_cross_entropy_survives_extreme_logits():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    assert soft_cross_entropy(-logits, logits).isfinite()


def test_regression_compares_scores_with_the_teachers():
    student, teacher = torch.tensor([[1.0], [4.0]]), torch.tensor([[2.0], [1.0]])
    assert logit_mse(student, teacher).item() == pytest.approx((1 + 9) / 2)


def test_labels_are_classes_or_scores():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert label_loss(logits, torch.tensor([0, 0])).item() == pytest.approx(expected)
    scores = torch.tensor([[1.0], [4.0]])
    # Without care [B, 1] against [B] would compare every prediction with every label.
    assert label_loss(scores, torch.tensor([3.0, 4.0])).item() == pytest.approx((4 + 0) / 2)


def test_every_loss_is_computed_in_single_precision():
    half = [t.to(torch.bfloat16) for t in (scores(0, MASK), scores(1, MASK))]
    for loss in (attention_loss, hidden_loss):
        assert loss(half[:1], half[1:]).dtype == torch.float32
    logits = [normal(4, 2, seed=s).to(torch.bfloat16) for s in (0, 1)]
    assert soft_cross_entropy(*logits).dtype == logit_mse(*logits).dtype == torch.float32
    assert label_loss(logits[0], torch.tensor([0, 1, 1, 0])).dtype == torch.float32


def test_different_numbers_of_layers_are_a_fault():
    for loss in (attention_losses, hidden_losses):
        with pytest.raises(ValueError):
            loss([scores(0)], [scores(1), scores(2)])


OUTPUTS = [
    EncoderOutput(None, (normal(2, 4, 6, seed=s), normal(2, 4, 6, seed=s + 9)), (scores(s, MASK),))
    for s in (0, 1)
]


def layer_losses(student, teacher, weights):
    """The layer losses of two outputs, of which each layer is matched with its like."""
    mapping = LayerMapping(
        *(tuple((i, i) for i in range(len(kind))) for kind in (student.hidden, student.scores))
    )
    objectives = make_objectives(weights.by_objective(), Setup(mapping=mapping))
    needs = functools.reduce(or_, (part.needs("student") for part in objectives.parts))
    kept = [
        EncoderOutput(
            None,
            tuple(out.hidden[i] for i in needs.hidden),
            tuple(out.scores[i] for i in needs.scores),
        )
        for out in (student, teacher)
    ]
    return objectives.compare(*kept, {})


def test_intermediate_loss_is_the_sum_of_both_with_weight_1():
    losses = layer_losses(*OUTPUTS, LayerWeights())
    student, teacher = OUTPUTS
    assert losses.named == {
        "attention_loss": attention_loss(student.scores, teacher.scores),
        "hidden_loss": hidden_loss(student.hidden, teacher.hidden),
    }


def test_weights_scale_losses_and_a_weight_of_0_leaves_one_out():
    plain = layer_losses(*OUTPUTS, LayerWeights()).named
    assert layer_losses(*OUTPUTS, LayerWeights(0.5, 0, 0)).named == {
        "attention_loss": 0.5 * plain["attention_loss"]
    }
    assert layer_losses(*OUTPUTS, LayerWeights(0, 4, 4)).named == {
        "hidden_loss": 4 * plain["hidden_loss"]
    }


def test_hidden_states_and_embeddings_have_weights_of_their_own():
    student, teacher = (output.hidden for output in OUTPUTS)
    layers = [F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True)]
    for weights, expected in (
        (LayerWeights(0, 1, 3), 3 * layers[0] + layers[1]),
        (LayerWeights(0, 2, 1), layers[0] + 2 * layers[1]),
        (LayerWeights(0, 2, 0), 2 * layers[1]),
        (LayerWeights(0, 0, 2), 2 * layers[0]),
    ):
        assert layer_losses(*OUTPUTS, weights).named["hidden_loss"] == expected


def test_losses_are_told_by_layer_and_without_a_gradient():
    student, teacher = OUTPUTS
    student = student._replace(hidden=[h.clone().requires_grad_() for h in student.hidden])
    losses = layer_losses(student, teacher, LayerWeights(2, 4, 8))
    layers = [F.mse_loss(s, t).item() for s, t in zip(student.hidden, teacher.hidden, strict=True)]
    assert losses.by_layer["hidden_loss"].tolist() == [8 * layers[0], 4 * layers[1]]
    assert losses.by_layer["attention_loss"].tolist() == [losses.named["attention_loss"].item()]
    assert losses.named["hidden_loss"].requires_grad
    assert not any(values.requires_grad for values in losses.by_layer.values())


def test_telling_losses_by_layer_changes_no_bit_of_the_total():
    pairs = [[normal(2, 4, 6, seed=s + side) for s in range(7)] for side in (0, 20)]
    outputs = [EncoderOutput(None, tuple(side)) for side in pairs]
    total: torch.Tensor | float = 0.0
    for s, t in zip(*pairs, strict=True):
        total = total + F.mse_loss(s, t)
    assert torch.equal(layer_losses(*outputs, LayerWeights(0)).named["hidden_loss"], total)


def flags(**given):
    chosen = {"att_weight": 1.0, "rep_weight": 1.0, "emb_weight": 1.0, "objectives": None}
    return argparse.Namespace(**chosen | given)


def test_heads_that_differ_are_refused_with_both_counts(tiny_config):
    student, teacher = tiny_config(num_attention_heads=4), tiny_config(num_attention_heads=6)
    setup = Setup(student, teacher, layer_mapping("uniform", 2, 2))
    with pytest.raises(
        UserError, match="student has 4 attention heads, the teacher 6.*--att_weight 0"
    ):
        layer_objectives(flags(), setup)
    layer_objectives(flags(att_weight=0.0), setup)
    layer_objectives(flags(), setup._replace(teacher=student))


def test_nothing_to_learn_is_refused(tiny_config):
    setup = Setup(tiny_config(), tiny_config(), layer_mapping("uniform", 2, 2))
    with pytest.raises(UserError, match="--emb_weight are all 0: nothing would be learned"):
        layer_objectives(flags(att_weight=0.0, rep_weight=0.0, emb_weight=0.0), setup)
    with pytest.raises(UserError, match="--objectives .*are all 0: nothing would be learned"):
        layer_objectives(flags(objectives={"att_mse": 0.0}), setup)
    with pytest.raises(UserError, match="--att_weight and --objectives: give one of them"):
        layer_objectives(flags(objectives={"att_mse": 1.0}, att_weight=2.0), setup)


@pytest.mark.parametrize("text", ["", "mse:1", "att_mse:1,att_mse:2", "att_mse:much"])
def test_a_list_of_objectives_that_cannot_be_read_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        objective_weights(text)
