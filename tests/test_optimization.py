"""BertAdam and AdamW against their formulas, parameter by parameter in double precision."""

import math

import pytest
import torch

from transformer import optimization
from transformer.optimization import CLIPS, OPTIMIZERS, SCHEDULES, AdamW, BertAdam


def schedule_factor(name, x, w):
    """The schedules as the specification writes them."""
    if name == "none":
        return 1.0
    if x < w:
        return x / w
    return {
        "warmup_linear": max((x - 1) / (w - 1), 0.0),
        "warmup_polynomial": max((x - 1) / (w - 1), 0.0) ** 2,
        "warmup_constant": 1.0,
        "warmup_cosine": 0.5 * (1 + math.cos(math.pi * x)),
    }[name]


def plain_step(
    p, g, state, t, *, lr, factor, wd, b1=0.9, b2=0.999, e=1e-6, norm=None, corrected=False
):
    """One update of one tensor; `norm` is what its gradient is clipped by, its own if None."""
    g = g * min(1.0, 1.0 / ((g.norm().item() if norm is None else norm) + 1e-6))
    m = state["m"] = b1 * state["m"] + (1 - b1) * g
    v = state["v"] = b2 * state["v"] + (1 - b2) * g * g
    if corrected:
        m, v = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
    return p - lr * factor * (m / (v.sqrt() + e) + wd * p)


