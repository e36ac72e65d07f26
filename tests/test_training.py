"""The training loop: what is computed does not depend on how it is split, interrupted or logged."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distillation.checkpoint import LAST_WEIGHTS_NAME, ModelSaver
from distillation.distributed import Runtime
from distillation.mapping import layer_mapping
from distillation.objectives import label_training
from distillation.records import METRICS_NAME
from distillation.state import TrainingSettings, make_optimizer
from tests.training_run import (
    Killed,
    LayerWeights,
    difference,
    killing,
    layer_distillation,
    log_of,
    make_source,
    prediction_distillation,
    run,
    without_speed,
)
from transformer.file_utils import WEIGHTS_NAME
from transformer.modeling import (
    BertForMaskedLM,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)

# Batches and steps


@pytest.mark.parametrize("accumulation", [3, 4, 8])
def test_micro_steps_do_not_change_the_result(make_model, tmp_path, accumulation):
    """22 rows in batches of 8: the last batch of 6 does not divide by 4, and has fewer rows than 8."""
    whole, split = make_model(), make_model()
    run(whole, tmp_path / "whole")
    run(split, tmp_path / "split", accumulation=accumulation)
    assert difference(whole, make_model()) > 0
    assert difference(whole, split) < 1e-6
    for one, other in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "split"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)


def test_micro_steps_do_not_change_layer_distillation(make_model, tmp_path):
    """Its means run over padding, too: every micro-batch must be as wide as the whole."""
    teacher = make_model(1, num_hidden_layers=4).requires_grad_(False)
    losses = layer_distillation(
        teacher, layer_mapping("uniform", 2, 4), LayerWeights(), is_student=True
    )
    whole, split = make_model(fit_size=24), make_model(fit_size=24)
    run(whole, tmp_path / "whole", losses=losses)
    run(split, tmp_path / "split", losses=losses, accumulation=4)
    assert difference(whole, split) < 1e-6


def test_the_loop_is_the_plain_one(make_model, tmp_path):
    """Batch by batch: gradients from nothing, mean loss, one step of the optimiser."""
    model, plain = make_model(), make_model()
    run(model, tmp_path / "run")
    source = make_source()
    settings = TrainingSettings(epochs=2, learning_rate=1e-3)
    optimizer = make_optimizer(plain.train(), settings, total=6)
    for epoch in range(2):
        for rows in source.plan(epoch):
            batch = source.collate(epoch, rows, source.width(epoch, rows))
            labels = batch.pop("labels")
            for p in plain.parameters():
                p.grad = None
            F.cross_entropy(plain(**batch).output, labels).backward()
            optimizer.step()
    assert difference(model, plain) == 0


def test_logged_losses_are_those_of_the_batches_whatever_the_micro_steps(make_model, tmp_path):
    seen = []

    def losses(model, batch):
        parts = label_training(model, batch)
        seen.append((parts.named["label_loss"].item(), len(batch["labels"])))
        return parts

    run(make_model(), tmp_path, losses=losses, accumulation=2)
    logged = [line["loss"] for line in log_of(tmp_path)]
    assert len(logged) == 6 and len(seen) == 12
    for line, (first, second) in zip(logged, zip(seen[::2], seen[1::2], strict=True), strict=True):
        rows = first[1] + second[1]
        assert line == pytest.approx((first[0] * first[1] + second[0] * second[1]) / rows)


def count_rows(source, tmp_path, model, **settings):
    sizes = []

    def losses(model, batch):
        sizes.append(len(batch["labels"]))
        return label_training(model, batch)

    facts = run(model, tmp_path, source, losses, **settings)
    assert facts["examples"] == sum(sizes)
    return sizes, facts["steps"]


def test_the_short_last_batch_is_trained(make_model, tmp_path):
    sizes, steps = count_rows(make_source(), tmp_path, make_model(), epochs=1)
    assert (sorted(sizes), steps) == ([6, 8, 8], 3)


def test_the_short_last_batch_can_be_dropped(make_model, tmp_path):
    sizes, steps = count_rows(make_source(drop_last=True), tmp_path, make_model(), epochs=2)
    assert (sizes, steps) == ([8] * 4, 4)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_short_batch_that_is_the_only_one_is_trained(make_model, tmp_path, drop_last):
    source = make_source(batch_size=64, drop_last=drop_last)
    assert count_rows(source, tmp_path, make_model(), epochs=1) == ([22], 1)


def test_fewer_rows_than_micro_steps_are_each_trained_once(make_model, tmp_path):
    source = make_source(batch_size=8, rows=3)
    assert count_rows(source, tmp_path, make_model(), epochs=1, accumulation=8) == ([1, 1, 1], 1)


@pytest.mark.parametrize("max_steps, steps", [(1, 1), (4, 4), (99, 6)])
def test_max_steps_ends_the_run_and_its_schedule(make_model, tmp_path, max_steps, steps):
    facts = run(make_model(), tmp_path, max_steps=max_steps)
    last = log_of(tmp_path)[-1]
    assert (facts["steps"], last["step"]) == (steps, steps)
    assert last["learning_rate"] == 0  # the schedule has come down


@pytest.mark.parametrize(
    "schedule, rates",
    [("none", [1] * 6), ("warmup_linear", [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0])],
)
def test_learning_rate_follows_the_schedule(make_model, tmp_path, schedule, rates):
    """After each of 6 steps: the rate of the next."""
    run(make_model(), tmp_path, schedule=schedule, warmup_proportion=0.5)
    logged = [line["learning_rate"] * 1e3 for line in log_of(tmp_path)]
    assert logged == pytest.approx(rates)


def test_no_decay_on_biases_and_layer_norm(make_model):
    model = make_model()
    settings = TrainingSettings(epochs=1, learning_rate=1e-3, weight_decay=0.3)
    decayed, plain = make_optimizer(model, settings, 10).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all(p.dim() == 1 for p in plain["params"])
    assert all(names[id(p)].endswith(".weight") and p.dim() == 2 for p in decayed["params"])
    assert len(plain["params"]) + len(decayed["params"]) == len(names)


@pytest.mark.parametrize(
    "kind", [TinyBertForSequenceClassification, TinyBertForPreTraining, BertForMaskedLM]
)
def test_what_decays_is_what_names_said_in_the_original(tiny_config, kind):
    """There by their names, here by the kind of module they are in."""
    model = kind(tiny_config())
    groups = make_optimizer(model, TrainingSettings(1, 1e-3), 10).param_groups
    spared = ("bias", "LayerNorm.bias", "LayerNorm.weight")
    named = dict(model.named_parameters())
    expected = [
        [p for name, p in named.items() if any(part in name for part in spared) == plain]
        for plain in (False, True)
    ]
    assert [[id(p) for p in group["params"]] for group in groups] == [
        [id(p) for p in ps] for ps in expected
    ]


@pytest.mark.parametrize("name, clip", [("bertadam", "global"), ("adamw", "global")])
def test_micro_steps_change_nothing_where_gradients_are_clipped_together(
    make_model, tmp_path, name, clip
):
    whole, split = make_model(), make_model()
    run(whole, tmp_path / "whole", optimizer_name=name, clip=clip)
    run(split, tmp_path / "split", optimizer_name=name, clip=clip, accumulation=4)
    for model in (whole, split):  # the softmax is blind to them: what moves them is rounding alone
        for layer in model.bert.encoder.layer:
            layer.attention.self.key.bias.data.zero_()
    assert difference(whole, split) < 1e-5


def test_frozen_weights_stay(make_model, tmp_path):
    model = make_model()
    model.bert.embeddings.requires_grad_(False)
    before = model.bert.embeddings.word_embeddings.weight.clone()
    run(model, tmp_path)
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, before)


def test_bf16_stays_near_fp32_and_keeps_weights_in_fp32(make_model, tmp_path):
    single, half = make_model(), make_model()
    run(single, tmp_path / "fp32")
    run(half, tmp_path / "bf16", precision="bf16")
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    first, second = (log_of(tmp_path / name)[0]["loss"] for name in ("fp32", "bf16"))
    assert first != second and first == pytest.approx(second, rel=0.02)


# Evaluation and what is kept


def test_a_process_that_shows_nothing_trains_as_long_as_one_that_does(
    make_model, tmp_path, monkeypatch, capsys
):
    """Long enough for a forecast."""
    monkeypatch.setattr(Runtime, "is_main", False)
    assert run(make_model(), tmp_path, make_source(batch_size=2), epochs=20)["steps"] == 220
    assert capsys.readouterr().err == "" and list(tmp_path.iterdir()) == []


class Scores:
    """A keeper's evaluation that answers from a list and counts."""

    def __init__(self, model, answers):
        self.model, self.answers, self.calls = model, list(answers), 0

    def __call__(self):
        assert not self.model.training
        self.calls += 1
        return {"dev": {"mcc": self.answers[self.calls - 1]}}


