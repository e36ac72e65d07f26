"""LengthDrop: what is drawn, the sandwich of a step, and the direction of its divergence."""

import math

import pytest
import torch

from distillation.length_drop import LengthDrop, Sandwich, divergence
from distillation.objective import Setup, Step
from distillation.objectives import make_objectives
from distillation.objectives.spans import span_log_probs, span_loss, span_soft_cross_entropy
from files.errors import UserError
from transformer.lengths import LengthConfig
from transformer.modeling import BertForQuestionAnswering

SETUP = Setup(count_padding=False)


@pytest.fixture
def model(tiny_config, randomised):
    return randomised(BertForQuestionAnswering(tiny_config(num_hidden_layers=3))).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.arange(16) < torch.tensor([16, 11, 7])[:, None]).long()
    ids = torch.randint(5, 200, (3, 16), generator=generator) * mask
    labels = torch.tensor([[3, 5], [0, 0], [2, 2]])
    zeros = torch.zeros_like(ids)
    return {"input_ids": ids, "token_type_ids": zeros, "attention_mask": mask, "labels": labels}


# --- losses of spans -----------------------------------------------------------------------------------


def slow_log_softmax(values):
    highest = max(values)
    total = math.log(sum(math.exp(v - highest) for v in values)) + highest
    return [v - total for v in values]


def test_span_losses_are_their_formulas(batch):
    generator = torch.Generator().manual_seed(1)
    ours, theirs = (torch.randn(3, 16, 2, generator=generator) for _ in range(2))
    hard, soft = 0.0, 0.0
    for b, length in enumerate((16, 11, 7)):
        for side in (0, 1):
            p = slow_log_softmax(ours[b, :length, side].tolist())
            q = slow_log_softmax(theirs[b, :length, side].tolist())
            hard -= p[batch["labels"][b, side]] / 6
            soft -= sum(math.exp(a) * c for a, c in zip(q, p, strict=True)) / 6
    mask = batch["attention_mask"]
    assert span_loss(ours, batch["labels"], mask).item() == pytest.approx(hard, abs=1e-5)
    assert span_soft_cross_entropy(ours, theirs, mask).item() == pytest.approx(soft, abs=1e-5)


def test_padding_of_any_width_counts_nowhere(batch):
    scores = torch.randn(3, 16, 2, generator=torch.Generator().manual_seed(2))
    wide = torch.cat([scores, torch.full((3, 5, 2), 30.0)], 1)
    mask = torch.cat([batch["attention_mask"], torch.zeros(3, 5, dtype=torch.long)], 1)
    labels = batch["labels"]
    narrow = span_loss(scores, labels, batch["attention_mask"])
    assert torch.equal(span_loss(wide, labels, mask), narrow)
    assert span_loss(wide, labels).item() > narrow.item() + 1  # as the original counts it


# --- what is drawn -------------------------------------------------------------------------------------


def test_the_smallest_configuration_is_the_published_one():
    sandwich = Sandwich(6, longest=384)
    assert sandwich.lengths(tuple(range(6))) == (308, 247, 198, 159, 128, 103)
    shares = Sandwich(6).lengths(tuple(range(6)))
    assert shares == pytest.approx([0.8**i for i in range(1, 7)])


@pytest.mark.parametrize("longest", [384, None])
def test_random_lengths_drop_at_most_the_bound_in_each_layer(longest):
    sandwich, generator = Sandwich(6, 0.3, longest=longest), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        lengths = sandwich.lengths(tuple(range(6)), generator)
        seen.add(lengths)
        for before, length in zip((longest or 1.0, *lengths), lengths, strict=False):
            least = before * 0.7
            assert (least if longest is None else math.ceil(least)) <= length <= before
    assert len(seen) > 190


def test_a_layer_that_does_not_run_repeats_the_length_before_it():
    lengths = Sandwich(4, longest=100).lengths((0, 2))
    assert lengths == (80, 80, 64, 64)


def test_layers_are_left_out_with_their_probability_but_never_all():
    sandwich, generator = Sandwich(6, layer_dropout=0.2), torch.Generator().manual_seed(0)
    counts = [len(sandwich.kept_layers(generator)) for _ in range(2000)]
    assert sum(counts) / 12000 == pytest.approx(0.8, abs=0.02)
    heavy = Sandwich(3, layer_dropout=0.95)
    assert min(len(heavy.kept_layers(generator)) for _ in range(500)) == 1
    top = Sandwich(6, top_layers=2)
    assert {top.kept_layers(generator) for _ in range(100)} == {
        tuple(range(count)) for count in (4, 5, 6)
    }


@pytest.mark.parametrize(
    "wrong",
    [{"bound": 0.0}, {"bound": 1.0}, {"count": -1}, {"layer_dropout": 1.0}, {"top_layers": 3}],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="expected a number"):
        Sandwich(3, **wrong).check()


