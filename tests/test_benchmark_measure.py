"""The benchmarks' arithmetic: ceilings, scaled targets, the stopwatch, memory, work by shapes."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import Figure, Target
from benchmarks.measure import TINY_SIZES, Ceiling, Stopwatch, alternate, run_program
from benchmarks.shapes import (
    classifier_macs,
    encoder_macs,
    encoder_parameters,
    layer_step_gflop,
    masked_word_macs,
    prediction_gflop,
)
from distillation.mapping import layer_mapping
from tests.training_run import LayerWeights, layer_distillation, prediction_distillation
from transformer.configuration import BertConfig
from transformer.encoder import Collect
from transformer.modeling import (
    BertForMaskedLM,
    BertModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)
from transformer.precision import multiplies_bf16

CPU = torch.device("cpu")
BERT_BASE = BertConfig()
TINY_4L = BertConfig(num_hidden_layers=4, hidden_size=312, intermediate_size=1200)


def figure(**values) -> Figure:
    ceiling = {
        "fp32": 350.0,
        "bf16": 700.0,
        "copy": 20.0,
    }  # a machine twice as fast as the published
    return Figure(**{"row": "r", "job": "j", "samples": 3, "ceiling": ceiling, **values})


def counted_gflop(work) -> float:
    """What torch counts; fused attention, which it does not see on a CPU, is taken apart for it."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def batch_of(config: BertConfig, rows: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, config.vocab_size, (rows, length))
    return {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "attention_mask": torch.ones_like(ids),
    }


@pytest.fixture
def work_for(monkeypatch):
    """A function that takes so many seconds by the clock of the measurements, and none by others."""
    clock = [0.0]

    def work(seconds):
        clock[0] += seconds

    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: clock[0])
    return work


def test_ceilings_are_rates_of_work_done():
    ceiling = Ceiling(CPU, TINY_SIZES)
    for _ in range(3):
        ceiling.sample()
    assert set(ceiling.rates()) - {"bf16"} == {"fp32", "linear", "copy"}
    assert ("bf16" in ceiling.rates()) is multiplies_bf16(CPU)
    assert all(0 < rate < 1e7 for rate in ceiling.rates().values())


def test_jobs_and_ceiling_take_turns(work_for):
    order, ceiling = [], Ceiling(CPU, TINY_SIZES)
    ceiling.sample = lambda: order.append("ceiling")
    jobs = {"ours": lambda: order.append("ours"), "theirs": lambda: work_for(3)}
    seconds = alternate(jobs, ceiling, repeats=2)
    assert order == ["ours", "ours", "ceiling", "ours", "ceiling"]
    assert seconds == {"ours": [0, 0], "theirs": [3, 3]}


def test_published_figures_are_scaled_to_the_machine():
    step = figure(unit="s a step", ours=1.0, published=7.7)
    rate = figure(unit="rows/s", ours=438.0, published=73.0)
    memory = figure(unit="GB", ours=2.0, published=16.9, published_scales=False)
    assert step.published_here == pytest.approx(3.85)
    assert rate.published_here == pytest.approx(146.0)
    assert memory.published_here == 16.9
    assert step.times(step.published_here) == pytest.approx(3.85)
    assert rate.times(rate.published_here) == pytest.approx(3.0)


def test_targets_are_judged_on_the_scaled_figures():
    missed = figure(unit="rows/s", ours=438.0, published=73.0, target=Target("published", 3.1))
    assert (missed.reached, missed.met) == (pytest.approx(3.0), False)
    floor = figure(
        unit="s a step", ours=2.8, gflop=864.0, precision="bf16", target=Target("floor", 1.18, 0.5)
    )
    assert floor.floor == pytest.approx(864 / 350)
    assert (floor.reached, floor.met) == (pytest.approx(2.8 * 350 / 864), True)
    assert floor.of_ceiling == pytest.approx(864 / 2.8 / 700)
    assert figure(unit="GB", ours=3.1, target=Target("limit", 3)).met is False


def test_a_figure_survives_the_results_file():
    first = figure(
        unit="s a step", ours=2.8, gflop=9.0, precision="fp32", target=Target("floor", 2)
    )
    assert Figure.from_json(first.to_json()) == first


class Step:
    """A step of a training loop as the stopwatch sees it."""

    def __init__(self, length):
        self.parts = [({"input_ids": torch.zeros(2, length)}, 1.0)]


