"""GLUE's numbers against scikit-learn's and SciPy's."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.glue import TASKS
from tasks.metrics import average_ranks, chance_score, compute_metrics, f1_score

CLASSES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
SCORES = st.lists(
    st.tuples(st.integers(-30, 30).map(lambda n: n / 7), st.integers(0, 10).map(lambda n: n / 2)),
    min_size=2,
    max_size=60,
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def columns(pairs):
    return tuple(np.array(column) for column in zip(*pairs, strict=True))


def reference(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*arguments, **options))


@settings(max_examples=60, deadline=None)
@given(CLASSES)
def test_classification_equals_scikit_learn(pairs):
    from sklearn import metrics

    predictions, labels = columns(pairs)
    result = compute_metrics(TASKS["mrpc"], predictions, labels)
    f1 = reference(metrics.f1_score, labels, predictions, zero_division=0)
    assert result["acc"] == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert result["f1"] == pytest.approx(f1)
    assert result["acc_and_f1"] == pytest.approx((result["acc"] + f1) / 2)
    matthews = compute_metrics(TASKS["cola"], predictions, labels)
    expected = reference(metrics.matthews_corrcoef, labels, predictions)
    assert matthews == {"mcc": pytest.approx(expected, abs=1e-12)}


@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_correlations_equal_scipy(pairs):
    from scipy import stats

    predictions, labels = columns(pairs)
    result = compute_metrics(TASKS["stsb"], predictions[:, None], labels)
    for name, function in (("pearson", stats.pearsonr), ("spearmanr", stats.spearmanr)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = function(predictions, labels)[0]
        expected = 0.0 if math.isnan(expected) else expected
        assert result[name] == pytest.approx(expected, abs=1e-9)
    assert result["corr"] == pytest.approx((result["pearson"] + result["spearmanr"]) / 2)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_ranks_equal_scipy(values):
    from scipy.stats import rankdata

    np.testing.assert_array_equal(average_ranks(np.array(values)), rankdata(values))


@pytest.mark.parametrize("key", ["sst2", "mnli", "qnli", "rte", "wnli", "ax"])
def test_the_other_tasks_have_accuracy_alone(key):
    assert compute_metrics(TASKS[key], np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])) == {
        "acc": 0.75
    }


@pytest.mark.parametrize("key", TASKS)
def test_main_metric_is_one_of_those_computed(key):
    result = compute_metrics(TASKS[key], np.array([0, 1, 1]), np.array([0, 1, 0]))
    assert TASKS[key].main_metric in result
    assert all(type(value) is float for value in result.values())


@pytest.mark.parametrize("value", [0, 1])
def test_constant_predictions_have_no_correlation(value):
    labels = np.array([0, 1, 1, 0])
    constant = np.full(4, value)
    assert compute_metrics(TASKS["cola"], constant, labels) == {"mcc": 0.0}
    assert compute_metrics(TASKS["cola"], constant, constant) == {"mcc": 0.0}
    assert set(compute_metrics(TASKS["stsb"], constant, labels).values()) == {0.0}


def test_constant_float32_scores_have_no_correlation():
    constant = np.full(1000, 2.7182817, dtype=np.float32)
    labels = np.linspace(0, 5, 1000, dtype=np.float32)
    assert compute_metrics(TASKS["stsb"], constant, labels)["corr"] == 0.0


def test_one_row_can_be_scored():
    one = np.array([1])
    assert compute_metrics(TASKS["stsb"], one, one)["corr"] == 0.0
    assert compute_metrics(TASKS["mrpc"], one, one)["acc_and_f1"] == 1.0


def test_f1_without_positives_is_zero():
    assert f1_score(np.zeros(3), np.zeros(3)) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_not_hidden(bad):
    result = compute_metrics(TASKS["stsb"], np.array([1.0, bad, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert math.isnan(result["pearson"]) and math.isnan(result["corr"])


@pytest.mark.parametrize("predictions, labels", [([], []), ([1], [1, 0]), ([1, 0], [1])])
def test_nothing_or_unequal_lengths_are_refused(predictions, labels):
    with pytest.raises(ValueError, match="predictions for"):
        compute_metrics(TASKS["rte"], np.array(predictions), np.array(labels))


@pytest.mark.parametrize(
    "key, labels, chance",
    [
        ("rte", [0, 1, 1, 1], 0.75),
        ("mnli", [0, 1, 2, 2, 1, 2], 0.5),
        ("cola", [0, 1, 1, 1], 0.0),
        ("stsb", [0.5, 2.0, 5.0], 0.0),
    ],
)
def test_chance_is_what_one_answer_for_all_rows_scores(key, labels, chance):
    assert chance_score(TASKS[key], np.array(labels)) == chance
