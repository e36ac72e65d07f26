"""Rows of the table in which models run: distillation and evaluation."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

import general_distill
import pregenerate_training_data
import task_distill
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Target
from benchmarks.measure import alternate, run_program
from benchmarks.reference import (
    Classifier,
    LayerDistillation,
    PredictionDistillation,
    WordDistillation,
)
from benchmarks.shapes import (
    classifier_macs,
    layer_step_gflop,
    prediction_gflop,
    word_step_gflop,
)
from corpus.token_store import TokenStore, encode_pairs
from distilbert import pretrain
from tasks.classifiers import load_classifier
from tasks.evaluation import evaluate
from tasks.glue import find_task
from transformer.precision import autocast

PLAIN = "transformers, eager, fp32, padded to 128"
PLAIN_WORDS = "transformers, sdpa, fp32, logits of all positions"
PREDICTION_EPOCHS = 3


def general(bench: Bench) -> list[Figure]:
    """General distillation, BERT-base to 4 layers of 312: steps of rows of full length, and memory."""
    sizes = bench.sizes
    data = bench.new_folder()
    tokens = 2 * max(sizes.general_batches) * sizes.length * (sizes.steps + 4)
    # Few and long documents: their ends make short sequences.
    corpus = bench.work.corpus("general", tokens, sentences_per_document=tokens // 80)
    bench.run(
        pregenerate_training_data.main,
        ["--train_corpus", corpus, "--bert_model", bench.work.bert, "--output_dir", data,
         "--epochs_to_generate", 1, "--short_seq_prob", 0, "--max_seq_len", sizes.length],
    )  # fmt: skip
    arguments = [
        "--pregenerated_data", data, "--teacher_model", bench.work.bert,
        "--student_model", bench.work.student_config, "--eval_step", 10**6,
    ]  # fmt: skip
    figures = []
    for batch in sizes.general_batches:
        figures.append(_general(bench, arguments, batch, "fp32", [], Target("floor", 1.18)))
        target = Target("floor", 0.60, 0.50)
        figures.append(
            _general(bench, arguments, batch, "bf16", [], target)
            if bench.bf16
            else figures[-1].without_bf16(target)
        )
    if sizes.compiled and bench.bf16:
        figures.append(_general(bench, arguments, batch, "bf16", ["--compile"], None))
    return [*figures, _general_memory(bench, arguments, figures[0].ceiling)]


def _general_job(bench: Bench, batch: int, precision: str) -> str:
    return f"general distillation, batch {batch} × {bench.sizes.length}, {precision}"


def _general(
    bench: Bench,
    arguments: list,
    batch: int,
    precision: str,
    more: list[str],
    target: Target | None,
) -> Figure:
    length, steps = bench.sizes.length, bench.sizes.steps + 2
    plain = precision == "fp32" and batch == bench.sizes.batch
    loop = LayerDistillation(*bench.configs, bench.device) if plain else None
    seen = bench.train(
        general_distill.main,
        [*arguments, "--train_batch_size", batch, *bench.flags(precision), *more, "--max_steps", steps],
        partial(layer_step_gflop, *bench.configs),
        (lambda rows: loop.step(rows, length)) if loop else None,
        every=1 if bench.on_cpu else steps // 5,
    )  # fmt: skip
    # A few sequences end with their document; the step is quoted at the full length.
    gflop = layer_step_gflop(*bench.configs, [length] * batch)
    return bench.figure(
        row="general", job=", ".join([_general_job(bench, batch, precision), *more]), unit="s a step",
        ours=seen.watch.median_for(gflop), samples=len(seen.watch.counted()), ceiling=seen.ceiling,
        precision=precision, gflop=gflop, target=target,
        published=7.7 if batch == bench.sizes.batch else None,
        reference=statistics.median(seen.reference) if loop else None,
        reference_is=PLAIN if loop else "",
    )  # fmt: skip


def _general_memory(bench: Bench, arguments: list, ceiling: dict[str, float]) -> Figure:
    """The most memory that a few steps need, of the machine or of the GPU."""
    batch = bench.sizes.batch
    job = _general_job(bench, batch, "fp32")
    arguments = [*arguments, *bench.flags(), "--train_batch_size", batch]
    arguments += ["--max_steps", 2 if bench.on_cpu else 4]  # a GPU's third step is a replay
    values = {
        "row": "general", "unit": "GB", "samples": 1, "ceiling": ceiling, "published_scales": False,
        "published": 16.9 if bench.on_cpu else None, "target": Target("limit", 3.0),
    }  # fmt: skip
    if not bench.on_cpu:
        gc.collect()  # what was measured before lives on in cycles
        torch.cuda.reset_peak_memory_stats(bench.device)
        bench.run(general_distill.main, [*arguments, "--output_dir", bench.new_folder()])
        peak = torch.cuda.max_memory_allocated(bench.device)
        return bench.figure(job=f"{job}: peak memory of the GPU", ours=peak / 1e9, **values)
    program = ["general_distill.py", *map(str, arguments), "--output_dir", bench.new_folder()]
    plain = [
        "-m", "benchmarks.reference", "layers", bench.work.bert, bench.work.student_config,
        str(batch), str(bench.sizes.length),
    ]  # fmt: skip
    return bench.figure(
        job=f"{job}: peak memory",
        ours=run_program(program, bench.folder).peak_bytes / 1e9,
        reference=run_program(plain, bench.folder).peak_bytes / 1e9,
        reference_is=PLAIN,
        **values,
    )


def distilbert(bench: Bench) -> list[Figure]:
    """DistilBERT's pre-training, BERT-base to 6 layers: steps at all tokens, at masked ones, and memory."""
    batch, length, steps = max(2, bench.sizes.batch // 4), bench.sizes.length, bench.sizes.steps + 2
    student = bench.work.distilbert_config
    tokens = 3 * batch * length * steps
    arguments = [
        "--corpus", bench.work.corpus("words", tokens, sentences_per_document=20),
        "--teacher_model", bench.work.bert, "--student_model", student, "--max_seq_length", length,
        "--tokenized_dir", bench.new_folder(), "--train_batch_size", batch, "--eval_step", 10**6,
        "--validation_fraction", 0, "--test_fraction", 0,
    ]  # fmt: skip
    shapes = bench.sizes.student_6l, bench.sizes.teacher
    figures = []
    for what, more, masked, target in (
        ("all tokens", [], None, 1.5),
        ("masked tokens alone", ["--restrict_to_masked"], 0.15, 2.2),
    ):
        loop = WordDistillation(*shapes, bench.device)
        work = partial(word_step_gflop, *shapes, counted=masked)
        seen = bench.train(
            pretrain.main, [*arguments, *bench.flags(), *more, "--max_steps", steps], work,
            lambda rows, loop=loop: loop.step(rows, length),
            every=1 if bench.on_cpu else steps // 5,
        )  # fmt: skip
        gflop = work([length] * batch)
        figures.append(
            bench.figure(
                row="distilbert", job=f"DistilBERT, {what}, batch {batch} × {length}, fp32",
                unit="s a step", ours=seen.watch.median_for(gflop), samples=len(seen.watch.counted()),
                ceiling=seen.ceiling, precision="fp32", gflop=gflop,
                reference=statistics.median(seen.reference), reference_is=PLAIN_WORDS,
                target=Target("plain", target),
            )
        )  # fmt: skip
    if bench.on_cpu:
        figures += _words_memory(bench, arguments, figures[0].ceiling, (batch, 4 * batch))
    return figures


def _words_memory(
    bench: Bench, arguments: list, ceiling: dict[str, float], batches: Sequence[int]
) -> list[Figure]:
    """The most memory that two steps need."""
    figures = []
    for batch, limit in zip(batches, (2.0, 4.0), strict=True):
        own = [*arguments, *bench.flags(), "--train_batch_size", batch, "--max_steps", 2]
        program = ["distilbert/pretrain.py", *map(str, own), "--output_dir", bench.new_folder()]
        plain = [
            "-m", "benchmarks.reference", "words", bench.work.bert, bench.work.distilbert_config,
            str(batch), str(bench.sizes.length),
        ]  # fmt: skip
        figures.append(
            bench.figure(
                row="distilbert", unit="GiB", samples=1, ceiling=ceiling,
                job=f"DistilBERT, all tokens, batch {batch} × {bench.sizes.length}, fp32: peak memory",
                ours=run_program(program, bench.folder).peak_bytes / 2**30,
                reference=run_program(plain, bench.folder).peak_bytes / 2**30,
                reference_is=PLAIN_WORDS, target=Target("limit", limit),
            )
        )  # fmt: skip
    return figures


def _task_data(bench: Bench, task: str, rows: int, dev_rows: int = 8) -> list:
    folder = bench.work.glue(bench.new_folder().name, task, rows, dev_rows)
    return ["--task_name", task, "--data_dir", folder / task]


def _task_arguments(bench: Bench, task: str, precision: str) -> list:
    return [
        "--teacher_model", bench.work.classifier("teacher", task),
        "--student_model", bench.work.general_student, "--train_batch_size", bench.sizes.batch,
        "--max_seq_length", 128, "--eval_step", 10**6, *bench.flags(precision),
        "--allow_weak_teacher",  # its weights are random
    ]  # fmt: skip


def _intermediate(
    bench: Bench, task: str, published: float, steps: int, targets: Sequence[float]
) -> list[Figure]:
    data = _task_data(bench, task, min(steps * bench.sizes.batch, bench.sizes.task_rows))
    figures = []
    for precision, value in zip(("fp32", "bf16"), targets, strict=True):
        target = Target("published", value, library="oneDNN" * (precision == "fp32"))
        if precision == "bf16" and not bench.bf16:
            figures.append(figures[0].without_bf16(target))
            continue
        loop = LayerDistillation(*bench.configs, bench.device) if precision == "fp32" else None
        seen = bench.train(
            task_distill.main,
            [*data, *_task_arguments(bench, task, precision), "--max_steps", steps,
             "--num_train_epochs", steps],
            partial(layer_step_gflop, *bench.configs),
            (lambda batch, loop=loop: loop.step(batch, 128)) if loop else None,
            every=max(1, steps // 4),
        )  # fmt: skip
        figures.append(
            bench.figure(
                row=f"intermediate-{find_task(task).key}",
                job=f"task distillation, layers, {task}, batch {bench.sizes.batch}, {precision}",
                unit="s a step", ours=seen.watch.mean(), samples=len(seen.watch.counted()),
                ceiling=seen.ceiling, precision=precision, gflop=seen.watch.mean_gflop(),
                reference=statistics.median(seen.reference) if loop else None,
                reference_is=PLAIN if loop else "",
                published=published, target=target,
            )
        )  # fmt: skip
    return figures


def intermediate_sst2(bench: Bench) -> list[Figure]:
    """Task distillation of the layers on rows as long as SST-2's."""
    return _intermediate(bench, "SST-2", 8.5, bench.sizes.task_steps[0], (10, 18))


def intermediate_rte(bench: Bench) -> list[Figure]:
    """Task distillation of the layers on rows as long as RTE's."""
    return _intermediate(bench, "RTE", 9.5, bench.sizes.task_steps[1], (2.8, 5))


def prediction(bench: Bench) -> list[Figure]:
    """Prediction distillation over three epochs of SST-2: the whole command, less one of a single step."""
    task, rows, batch = "SST-2", bench.sizes.prediction_rows, bench.sizes.batch
    arguments = ["--pred_distill", *_task_arguments(bench, task, "fp32")]
    whole = [*_task_data(bench, task, rows), "--num_train_epochs", PREDICTION_EPOCHS]
    start = [*_task_data(bench, task, batch), "--num_train_epochs", 1]
    store = encode_pairs(bench.work.tokenizer, *bench.work.texts(task, rows), None, 128)
    loop = PredictionDistillation(*bench.configs, bench.device)
    rows_of_a_batch = store.collate(np.arange(batch))

    def command(data: list) -> None:
        bench.run(task_distill.main, [*data, *arguments, "--output_dir", bench.new_folder()])

    ceiling = bench.ceiling()
    seconds = alternate(
        {
            "start": lambda: command(start),
            "whole": lambda: command(whole),
            "reference": lambda: loop.step(rows_of_a_batch, 128),
        },
        ceiling, max(1, bench.sizes.repeats - 1), warmups=0,
    )  # fmt: skip
    visited = PREDICTION_EPOCHS * rows
    # The command of a single step has taken that step as well.
    taken = max(statistics.median(seconds["whole"]) - statistics.median(seconds["start"]), 1e-3)
    work = prediction_gflop(*bench.configs, store.lengths.tolist(), PREDICTION_EPOCHS)
    return [
        bench.figure(
            row="prediction", job=f"task distillation, predictions, {task}, 3 epochs, fp32",
            unit="rows/s", ours=(visited - batch) / taken, samples=len(seconds["whole"]),
            ceiling=ceiling.rates(), precision="fp32", gflop=work / visited,
            reference=batch / statistics.median(seconds["reference"]), reference_is=PLAIN,
            published=32 / 8.5, target=Target("published", 25, library="oneDNN"),
            note="predictions: this stage has no published figure of its own; that of the layers stands in, "
            "8.5 s for 32 rows, since both run the same two forward passes",
        )
    ]  # fmt: skip


def evaluation(bench: Bench) -> list[Figure]:
    """Scoring a 4-layer student on rows as long as those of SST-2's dev set."""
    task, rows = find_task("SST-2"), bench.sizes.eval_rows
    source = bench.work.classifier("student", task.folder)
    student = load_classifier(task, source, ()).to(bench.device)
    store = encode_pairs(bench.work.tokenizer, *bench.work.texts("SST-2", rows, "dev"), None, 128)
    labels = np.arange(rows) % 2
    theirs = Classifier(bench.sizes.student, bench.device)
    batches = [store.collate(part) for part in np.array_split(np.arange(rows), -(-rows // 32))]
    split = {"dev": (store, labels)}

    def ours(precision: str) -> None:
        context = autocast(precision, bench.device)
        evaluate(task, student, split, 32, bench.device, context)

    ceiling = bench.ceiling()
    precisions = ("fp32", "bf16") if bench.bf16 else ("fp32",)
    jobs = {precision: partial(ours, precision) for precision in precisions}
    jobs["reference"] = lambda: theirs.evaluate(batches, 128)
    seconds = alternate(jobs, ceiling, bench.sizes.repeats)
    rates = {name: rows / statistics.median(taken) for name, taken in seconds.items()}
    figures = [
        bench.figure(
            row="evaluation", job=f"evaluation, 4 layers of 312, SST-2, batch 32, {precision}",
            unit="rows/s", ours=rates[precision], samples=bench.sizes.repeats,
            ceiling=ceiling.rates(), precision=precision, gflop=_classifier_gflop(bench, store),
            reference=rates["reference"], reference_is=PLAIN, published=73.0,
            target=Target("published", 12, library="oneDNN" * (precision == "fp32")),
        )
        for precision in precisions
    ]  # fmt: skip
    return figures if bench.bf16 else [*figures, figures[0].without_bf16(Target("published", 12))]


def _classifier_gflop(bench: Bench, store: TokenStore) -> float:
    macs = [classifier_macs(bench.sizes.student, n) for n in store.lengths.tolist()]
    return 2e-9 * statistics.mean(macs)
