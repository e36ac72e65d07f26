"""Objectives as modules: what they need, own and keep; and how a run of them ends."""

import pytest
import torch
import transformers

from distillation.checkpoint import load_checkpoint
from distillation.objective import Losses, Objectives, Setup, Step
from distillation.objectives import OBJECTIVES, make_objectives
from distillation.objectives.logits import Labels
from distillation.state import TrainingSettings, make_optimizer
from tests.training_run import (
    Killed,
    ProbeObjective,
    difference,
    log_of,
    make_source,
    probing,
    run,
)
from transformer.encoder import Collect
from transformer.optimization import SCHEDULES


def test_the_parameters_of_an_objective_are_trained_and_its_loss_falls(make_model, tmp_path):
    model = make_model()
    losses = probing(model.config)
    before = losses.parts[1].probe.weight.clone()
    run(model, tmp_path, make_source(rows=64), losses, epochs=15, learning_rate=3e-3)
    assert not torch.equal(losses.parts[1].probe.weight, before)
    logged = [line["probe_loss"] for line in log_of(tmp_path) if "probe_loss" in line]
    assert logged[-1] < 0.8 * logged[0]


def test_a_killed_run_resumes_with_the_objectives_own_weights_and_buffers(make_model, tmp_path):
    whole, kept = make_model(), make_model()
    expected, losses = probing(whole.config), probing(kept.config)
    run(whole, tmp_path / "whole", losses=expected)

    class Killing(Objectives):
        calls = 0

        def forward(self, student, batch):
            self.calls += 1
            if self.calls > 3:
                raise Killed
            return super().forward(student, batch)

    killing = Killing(list(zip(losses.parts, losses.weights, strict=True)))
    with pytest.raises(Killed):
        run(kept, tmp_path / "kept", losses=killing, save_minutes=0)
    state = load_checkpoint(tmp_path / "kept" / "checkpoint.pt")
    assert set(state["losses"]) == set(expected.state_dict())
    again, resumed = make_model(5), probing(whole.config)
    run(again, tmp_path / "kept", losses=resumed, resume=True)
    assert difference(whole, again) == 0
    assert all(
        torch.equal(value, resumed.state_dict()[name])
        for name, value in expected.state_dict().items()
    )


def test_each_objective_sees_what_it_needs_of_one_forward_pass(make_model):
    model, calls = make_model(num_hidden_layers=3), []
    model.register_forward_hook(lambda *args: calls.append(args[2]))
    seen = []

    class Looking(ProbeObjective):
        def needs(self, side):
            return Collect(hidden=(3, 1), probs=(0,)) if side == "student" else Collect()

        def forward(self, student, teacher, batch):
            seen.append(student)
            return super().forward(student, teacher, batch)

    setup = Setup(model.config)
    source = make_source()
    batch = source.collate(0, source.plan(0)[0], 13)
    Objectives([(ProbeObjective(setup), 1.0), (Looking(setup), 1.0)])(model, batch)
    (out,) = calls
    assert len(out.hidden) == 2 and len(out.probs) == 1
    assert seen[0].hidden[1] is out.hidden[0] and seen[0].hidden[0] is out.hidden[1]
    assert seen[0].probs == out.probs and seen[0].scores == ()


def test_gradients_of_several_passes_are_those_of_their_sum(make_model, tmp_path):
    class Twice(Objectives):
        def passes(self, student, batch, step):
            for factor in (0.25, 0.75):
                losses = self(student, batch)
                yield Losses({name: factor * loss for name, loss in losses.named.items()})

    one, two = make_model(), make_model()
    run(one, tmp_path / "one")
    run(two, tmp_path / "two", losses=Twice([(Labels(Setup()), 1.0)]))
    assert difference(one, two) < 1e-6
    for a, b in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"])


def test_an_objective_knows_its_step_and_draws_alike_after_an_interruption(make_model, tmp_path):
    seen = {}

    class Drawing(Objectives):
        def passes(self, student, batch, step):
            seen.setdefault(step.number, []).append(
                torch.rand(1, generator=step.generator(3)).item()
            )
            if len(seen) > stop:
                raise Killed
            yield self(student, batch)

    stop = 4
    losses = Drawing([(Labels(Setup()), 1.0)])
    with pytest.raises(Killed):
        run(make_model(), tmp_path, losses=losses, save_minutes=0)
    stop = 99
    run(make_model(), tmp_path, losses=losses, save_minutes=0, resume=True)
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
    assert len(seen[5]) == 2 and seen[5][0] == seen[5][1]
    assert len({draws[0] for draws in seen.values()}) == 6
    assert Step(1, 42).generator(3).initial_seed() != Step(1, 43).generator(3).initial_seed()