def make_parameters(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 5), (5,), (3, 4, 2), (1,), ()]
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def set_gradients(parameters, t):
    """Gradients between 1/10 and 30 times the clipping norm, different at every step."""
    generator = torch.Generator().manual_seed(100 + t)
    for i, p in enumerate(parameters):
        scale = (0.1, 1.0, 10.0)[(i + t) % 3]
        p.grad = scale * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def groups_of(parameters, decay=0.01):
    return [
        {"params": parameters[:3], "weight_decay": decay},
        {"params": parameters[3:], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("warmup", [-1, 0.0, 0.1, 0.37])
def test_steps_follow_the_formula(schedule, warmup):
    parameters = make_parameters(dtype=torch.float64)
    expected = [p.detach().clone() for p in parameters]
    states = [{"m": torch.zeros_like(p), "v": torch.zeros_like(p)} for p in expected]
    optimizer = BertAdam(
        groups_of(parameters, 0.3), lr=0.05, warmup=warmup, t_total=60, schedule=schedule
    )
    for t in range(70):  # past the end as well
        set_gradients(parameters, t)
        factor = schedule_factor(schedule, t / 60, max(warmup, 0.0))
        if schedule == "warmup_cosine" and t >= 60:
            factor = 0.0
        assert optimizer.get_lr() == pytest.approx([0.05 * factor] * 2)
        for i, p in enumerate(parameters):
            wd = 0.3 if i < 3 else 0.0
            expected[i] = plain_step(
                expected[i], p.grad.clone(), states[i], t, lr=0.05, factor=factor, wd=wd
            )
        optimizer.step()
    for p, q in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_each_optimizer_clips_either_way(name, clip):
    parameters = make_parameters(dtype=torch.float64)
    expected = [p.detach().clone() for p in parameters]
    states = [{"m": torch.zeros_like(p), "v": torch.zeros_like(p)} for p in expected]
    optimizer = OPTIMIZERS[name](groups_of(parameters, 0.3), lr=0.05, clip=clip, e=1e-7)
    for t in range(20):
        set_gradients(parameters, t)
        norm = torch.cat([p.grad.flatten() for p in parameters]).norm().item()
        for i, p in enumerate(parameters):
            expected[i] = plain_step(
                expected[i], p.grad.clone(), states[i], t, lr=0.05, factor=1.0, e=1e-7,
                wd=0.3 if i < 3 else 0.0, norm=norm if clip == "global" else None,
                corrected=name == "adamw",
            )  # fmt: skip
        optimizer.step()
    for p, q in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-9, atol=1e-12)


def test_adamw_is_torchs_after_its_global_clipping():
    ours, theirs = make_parameters(), make_parameters()
    optimizer = AdamW(groups_of(ours), lr=0.05, warmup=0.2, t_total=30)
    reference = torch.optim.AdamW(groups_of(theirs), lr=0.05)
    for t in range(30):
        for parameters in (ours, theirs):
            set_gradients(parameters, t)
        rates = optimizer.get_lr()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rate
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("first", [True, False], ids=["at the first step", "later"])
def test_a_step_that_is_skipped_leaves_no_trace(name, clip, first):
    """Not even in the bias correction: but for the schedule, as if it had not been."""
    skipping, plain = make_parameters(), make_parameters()
    optimizers = [
        OPTIMIZERS[name](groups_of(parameters), lr=0.05, clip=clip, skip_nonfinite=True)
        for parameters in (skipping, plain)
    ]
    for t in range(6):
        if t == (0 if first else 3):
            set_gradients(skipping, 99)
            skipping[1].grad[0] = math.nan
            before = [p.detach().clone() for p in skipping]
            optimizers[0].step()
            assert optimizers[0].nonfinite
            assert all(torch.equal(p, q) for p, q in zip(skipping, before, strict=True))
        for parameters, optimizer in zip((skipping, plain), optimizers, strict=True):
            set_gradients(parameters, t)
            optimizer.step()
    for p, q in zip(skipping, plain, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_rate_that_is_a_tensor_moves_weights_as_a_number_does(name):
    """A recorded step gets its rate so."""
    ours, theirs = make_parameters(), make_parameters()
    optimizers = [OPTIMIZERS[name](groups_of(p), lr=0.05) for p in (ours, theirs)]
    for t in range(5):
        set_gradients(ours, t)
        set_gradients(theirs, t)
        optimizers[0].step()
        updates = optimizers[1].due()
        optimizers[1].apply([u._replace(lr=torch.tensor(u.lr)) for u in updates])
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("schedule", ["warmup_linear", "warmup_cosine"])
def test_the_rate_ends_at_nought_without_a_sign(schedule):
    assert str(SCHEDULES[schedule](1.0, 0.1)) == "0.0"


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
def test_updates_do_not_depend_on_how_tensors_are_grouped(chunk, monkeypatch):
    monkeypatch.setitem(optimization.CHUNK_ELEMENTS, "cpu", chunk)
    parameters = make_parameters()
    optimizer = BertAdam(groups_of(parameters), lr=0.01, warmup=0.1, t_total=20)
    alone = make_parameters()
    optimizers = [
        BertAdam([p], lr=0.01, warmup=0.1, t_total=20, weight_decay=0.01 if i < 3 else 0.0)
        for i, p in enumerate(alone)
    ]
    for t in range(20):
        set_gradients(parameters, t)
        set_gradients(alone, t)
        optimizer.step()
        for one in optimizers:
            one.step()
    for p, q in zip(parameters, alone, strict=True):
        assert torch.equal(p, q)


def test_each_tensor_is_clipped_by_its_own_norm():
    small, large = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    optimizer = BertAdam([small, large], lr=0.1, max_grad_norm=1.0)
    small.grad, large.grad = torch.full((4,), 0.1), torch.full((4,), 100.0)
    optimizer.step()
    torch.testing.assert_close(small.grad, torch.full((4,), 0.1))
    torch.testing.assert_close(large.grad.norm(), torch.tensor(1.0))


def test_no_clipping_on_request():
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = BertAdam([p], lr=0.1, max_grad_norm=-1)
    p.grad = torch.full((4,), 100.0)
    optimizer.step()
    assert torch.equal(optimizer.state[p]["next_m"], torch.full((4,), 100.0) * (1 - 0.9))


def test_first_step_has_no_bias_correction():
    p = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = BertAdam([p], lr=0.5, weight_decay=0.0)
    p.grad = torch.tensor([0.5], dtype=torch.float64)
    optimizer.step()
    assert p.item() == pytest.approx(2 - 0.5 * (0.1 * 0.5) / (math.sqrt(0.001 * 0.25) + 1e-6))


def test_a_parameter_without_gradient_keeps_its_value_and_its_step():
    used, unused = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = BertAdam([used, unused], lr=0.1, warmup=0.5, t_total=10)
    used.grad = torch.ones(3)
    optimizer.step()
    optimizer.step()
    assert torch.equal(unused, torch.ones(3)) and unused not in optimizer.state
    unused.grad = torch.ones(3)
    optimizer.step()  # its own step 0: the warm-up gives it a rate of 0
    assert torch.equal(unused, torch.ones(3))
    assert (optimizer.state[used]["step"], optimizer.state[unused]["step"]) == (3, 1)


def test_unknown_length_of_training_means_a_constant_rate():
    optimizer = BertAdam([torch.nn.Parameter(torch.ones(1))], lr=0.1, warmup=0.1, t_total=-1)
    assert optimizer.get_lr() == [0.1]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_tensors_with_gaps_in_memory_are_updated_as_well(name):
    dense, gaps = torch.nn.Parameter(torch.ones(6, 4)), torch.nn.Parameter(torch.ones(4, 6).T)
    optimizer = OPTIMIZERS[name]([dense, gaps], lr=0.1)
    gradient = torch.arange(24.0).view(6, 4)
    dense.grad, gaps.grad = gradient.clone(), gradient.clone()
    optimizer.step()
    assert not gaps.is_contiguous() and torch.equal(dense, gaps)
    assert not torch.equal(dense, torch.ones(6, 4))


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("at", [1, 7])
def test_a_restored_optimizer_goes_on_bit_for_bit(at, name, clip, tmp_path):
    options = {"lr": 0.05, "warmup": 0.2, "t_total": 15, "schedule": "warmup_linear", "clip": clip}
    parameters = make_parameters()
    optimizer = OPTIMIZERS[name](groups_of(parameters), **options)
    for t in range(15):
        if t == at:
            saved = {"optimizer": optimizer.state_dict(), "p": [p.detach() for p in parameters]}
            torch.save(saved, tmp_path / "checkpoint.bin")
        set_gradients(parameters, t)
        optimizer.step()

    checkpoint = torch.load(tmp_path / "checkpoint.bin", weights_only=True)
    restored = [torch.nn.Parameter(p) for p in checkpoint["p"]]
    again = OPTIMIZERS[name](groups_of(restored), **{**options, "lr": 1.0, "t_total": 3})
    again.load_state_dict(checkpoint["optimizer"])
    for t in range(at, 15):
        set_gradients(restored, t)
        again.step()
    assert again.get_lr() == optimizer.get_lr()
    for p, q in zip(parameters, restored, strict=True):
        assert torch.equal(p, q)
        assert again.state[q]["step"] == 15
        assert torch.equal(optimizer.state[p]["next_m"], again.state[q]["next_m"])
        assert torch.equal(optimizer.state[p]["next_v"], again.state[q]["next_v"])


def test_the_closure_is_run_with_gradients_and_its_loss_returned():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = BertAdam([p], lr=0.1)

    def closure():
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (p < 1).all()


@pytest.mark.parametrize(
    "option",
    [
        {"lr": -1.0},
        {"lr": math.nan},
        {"schedule": "linear"},
        {"warmup": 1.0},
        {"warmup": -0.5},
        {"t_total": 0},
        {"b1": 1.0},
        {"b2": -0.1},
        {"e": -1e-6},
        {"weight_decay": math.inf},
        {"clip": "none"},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(option):
    p = torch.nn.Parameter(torch.ones(1))
    name = next(iter(option))
    with pytest.raises(ValueError, match=f"^{name} is "):
        BertAdam([p], **{"lr": 0.1, **option})
    if name != "clip":  # which is all groups'
        with pytest.raises(ValueError, match=f"^{name} is "):
            BertAdam([{"params": [p], **option}], lr=0.1)
