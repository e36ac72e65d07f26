"""Evaluation: every row answered once, in its place, whatever the batches."""

import numpy as np
import pytest
import torch

from corpus.token_store import TokenStore
from tasks.evaluation import evaluate, predict_logits, predictions_of
from tasks.glue import find_task
from tasks.metrics import compute_metrics
from transformer.encoder import Collect
from transformer.modeling import TinyBertForSequenceClassification

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store():
    generator = np.random.default_rng(4)
    lengths = generator.integers(3, 40, 37)
    tokens = generator.integers(5, 200, lengths.sum()).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenStore(tokens, offsets, (lengths - lengths // 3).astype(np.uint16))


@pytest.fixture(scope="module")
def model(tiny_config, randomised):
    labels = {"id2label": ["a", "b", "c"]}
    return randomised(TinyBertForSequenceClassification(tiny_config(**labels)))


@pytest.fixture(scope="module")
def one_by_one(model, store):
    with torch.no_grad():
        rows = [model(**store.collate(np.array([i]))).output[0] for i in range(len(store))]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("batch_size", [1, 8, 37, 1000])
def test_logits_are_those_of_each_row_alone_in_the_order_of_the_store(
    model, store, one_by_one, batch_size
):
    logits = predict_logits(model, store, batch_size, CPU)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, one_by_one, atol=1e-5)


def test_a_forward_pass_may_run_in_another_precision(model, store, one_by_one):
    logits = predict_logits(model, store, 8, CPU, torch.autocast("cpu", torch.bfloat16))
    assert logits.dtype == np.float32
    assert 1e-5 < np.abs(logits - one_by_one).max() < 0.1


def test_positions_that_nobody_reads_are_left_out_of_the_last_layer(model, store):
    """Whoever asks for the last hidden state gets all of it, and the same logits."""
    batch, widths = store.collate(np.arange(5)), []
    last = model.bert.encoder.layer[-1]
    handle = last.register_forward_hook(lambda *args: widths.append(args[2][0].shape[1]))
    with torch.no_grad():
        outs = [model(**batch, collect=Collect(hidden=layers)) for layers in ((), (2,))]
        scored = model(**batch, collect=Collect(scores=(1,)))
    model.train()
    model(**batch)
    model.eval()
    handle.remove()
    length = batch["input_ids"].shape[1]
    assert widths == [1, length, length, length]
    for out in (outs[1], scored):
        torch.testing.assert_close(outs[0].output, out.output, rtol=1e-5, atol=1e-5)


def test_logits_that_are_there_are_not_computed_again(model, store, one_by_one):
    out = one_by_one.copy()
    out[[3, 30]] = np.nan
    seen, told = [], []
    handle = model.register_forward_hook(lambda *args: seen.append(len(args[2].output)))
    logits = predict_logits(model, store, 4, CPU, out=out, done=told.append)
    handle.remove()
    assert logits is out and sum(told) == 37 and 4 <= sum(seen) <= 8
    np.testing.assert_allclose(out, one_by_one, atol=1e-5)


def test_evaluation_collects_no_layers(model, store):
    seen = []
    handle = model.register_forward_hook(lambda *args: seen.append(args[2]))
    predict_logits(model, store, 8, CPU)
    handle.remove()
    assert len(seen) == 5
    assert all(out[1:] == ((), (), (), ()) for out in seen)


def test_predictions_are_classes_or_scores():
    logits = np.array([[0.1, 0.9], [3.0, -1.0]], np.float32)
    assert predictions_of(find_task("rte"), logits).tolist() == [1, 0]
    scores = np.array([[0.25], [4.5]], np.float32)
    assert predictions_of(find_task("sts-b"), scores).tolist() == [0.25, 4.5]


def test_every_dev_set_is_scored_under_its_name(model, store, one_by_one):
    """Both of MNLI's, again and again: one must not stand in for the other."""
    task, labels = find_task("mnli"), np.arange(37) % 3
    splits = {"dev_matched": (store, labels), "dev_mismatched": (store, one_by_one.argmax(1))}
    for _ in range(2):
        metrics = evaluate(task, model, splits, 8, CPU)
        assert list(metrics) == list(splits)
        assert metrics["dev_matched"] == compute_metrics(task, one_by_one.argmax(1), labels)
        assert metrics["dev_mismatched"]["acc"] == 1.0
