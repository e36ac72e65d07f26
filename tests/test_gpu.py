"""What only a GPU can show: it computes what a CPU computes, and no step waits for it."""

import copy
import json
import subprocess
import sys

import pytest
import torch

import distillation.training as training
from benchmarks.inputs import QUICK, Workspace
from benchmarks.measure import ROOT
from cli.augmentation import language_model
from distillation.checkpoint import ModelSaver
from distillation.cuda_graphs import CudaGraphs
from distillation.distributed import Runtime
from distillation.mapping import layer_mapping
from distillation.objectives import label_training
from tasks.evaluation import predict_logits
from tasks.likely_tokens import likely_tokens
from tasks.sentence_words import SentenceSplitter
from tests.patience import PATIENCE
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
from transformer.modeling import BertForMaskedLM

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")
RUNTIME = Runtime(GPU)
ADAMW = {"optimizer_name": "adamw", "clip": "global"}
DROPOUT = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2}


@pytest.fixture
def stage(make_model):
    """A function giving the losses of a stage of distillation, its teacher on a device."""

    def make(name, device):
        teacher = make_model(1, num_hidden_layers=4).requires_grad_(False).to(device)
        if name == "predictions":
            return prediction_distillation(teacher, regression=False)
        mapping = layer_mapping("uniform", 2, 4)
        return layer_distillation(teacher, mapping, LayerWeights(), is_student=True)

    return make


@pytest.mark.parametrize("name", ["layers", "predictions"])
def test_losses_and_gradients_are_those_of_a_cpu(make_model, stage, tiny_batch, name):
    """Layers nobody reads take the fused attention of either device."""
    student, batch = make_model(fit_size=24), tiny_batch()
    found = {}
    for device in (torch.device("cpu"), GPU):
        model = copy.deepcopy(student).to(device).train()
        parts = stage(name, device)(model, {k: v.to(device) for k, v in batch.items()})
        sum(parts.values()).backward()
        gradients = {k: p.grad.cpu() for k, p in model.named_parameters() if p.grad is not None}
        found[device.type] = {k: v.detach().cpu() for k, v in parts.items()}, gradients
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=1e-4, atol=1e-6)


@pytest.fixture
def watched(monkeypatch):
    """Have torch raise an error where a step waits for the GPU; lists the steps that did not."""
    step, done = training._step, []

    def watched_step(*arguments):
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        done.append(1)

    monkeypatch.setattr(training, "_step", watched_step)
    return done


@pytest.mark.parametrize("how", [{}, ADAMW], ids=["bertadam", "adamw"])
@pytest.mark.parametrize("nan_policy", ["stop", "skip"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["layers", "predictions", "labels"])
def test_no_step_waits_for_the_gpu(
    make_model, stage, tmp_path, watched, name, precision, nan_policy, how
):
    """Passes, optimiser and the log's sums, in two micro-steps each."""
    losses = label_training if name == "labels" else stage(name, GPU)
    model = make_model(fit_size=24, **DROPOUT).to(GPU)
    run(model, tmp_path, losses=losses, runtime=RUNTIME, precision=precision, nan_policy=nan_policy,
        accumulation=2, **how)  # fmt: skip
    assert len(watched) == 6


def test_a_step_that_waits_would_be_seen(make_model, tmp_path, watched):
    def waiting(model, batch):
        parts = label_training(model, batch)
        parts.named["label_loss"].item()
        return parts

    with pytest.raises(RuntimeError, match="synchroniz"):
        run(make_model().to(GPU), tmp_path, losses=waiting, runtime=RUNTIME)


@pytest.fixture
def recorders(monkeypatch):
    """Lists the recorders of the runs."""
    made = []

    class Listed(CudaGraphs):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("distillation.gradients.CudaGraphs", Listed)
    return made


def recordings(recorder):
    return sum(recording is not None for recording in recorder._recordings.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("name", ["layers", "labels"])
def test_recorded_steps_compute_what_plain_ones_do(
    make_model, stage, tmp_path, recorders, name, accumulation, precision
):
    """Dropout draws the same numbers, new ones at each replay; batches have several shapes."""
    losses = label_training if name == "labels" else stage(name, GPU)
    models = {}
    for recorded in (False, True):
        models[recorded] = make_model(fit_size=24, **DROPOUT).to(GPU)
        run(models[recorded], tmp_path / str(recorded), losses=losses, runtime=RUNTIME, epochs=6,
            accumulation=accumulation, precision=precision, recorded=recorded)  # fmt: skip
    plain, recorder = recorders
    assert recordings(plain) == 0 and recordings(recorder) >= 3 and recorder.enabled
    if precision == "fp32":
        assert difference(models[False], models[True]) < 1e-5
    # In bfloat16 a gradient added up in another order may round to its neighbour, and grow from there.
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    for one, other in zip(*(log_of(tmp_path / str(which)) for which in models), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)


def test_what_cannot_be_recorded_is_launched_plainly_and_said(
    make_model, tmp_path, monkeypatch, recorders, capsys
):
    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("out of memory\nmore about it")

    plain, other = make_model().to(GPU), make_model().to(GPU)
    run(plain, tmp_path / "plain", runtime=RUNTIME, recorded=False)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    run(other, tmp_path / "other", runtime=RUNTIME)
    assert not recorders[1].enabled and difference(plain, other) < 1e-6
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "note" in line)
    assert line.endswith("launched kernel by kernel from here on: out of memory")


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_goes_on_with_the_gpus_own_dropout(make_model, tmp_path, after):
    """To rounding: the gradients of embeddings are added up in no fixed order on a GPU."""
    found = {}
    for name in ("whole", "resumed"):
        model = make_model(**DROPOUT).to(GPU)
        if name == "resumed":
            with pytest.raises(Killed):
                run(model, tmp_path / name, losses=killing(label_training, after), runtime=RUNTIME,
                    save_minutes=0)  # fmt: skip
            model = make_model(seed=5, **DROPOUT).to(GPU)
            torch.cuda.manual_seed(999)
        run(model, tmp_path / name, runtime=RUNTIME, resume=True)
        found[name] = model, without_speed(log_of(tmp_path / name))
    assert difference(found["whole"][0], found["resumed"][0]) < 1e-5
    for one, other in zip(found["whole"][1], found["resumed"][1], strict=True):
        assert one["step"] == other["step"] and one["loss"] == pytest.approx(
            other["loss"], abs=1e-5
        )


def test_fp16_learns_and_keeps_weights_in_fp32(make_model, tmp_path):
    model = make_model().to(GPU)
    run(model, tmp_path, runtime=RUNTIME, precision="fp16", epochs=20, learning_rate=3e-3)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]