def test_every_objective_by_its_name(make_model):
    teacher, student = make_model(1, num_hidden_layers=4), make_model(2, fit_size=24)
    from distillation.mapping import layer_mapping

    setup = Setup(student.config, teacher.config, layer_mapping("uniform", 2, 4))
    source = make_source()
    batch = source.collate(0, source.plan(0)[0], 13)
    # Those of spans read a model that finds them: tests/test_length_drop.py.
    names = [name for name in OBJECTIVES if not name.startswith("span_")]
    together = make_objectives(dict.fromkeys(names, 0.5), setup).attach(teacher, is_student=True)
    losses = together(student, batch)
    alone = {}
    for name in names:
        one = make_objectives({name: 0.5}, setup).attach(teacher, is_student=True)
        for key, value in one(student, batch).named.items():
            alone[key] = alone.get(key, 0) + value
    assert set(losses.named) == set(alone)
    for key, value in losses.named.items():
        torch.testing.assert_close(value, alone[key])


def test_patience_ends_a_run_that_gains_nothing(make_model, tmp_path):
    from distillation.checkpoint import ModelSaver

    model, scores = make_model(), iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    saver = ModelSaver(model, tmp_path, lambda: {"dev": {"acc": next(scores)}},
                       lambda metrics: metrics["dev"]["acc"])  # fmt: skip
    facts = run(model, tmp_path, keeper=saver, eval_step=1, patience=3)
    assert (facts["steps"], facts["ended_by"]) == (5, "patience")
    assert (saver.best_step, saver.without_gain) == (2, 3)
    assert log_of(tmp_path)[-2]["step"] == 5  # its losses, and then its score


def test_minutes_end_a_run_with_a_model(make_model, tmp_path):
    facts = run(make_model(), tmp_path, max_minutes=1e-9)
    assert (facts["steps"], facts["ended_by"]) == (1, "max_minutes")
    assert (tmp_path / "pytorch_model.bin").is_file()
    assert "ended_by" not in run(make_model(), tmp_path / "other", max_minutes=60.0)


def test_decay_goes_by_the_kind_of_module(make_model):
    """Not by a parameter's name: an objective's own vector does not decay, its matrix does."""
    model = make_model()
    model.odd = torch.nn.Parameter(torch.ones(3))
    model.bias_like = torch.nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(model, TrainingSettings(epochs=1, learning_rate=1e-3), 10)
    decayed, plain = (group["params"] for group in optimizer.param_groups)
    assert any(p is model.bias_like.weight for p in decayed)
    assert any(p is model.odd for p in plain)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and all(any(p is norm.weight for p in plain) for norm in norms)
    assert all(p.dim() == 2 for p in decayed)


@pytest.mark.parametrize("name, theirs, options", [
    ("warmup_linear", "get_linear_schedule_with_warmup", {}),
    ("warmup_constant", "get_constant_schedule_with_warmup", {}),
    ("warmup_polynomial", "get_polynomial_decay_schedule_with_warmup", {"power": 2, "lr_end": 0}),
])  # fmt: skip
def test_schedules_are_those_of_transformers(make_model, name, theirs, options):
    parameter = torch.nn.Parameter(torch.ones(1))
    plain = torch.optim.AdamW([parameter], lr=1.0)
    total = {} if "constant" in theirs else {"num_training_steps": 30}
    scheduler = getattr(transformers, theirs)(plain, num_warmup_steps=6, **total, **options)
    settings = TrainingSettings(epochs=1, learning_rate=1.0, schedule=name, warmup_steps=6)
    ours = make_optimizer(torch.nn.Linear(1, 1), settings, 30).param_groups[0]
    for step in range(30):
        factor = SCHEDULES[name](step / 30, ours["warmup"])
        assert factor == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
        plain.step()
        scheduler.step()