def scored_run(make_model, folder, answers, **settings):
    model = make_model()
    scores = Scores(model, answers)
    keeper = ModelSaver(model, folder, scores, lambda metrics: metrics["dev"]["mcc"])
    trained = []

    def losses(model, batch):
        assert model.training
        trained.append(1)
        return label_training(model, batch)

    run(model, folder, losses=losses, keeper=keeper, **settings)
    return keeper, scores


def test_evaluation_happens_once_at_each_due_step(make_model, tmp_path):
    """3 steps an epoch, every 2 steps and at each epoch's end: 2, 3, 4 and 6 (due twice over)."""
    _, scores = scored_run(make_model, tmp_path, [0.1] * 4, eval_step=2, accumulation=4)
    assert scores.calls == 4
    assert [line["step"] for line in log_of(tmp_path) if "dev" in line] == [2, 3, 4, 6]


def test_the_best_model_is_kept_beside_the_last(make_model, tmp_path):
    keeper, _ = scored_run(make_model, tmp_path, [0.2, 0.5, 0.3, 0.5, 0.1, 0.4], eval_step=1)
    assert (keeper.best_step, keeper.best_score) == (2, 0.5)
    assert keeper.best == {"dev": {"mcc": 0.5}} and keeper.last == {"dev": {"mcc": 0.4}}
    best, last = (torch.load(tmp_path / name) for name in (WEIGHTS_NAME, LAST_WEIGHTS_NAME))
    assert any(not torch.equal(best[name], last[name]) for name in best)
    again = make_model()
    run(again, tmp_path / "two", max_steps=2, schedule="none")
    keeper, _ = scored_run(make_model, tmp_path / "six", [0.2, 0.5, 0.3, 0.5, 0.1, 0.4],
                           eval_step=1, schedule="none")  # fmt: skip
    saved = torch.load(tmp_path / "six" / WEIGHTS_NAME)
    assert all(torch.equal(saved[name], value) for name, value in again.state_dict().items())


