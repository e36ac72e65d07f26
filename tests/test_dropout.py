"""Our dropout against its definition."""

import pytest
import torch

from transformer.encoder import Dropout


def drop(p=0.1, shape=(64, 33, 47), seed=1, dtype=torch.float32):
    torch.manual_seed(seed)
    hidden = torch.ones(shape, dtype=dtype, requires_grad=True)
    return hidden, Dropout(p).train()(hidden)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_p_is_dropped_and_the_others_are_scaled(p, dtype):
    hidden, dropped = drop(p, dtype=dtype)
    kept = dropped != 0
    deviation = (p * (1 - p) / dropped.numel()) ** 0.5
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=4 * deviation)
    one = torch.tensor(1 / (1 - p)).to(dtype)
    torch.testing.assert_close(dropped[kept], one.expand(kept.sum()), rtol=1e-4, atol=0)


def test_what_is_dropped_is_independent_of_place():
    _, dropped = drop(0.5, (256, 256))
    kept = (dropped != 0).float() - 0.5
    for neighbour in (kept.roll(1, 0), kept.roll(1, 1), kept.roll(4, 1), kept.T):
        assert abs((kept * neighbour).mean().item()) < 0.25 * 4 / 256
    assert kept.mean(0).abs().max() < 0.5 * 5 / 16 and kept.mean(1).abs().max() < 0.5 * 5 / 16


def test_the_gradient_goes_where_the_value_went():
    hidden, dropped = drop()
    dropped.sum().backward()
    torch.testing.assert_close(hidden.grad, dropped.detach())


def test_masks_follow_the_seed_of_torch_and_differ_from_call_to_call():
    assert torch.equal(drop(seed=3)[1], drop(seed=3)[1])
    assert not torch.equal(drop(seed=3)[1], drop(seed=4)[1])
    torch.manual_seed(0)
    layer, hidden = Dropout(0.5).train(), torch.ones(1000)
    assert not torch.equal(layer(hidden), layer(hidden))


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 0), ()])
def test_any_shape_will_do(shape):
    assert drop(shape=shape)[1].shape == torch.Size(shape)


def test_nothing_is_dropped_in_evaluation_or_at_0():
    hidden = torch.randn(9)
    assert Dropout(0.5).eval()(hidden) is hidden
    assert Dropout(0.0).train()(hidden) is hidden
