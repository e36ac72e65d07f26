"""Plans of batches: complete, reproducible, of like lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.batches import StoreBatches, plan_batches
from corpus.large_plan import LargePlan, shuffled
from corpus.token_store import TokenStore

LENGTHS = np.random.default_rng(0).integers(3, 128, 1003)


def same(left, right):
    return len(left) == len(right) and all(map(np.array_equal, left, right))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 300),
    st.integers(1, 40),
    st.integers(-5, 2**40),
    st.integers(0, 9),
    st.booleans(),
    st.integers(1, 5),
)
def test_every_row_is_in_exactly_one_batch(rows, batch_size, seed, epoch, shuffle, pool):
    batches = plan_batches(LENGTHS[:rows], batch_size, seed, epoch, shuffle, pool)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    sizes = [len(batch) for batch in batches]
    assert sum(size != batch_size for size in sizes) == (rows % batch_size > 0)


def test_plan_depends_on_nothing_but_its_arguments():
    first = plan_batches(LENGTHS, 32, seed=42, epoch=1)
    np.random.seed(0)
    assert same(first, plan_batches(LENGTHS.tolist(), 32, seed=42, epoch=1))


@pytest.mark.parametrize("seed, epoch", [(43, 1), (42, 2), (1, 42), (2**32 + 42, 1)])
def test_seed_and_epoch_change_the_plan(seed, epoch):
    first = plan_batches(LENGTHS, 32, seed=42, epoch=1)
    assert not same(first, plan_batches(LENGTHS, 32, seed=seed, epoch=epoch))


def test_batches_waste_little_on_padding():
    def padded(batches):
        return sum(len(batch) * LENGTHS[batch].max() for batch in batches)

    plan = plan_batches(LENGTHS, 8, seed=1, epoch=0)
    assert padded(plan) < 1.03 * LENGTHS.sum()
    assert padded(plan_batches(LENGTHS, 8, seed=1, epoch=0, pool=1)) > 1.3 * LENGTHS.sum()


def test_batches_of_like_length_do_not_come_in_order():
    means = [LENGTHS[batch].mean() for batch in plan_batches(LENGTHS, 8, seed=1, epoch=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_equal_lengths_are_shuffled():
    batches = plan_batches(np.full(64, 128), 8, seed=1, epoch=0)
    assert np.concatenate(batches).tolist() != list(range(64))


def test_unshuffled_plan_is_longest_first():
    batches = plan_batches(LENGTHS, 32, seed=1, epoch=0, shuffle=False)
    assert (np.diff(LENGTHS[np.concatenate(batches)]) <= 0).all()
    assert same(batches, plan_batches(LENGTHS, 32, seed=2, epoch=5, shuffle=False))


def test_unshuffled_plan_takes_unsigned_lengths():
    batches = plan_batches(np.array([3, 9, 5], dtype=np.uint16), 1, 0, 0, shuffle=False)
    assert np.concatenate(batches).tolist() == [1, 2, 0]


@pytest.mark.parametrize("shuffle", [True, False])
def test_short_batch_is_dropped_only_on_request(shuffle):
    assert len(plan_batches(LENGTHS, 32, 1, 0, shuffle)) == 32
    batches = plan_batches(LENGTHS, 32, 1, 0, shuffle, drop_last=True)
    assert [len(batch) for batch in batches] == [32] * 31


def test_the_only_batch_is_never_dropped():
    assert [len(batch) for batch in plan_batches([5, 6], 32, 1, 0, drop_last=True)] == [2]


@pytest.mark.parametrize("batch_size, pool", [(0, 1), (-1, 1), (8, 0)])
def test_sizes_below_one_are_refused(batch_size, pool):
    with pytest.raises(ValueError, match="at least 1"):
        plan_batches(LENGTHS, batch_size, 1, 0, pool=pool)


# Stores too large to be put in order at once


class Watched(np.ndarray):
    """Offsets that note how many of them are read."""

    def __getitem__(self, index):
        found = np.asarray(self)[index]
        self.read.append(np.size(found))
        return found


def large_plan(rows, batch_size=8, epoch=0, pool=5, drop_last=False):
    offsets = np.concatenate([[0], np.cumsum(LENGTHS[:rows])])
    return LargePlan(offsets, batch_size, (1, 2, epoch), pool, drop_last)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**63))
def test_the_order_of_a_large_store_holds_every_row_once(size, key):
    keys = np.random.default_rng(key).integers(2**64, size=6, dtype=np.uint64)
    order = shuffled(np.arange(size), size, keys)
    assert sorted(order) == list(range(size))
    assert np.array_equal(shuffled(np.arange(size)[::3], size, keys), order[::3])


def test_the_order_of_a_large_store_is_random():
    keys = np.random.default_rng(0).integers(2**64, size=6, dtype=np.uint64)
    order = shuffled(np.arange(10**5), 10**5, keys)
    assert abs(np.corrcoef(order, np.arange(10**5))[0, 1]) < 0.02
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    counts = np.bincount(order[: 10**4] // 1000, minlength=100)  # a tenth of every thousand
    assert counts.min() > 50 and counts.max() < 150


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_a_large_plan_is_complete_and_of_like_lengths(rows, batch_size, pool, drop_last):
    plan = large_plan(rows, batch_size, pool=pool, drop_last=drop_last)
    expected = plan_batches(LENGTHS[:rows], batch_size, 0, 0, pool=pool, drop_last=drop_last)
    assert sorted(map(len, plan)) == sorted(map(len, expected))
    seen = np.concatenate(plan)
    assert len(set(seen)) == len(seen) == sum(map(len, expected))
    batches = list(plan)
    for first in range(0, len(plan), pool):
        ranges = sorted((LENGTHS[b].min(), LENGTHS[b].max()) for b in batches[first : first + pool])
        assert all(one[1] <= other[0] for one, other in zip(ranges, ranges[1:], strict=False))


def test_a_large_plan_can_be_entered_anywhere_and_changes_with_the_epoch():
    plan = large_plan(300)
    whole = list(plan)
    again = large_plan(300)
    assert all(np.array_equal(again[i], whole[i]) for i in reversed(range(len(whole))))
    assert not same(whole, list(large_plan(300, epoch=1)))


def test_a_large_store_is_read_pool_by_pool(monkeypatch):
    monkeypatch.setattr("corpus.batches.LARGE", 500)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).view(Watched)
    offsets.read = []
    store = TokenStore(np.zeros(int(LENGTHS.sum()), np.uint16), offsets, np.ones(1003, np.uint16))
    source = StoreBatches([store], 4, seed=1, pool=5)
    plan = source.plan(0)
    assert len(plan) == source.count(0) and len(plan[100]) == 4
    assert sum(offsets.read) <= 2 * 4 * 5