@pytest.mark.parametrize("score", [-0.3, 0.0, float("nan"), float("-inf")])
def test_a_model_is_kept_however_low_its_score(make_model, tmp_path, score):
    keeper, _ = scored_run(make_model, tmp_path, [score], epochs=1)
    assert keeper.best_step == 3
    assert (tmp_path / WEIGHTS_NAME).exists() and (tmp_path / LAST_WEIGHTS_NAME).exists()


def test_a_number_beats_no_number(make_model, tmp_path):
    keeper, _ = scored_run(
        make_model, tmp_path, [float("nan"), -0.5, float("nan")], eval_step=1, epochs=1
    )
    assert (keeper.best_step, keeper.best_score) == (2, -0.5)


def test_a_run_shorter_than_eval_step_is_evaluated_and_saved(make_model, tmp_path):
    _, scores = scored_run(make_model, tmp_path, [0.5], eval_step=1000, max_steps=2)
    assert scores.calls == 1 and (tmp_path / WEIGHTS_NAME).exists()


def test_steps_are_kept_when_asked(make_model, tmp_path):
    model = make_model()
    run(model, tmp_path, keeper=ModelSaver(model, tmp_path, keep_steps=True), eval_step=2)
    kept = sorted(path.name for path in tmp_path.glob("step_*"))
    assert kept == [f"step_{n}_{WEIGHTS_NAME}" for n in (2, 3, 4, 6)]
    newest = (tmp_path / f"step_6_{WEIGHTS_NAME}").read_bytes()
    assert (tmp_path / WEIGHTS_NAME).read_bytes() == newest


# Resuming


@pytest.mark.parametrize(
    "after, how",
    [
        (1, {}),
        (3, {}),
        (4, {}),
        (5, {}),
        (3, {"optimizer_name": "adamw"}),
        (3, {"clip": "global"}),
        (1, {"optimizer_name": "adamw", "clip": "global", "nan_policy": "skip"}),
    ],
    ids=str,
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(make_model, tmp_path, after, how):
    """Dropout on: generators resume, too. The whole run writes no checkpoint, the other at every step."""
    dropout = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}
    answers = [0.3, 0.2, 0.6, 0.5]
    results = {}
    for name in ("whole", "resumed"):
        folder = tmp_path / name
        model = make_model(**dropout)

        def keeper(model, folder=folder, answers=answers):
            return ModelSaver(model, folder, Scores(model, answers), lambda m: m["dev"]["mcc"])

        if name == "resumed":
            with pytest.raises(Killed):
                run(model, folder, losses=killing(label_training, after), keeper=keeper(model),
                    eval_step=2, save_minutes=0, **how)  # fmt: skip
            evaluations = sum("dev" in line for line in log_of(folder))
            model = make_model(seed=5, **dropout)  # all it knows comes from the checkpoint
            torch.manual_seed(999)
            resumed = keeper(model, answers=answers[evaluations:])
        else:
            resumed = keeper(model)
        facts = run(model, folder, keeper=resumed, resume=True, eval_step=2, **how)
        state = resumed.state_dict()
        del state["best_model"]  # compared as a file, below
        results[name] = model, state, facts["examples"], facts["steps"]
    assert difference(results["whole"][0], results["resumed"][0]) == 0
    assert results["whole"][1:] == results["resumed"][1:]
    logs = [without_speed(log_of(tmp_path / name)) for name in results]
    assert logs[0] == logs[1]
    for name in (WEIGHTS_NAME, LAST_WEIGHTS_NAME):
        first, second = (torch.load(tmp_path / run / name) for run in results)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_checkpoints_leave_no_trace_in_the_log(make_model, tmp_path):
    """60 steps are logged at every third, however often a checkpoint is written."""
    source = make_source(batch_size=2, rows=60)
    for name, minutes in (("often", 0), ("never", 9)):
        run(make_model(hidden_size=8), tmp_path / name, source, save_minutes=minutes)
    often, never = (without_speed(log_of(tmp_path / name)) for name in ("often", "never"))
    assert often == never and len(often) == 20


