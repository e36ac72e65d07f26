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


def guesses(key, rows, balance, seed=0):
    """A dev set, its `chance_score`, and what 4,000 that know nothing of its rows score, sorted."""
    generator, task = np.random.default_rng(seed), TASKS[key]
    if task.labels is None:
        labels, answers = generator.random(rows) * 5, generator.random((4000, rows))
    else:
        labels = generator.choice(len(balance), rows, p=balance)
        often = np.repeat(np.linspace(0, 1, 40), 100)  # the share of the last class in the answers
        answers = np.where(
            generator.random((4000, rows)) < often[:, None],
            len(balance) - 1,
            generator.integers(0, len(balance), (4000, rows)),
        )
    scores = [compute_metrics(task, answer, labels)[task.main_metric] for answer in answers]
    return chance_score(task, labels), np.sort(scores)


@pytest.mark.parametrize(
    "key, rows, balance",
    [
        ("rte", 277, (0.5, 0.5)),
        ("rte", 277, (0.2, 0.8)),
        ("sst2", 100, (0.4, 0.6)),
        ("mnli", 300, (0.3, 0.3, 0.4)),
        ("mrpc", 408, (0.32, 0.68)),
        ("qqp", 1000, (0.37, 0.63)),
        ("cola", 1043, (0.3, 0.7)),
        ("stsb", 400, None),
    ],
)
def test_chance_reaches_its_score_hardly_ever_and_comes_near_it(key, rows, balance):
    chance, scores = guesses(key, rows, balance)
    assert np.mean(scores > chance) <= 0.002
    assert scores[-1] > chance - 0.05


@pytest.mark.parametrize(
    "key, labels, same",
    [
        ("rte", [0] * 10 + [1] * 90, 0.9),
        ("mnli", [0] * 60 + [1] * 20 + [2] * 20, 0.6),
        ("mrpc", [0] * 30 + [1] * 70, 0.7),
        ("cola", [0] * 30 + [1] * 70, 0.0),
        ("stsb", [0.5, 2.0] * 50, 0.0),
    ],
)
def test_chance_is_above_what_one_answer_for_all_rows_scores(key, labels, same):
    assert same <= chance_score(TASKS[key], np.array(labels)) < 1


@pytest.mark.parametrize("key, labels", [("rte", [0, 1] * 3), ("cola", [1]), ("stsb", [0.5, 2.0])])
def test_on_a_handful_of_rows_chance_reaches_everything(key, labels):
    assert chance_score(TASKS[key], np.array(labels)) == 1