def test_the_stopwatch_leaves_out_what_is_done_between_steps(work_for):
    watch = Stopwatch(CPU, between=lambda batch: work_for(5) or True, work=lambda batch: 2.0)
    called = []
    step = watch.wrap(lambda whole, number: called.append(number))
    for number in range(5):
        step(Step(7), number)
        work_for(1)
    assert called == [0, 1, 2, 3, 4]
    assert len(watch.seconds) == 4 and len(watch.counted()) == 3
    assert (watch.median_for(2.0), watch.median_for(4.0), watch.mean()) == (1.0, 2.0, 1.0)
    assert watch.mean_gflop() == 2.0


def test_the_stopwatch_leaves_out_shapes_that_are_new(work_for):
    """On a GPU the first step of a shape is launched kernel by kernel, the second recorded."""
    watch = Stopwatch(CPU, between=lambda batch: False, work=lambda batch: 1.0, known=2)
    step = watch.wrap(lambda whole: work_for(30 if len(watch.gflop) in (1, 2, 4) else 1))
    for length in (7, 7, 7, 9, 7, 9, 9, 9):
        step(Step(length))
    assert (
        len(watch.counted()) == 3
    )  # the third and fourth of 7, the third of 9; the last never ends
    assert all(seconds == 1 for seconds, _ in watch.counted())


def test_a_programs_memory_is_its_own(tmp_path):
    here = bytearray(300 << 20)
    small = run_program(["-c", "pass"], tmp_path)
    large = run_program(["-c", "x = bytearray(200 << 20)"], tmp_path)
    del here
    assert small.peak_bytes < 100 << 20
    assert 200 << 20 < large.peak_bytes < 300 << 20
    with pytest.raises(RuntimeError, match="exit status 3"):
        run_program(["-c", "raise SystemExit(3)"], tmp_path)


def test_multiply_accumulates_are_those_that_torch_counts(tiny_config):
    config = tiny_config(num_hidden_layers=3)
    batch = batch_of(config, 2, 11)
    encoder, words = BertModel(config), BertForMaskedLM(config).eval()
    last = Collect(hidden=(3,))
    classifier = TinyBertForSequenceClassification(config)
    answer = partial(classifier, **batch)
    with torch.no_grad():
        for seen, expected in (
            (counted_gflop(lambda: encoder(**batch, collect=last, pool=False)),
             encoder_macs(config, 11)),
            (counted_gflop(answer), classifier_macs(config, 11, training=True)),
            (counted_gflop(lambda: words(**batch, columns=torch.tensor([4, 5]))),
             masked_word_macs(config, 11)),
        ):  # fmt: skip
            assert seen == pytest.approx(4e-9 * expected)
        classifier.eval()
        assert counted_gflop(answer) == pytest.approx(4e-9 * classifier_macs(config, 11))


def test_the_work_of_a_distillation_step_is_what_torch_counts(tiny_config):
    teacher = BertModel(tiny_config(num_hidden_layers=4)).requires_grad_(False)
    student = TinyBertForPreTraining(tiny_config(hidden_size=16, fit_size=24))
    batch = batch_of(teacher.config, 3, 9)
    losses = layer_distillation(
        lambda **inputs: teacher(**inputs, pool=False),
        layer_mapping("uniform", 2, 4),
        LayerWeights(),
    )
    seen = counted_gflop(lambda: losses(student, batch).total().backward())
    assert seen == pytest.approx(layer_step_gflop(student.config, teacher.config, [9] * 3))


def test_the_work_of_prediction_distillation_is_what_torch_counts(tiny_config):
    teacher = TinyBertForSequenceClassification(tiny_config()).requires_grad_(False).eval()
    student = TinyBertForSequenceClassification(tiny_config(hidden_size=16))
    batch = batch_of(teacher.config, 3, 9)
    losses = prediction_distillation(teacher, regression=False)
    seen = counted_gflop(lambda: losses(student, batch).total().backward())
    assert seen == pytest.approx(
        prediction_gflop(student.config, teacher.config, [9] * 3, epochs=1)
    )


def test_general_distillation_is_864_gflop_a_step():
    assert round(layer_step_gflop(TINY_4L, BERT_BASE, [128] * 32)) == 864


def test_parameters_are_those_of_the_models(tiny_config):
    config = tiny_config(num_hidden_layers=3)
    assert encoder_parameters(config) == sum(p.numel() for p in BertModel(config).parameters())
    assert round(encoder_parameters(BERT_BASE) / 1e6) == 109