def test_a_torn_log_line_is_cut_off_when_resuming(make_model, tmp_path):
    with pytest.raises(Killed):
        run(make_model(), tmp_path, losses=killing(label_training, 3), save_minutes=0)
    with (tmp_path / METRICS_NAME).open("a") as log:
        log.write('{"step": 4, "lo')
    run(make_model(), tmp_path, resume=True)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_lost_log_does_not_become_a_hole(make_model, tmp_path):
    with pytest.raises(Killed):
        run(make_model(), tmp_path, losses=killing(label_training, 3), save_minutes=0)
    (tmp_path / METRICS_NAME).unlink()
    run(make_model(), tmp_path, resume=True)
    assert [line["step"] for line in log_of(tmp_path)] == [4, 5, 6]


def test_resuming_where_there_is_nothing_starts_from_the_beginning(make_model, tmp_path):
    first, second = make_model(), make_model()
    run(first, tmp_path / "a")
    run(second, tmp_path / "b", resume=True)
    assert difference(first, second) == 0


# The teacher


def test_the_teacher_is_not_touched_and_builds_no_graph(make_model, tmp_path):
    teacher = make_model(1, hidden_dropout_prob=0.5)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    outputs = []
    teacher.register_forward_hook(lambda module, _, out: outputs.append((module.training, out)))
    for losses in (
        layer_distillation(
            teacher, layer_mapping("uniform", 2, 2), LayerWeights(), is_student=True
        ),
        prediction_distillation(teacher, regression=False),
    ):
        run(make_model(fit_size=24), tmp_path, losses=losses, max_steps=2, save_minutes=0)
    assert len(outputs) == 4
    for was_training, out in outputs:
        assert not was_training
        tensors = (out.output, *out.scores, *out.hidden)
        assert not any(t.requires_grad or t.grad_fn for t in tensors)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_only_the_mapped_teacher_layers_are_collected(make_model, tmp_path):
    teacher = make_model(1, num_hidden_layers=4).requires_grad_(False)
    seen = []
    teacher.register_forward_hook(lambda *args: seen.append(args[2]))
    losses = layer_distillation(
        teacher, layer_mapping("1:1,2:3", 2, 4), LayerWeights(), is_student=True
    )
    run(make_model(fit_size=24), tmp_path, losses=losses, max_steps=1)
    assert (len(seen[0].scores), len(seen[0].hidden)) == (2, 3)


def gap(losses, student, source):
    """The losses over all rows."""
    rows = np.arange(len(source.store(0)))
    with torch.no_grad():
        return losses(student.eval(), source.collate(0, rows, source.width(0, rows))).named


def test_a_student_ends_nearer_to_its_teachers_layers(
    tiny_config, randomised, make_model, tmp_path
):
    teacher = make_model(1, num_hidden_layers=4, hidden_size=32).requires_grad_(False)
    torch.manual_seed(0)
    student = TinyBertForPreTraining(tiny_config(fit_size=32))
    losses = layer_distillation(teacher, layer_mapping("uniform", 2, 4), LayerWeights())
    source = make_source(batch_size=16, rows=64)
    before = gap(losses, student, source)
    student.cls.requires_grad_(False)
    run(student, tmp_path, source, losses, epochs=25, learning_rate=3e-3)
    after = gap(losses, student, source)
    assert after["attention_loss"] < 0.7 * before["attention_loss"]
    assert after["hidden_loss"] < 0.7 * before["hidden_loss"]


def test_a_student_ends_nearer_to_its_teachers_predictions(make_model, tmp_path):
    teacher, student = make_model(1), make_model(2)
    with torch.no_grad():
        teacher.classifier.weight *= 5
    losses = prediction_distillation(teacher.requires_grad_(False), regression=False)
    source = make_source(batch_size=16, rows=64)
    floor = gap(losses, teacher, source)["prediction_loss"]
    before = gap(losses, student, source)["prediction_loss"] - floor
    run(student, tmp_path, source, losses, epochs=25, learning_rate=3e-3)
    after = gap(losses, student, source)["prediction_loss"] - floor
    assert 0 < after < 0.3 * before