def test_evaluation_answers_as_a_cpu(make_model):
    model, store = make_model(), make_source(rows=200).stores[0]
    expected = predict_logits(model, store, 32, torch.device("cpu"))
    actual = predict_logits(model.to(GPU), store, 32, GPU)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_augmentation_proposes_what_it_does_on_a_cpu(tmp_path):
    """In fp32, to the last token, however the masks share batches."""
    work = Workspace(tmp_path, QUICK)
    model = BertForMaskedLM.from_pretrained(work.bert).eval()
    splitter = SentenceSplitter(work.tokenizer, QUICK.teacher.max_position_embeddings)
    sentences = [splitter(text) for text in work.texts("SST-2", 60)[0]]
    allowed = torch.arange(QUICK.teacher.vocab_size).numpy() > 110
    found = []
    for device, batch in ((torch.device("cpu"), 16), (GPU, 16), (GPU, 64)):
        predict = language_model(copy.deepcopy(model).to(device), allowed, bf16=False)
        found.append(likely_tokens(sentences, predict, work.tokenizer, 15, batch, 160))
    for answers in found[1:]:
        assert all((one == other).all() for one, other in zip(found[0], answers, strict=True))


def test_torchrun_with_nccl_gives_the_weights_of_a_plain_run(tmp_path):
    """One process: what several compute is shown on the CPU."""
    work = Workspace(tmp_path, QUICK)
    data = tmp_path / "data"
    corpus = work.corpus("corpus", 4000)
    words = ["pregenerate_training_data.py", "--train_corpus", corpus, "--bert_model", work.bert,
             "--output_dir", data, "--epochs_to_generate", "1", "--max_seq_len", "64"]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    distil = ["general_distill.py", "--pregenerated_data", data, "--teacher_model", work.bert,
              "--student_model", work.general_student, "--continue_train", "--train_batch_size", "8",
              "--max_steps", "6", "--learning_rate", "1e-3", "--report_to", "none"]  # fmt: skip
    for line in (words, [*distil, "--output_dir", tmp_path / "plain"],
                 [*launch, *distil, "--output_dir", tmp_path / "launched"]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, *map(str, line)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / name / WEIGHTS_NAME) for name in ("plain", "launched"))
    assert max((one[key] - other[key]).abs().max().item() for key in one) < 1e-5
    facts = json.loads((tmp_path / "launched" / "run.json").read_text())
    assert facts["steps"] == 6


def test_a_model_kept_on_a_gpu_loads_on_a_cpu(make_model, tmp_path):
    model = make_model().to(GPU)
    ModelSaver(model, tmp_path)(1)
    state = torch.load(tmp_path / WEIGHTS_NAME)
    assert all(value.device.type == "cpu" for value in state.values())