# --- a step --------------------------------------------------------------------------------------------


class Recorder(torch.nn.Module):
    """A model that notes how it was called."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []

    def forward(self, **inputs):
        self.calls.append(inputs.get("lengths"))
        return self.model(**inputs)


def step_of(model, batch, **options):
    student = Recorder(model)
    objectives = make_objectives({"span_labels": 1.0}, SETUP)
    drop = LengthDrop(objectives, Sandwich(3, **options), LengthConfig(()))
    return student.calls, list(drop.passes(student, batch, Step(1, 42)))


def test_a_step_is_one_whole_one_smallest_and_random_passes(model, batch):
    calls, losses = step_of(model, batch, count=2)
    assert calls[0] is None and len(calls) == 4
    assert calls[1].lengths == pytest.approx([0.8, 0.64, 0.512])
    assert calls[2].lengths != calls[3].lengths
    assert [list(loss.named) for loss in losses] == [["label_loss"], *[["inplace_loss"]] * 3]
    whole = model(**{k: v for k, v in batch.items() if k != "labels"}).output
    expected = span_loss(whole, batch["labels"], batch["attention_mask"]) / 4
    assert losses[0].named["label_loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    small = model(**{k: v for k, v in batch.items() if k != "labels"}, lengths=calls[1]).output
    inplace = divergence(whole, small, batch["attention_mask"]) / 4
    assert losses[1].named["inplace_loss"].item() == pytest.approx(inplace.item(), abs=1e-6)


def test_layers_are_never_left_out_of_the_whole_model_unless_asked(model, batch):
    calls, _ = step_of(model, batch, count=5, layer_dropout=0.9)
    assert calls[0] is None and calls[1].layers == (0, 1, 2)
    assert any(len(call.layers) < 3 for call in calls[2:])
    calls, _ = step_of(model, batch, count=0, layer_dropout=0.9, drop_everywhere=True)
    assert len(calls[0].layers) < 3 and len(calls[1].layers) < 3


def test_draws_depend_on_the_step_alone(model, batch):
    objectives = make_objectives({"span_labels": 1.0}, SETUP)
    drop = LengthDrop(objectives, Sandwich(3), LengthConfig(()))

    def drawn(number):
        student = Recorder(model)
        list(drop.passes(student, batch, Step(number, 42)))
        return [call and call.lengths for call in student.calls]

    assert drawn(5) == drawn(5) and drawn(5) != drawn(6)


def test_the_teacher_answers_once_a_step(model, batch):
    teacher = Recorder(model)
    objectives = make_objectives({"span_soft_ce": 1.0}, SETUP)
    drop = LengthDrop(objectives, Sandwich(3), LengthConfig(())).attach(teacher)
    list(drop.passes(model, batch, Step(1, 42)))
    assert len(teacher.calls) == 1


# --- the divergence ------------------------------------------------------------------------------------


def test_the_divergence_is_of_the_whole_model_from_the_shortened(batch):
    generator = torch.Generator().manual_seed(3)
    whole, short = (torch.randn(3, 16, 2, generator=generator) for _ in range(2))
    mask = batch["attention_mask"]
    p, q = (span_log_probs(scores, mask) for scores in (whole, short))
    forward = (p.exp() * (p - q)).sum((1, 2)).mean() / 2
    backward = (q.exp() * (q - p)).sum((1, 2)).mean() / 2
    assert divergence(whole, short, mask).item() == pytest.approx(forward.item(), abs=1e-6)
    assert divergence(whole, short, mask, True).item() == pytest.approx(backward.item(), abs=1e-6)
    assert divergence(whole, whole, mask).item() == pytest.approx(0, abs=1e-6)
    assert abs(forward - backward) > 0.01


def test_classes_and_scores_have_their_own_divergence(batch):
    mask = batch["attention_mask"]
    whole, short = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    p, q = whole.log_softmax(1), short.log_softmax(1)
    expected = (p.exp() * (p - q)).sum(1).mean()
    assert divergence(whole, short, mask).item() == pytest.approx(expected.item(), abs=1e-6)
    assert divergence(torch.ones(2, 1), torch.zeros(2, 1), mask).item() == 1


def test_gradients_of_the_divergence_leave_the_whole_model_alone(model, batch):
    objectives = make_objectives({"span_labels": 1.0}, SETUP)
    drop = LengthDrop(objectives, Sandwich(3), LengthConfig(()))
    passes = drop.passes(model, batch, Step(1, 42))
    next(passes)
    loss = next(passes).named["inplace_loss"]
    (gradient,) = torch.autograd.grad(loss, model.qa_outputs.weight)
    assert gradient.abs().sum() > 0
