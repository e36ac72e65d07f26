"""`make bench` from end to end on tiny shapes, its page, and the page that is computed from its results."""

import json
import re
import sys

import numpy as np
import pytest
import torch

import general_distill
from benchmarks import __main__ as bench
from benchmarks import hardware, products, reference, scaling, training_rows
from benchmarks.devices import slower
from benchmarks.figures import Figure, Target
from benchmarks.inputs import QUICK, SPECIAL, Words
from benchmarks.lengths import TASKS, load_lengths, spread
from benchmarks.measure import Ceiling, Program
from benchmarks.tables import figures_table, inference_tables, render
from distilbert import pretrain
from files.errors import UserError, run_script
from tasks.sentence_words import SentenceSplitter
from transformer.precision import multiplies_bf16
from transformer.processor import Processor
from transformer.tokenization import BertTokenizer

CEILING = {"fp32": 350.0, "bf16": 700.0, "copy": 20.0}


@pytest.fixture
def quick(tmp_path):
    """A function running the benchmarks on tiny shapes; returns the results and the page."""

    def run(*flags):
        page = tmp_path / "page.md"
        assert bench.main(["--quick", "--output", str(page), *flags]) == 0
        return json.loads(page.with_suffix(".json").read_text()), page.read_text()

    return run


@pytest.fixture
def programs_in_this_process(monkeypatch):
    """Run what memory is measured on here: starting torch again takes seconds."""

    def run(words, scratch):
        words = [str(word) for word in words]
        if words[:2] == ["-m", "benchmarks.reference"]:
            monkeypatch.setattr(sys, "argv", words[1:])
            reference.main()
        else:
            mains = {"general_distill.py": general_distill, "distilbert/pretrain.py": pretrain}
            mains[words[0]].main(words[1:])
        return Program(seconds=1.0, peak_bytes=2_500_000_000)

    monkeypatch.setattr(training_rows, "run_program", run)


def only(*rows: str) -> list[str]:
    return [word for row in rows for word in ("--only", row)]


def test_every_row_is_measured_beside_its_ceiling_and_its_target(
    quick, programs_in_this_process, capsys
):
    results, page = quick()
    assert list(results["rows"]) == list(bench.ROWS)
    figures = [f for row in results["rows"].values() for f in row.get("figures", ())]
    assert all(figure["ceiling"]["fp32"] > 0 for figure in figures)
    for figure in figures:
        absent = figure["precision"] == "bf16" and not multiplies_bf16(torch.device("cpu"))
        assert (figure["ours"] is None) == absent == (figure["samples"] == 0)
        assert figure["target"] and (figure["met"] is None) == (absent or not figure["judged"])
    assert all(f"| {figure['job']} |" in page for figure in figures)
    models_run = [figure for figure in figures if figure["precision"]]
    assert {figure["precision"] for figure in models_run} == {"fp32", "bf16"}
    assert all(figure["gflop"] > 0 for figure in models_run)
    assert page in capsys.readouterr().out
    memory, *words = (figure for figure in figures if "peak memory" in figure["job"])
    assert (memory["ours"], memory["reference"], memory["met"]) == (2.5, 2.5, True)
    assert [figure["unit"] for figure in words] == ["GiB", "GiB"]


def test_a_row_by_itself_leaves_the_others(quick):
    first, _ = quick(*only("evaluation"))
    second, page = quick(*only("features"))
    assert list(second["rows"]) == ["evaluation", "features"]
    assert second["rows"]["evaluation"] == first["rows"]["evaluation"]
    assert page.count("| features ") == 1 + page.count("| features of")


def test_the_gpu_path_runs_with_tiny_shapes_and_compares_with_no_cpu(quick):
    results, page = quick(
        "--gpu", "--no_cuda", *only("intermediate-sst2", "evaluation", "inference")
    )
    figures = [f for row in results["rows"].values() for f in row.get("figures", ())]
    assert [figure["precision"] for figure in figures] == ["fp32", "bf16"] * 2
    assert not any(figure["published"] or figure["target"] for figure in figures)
    assert "make bench-gpu" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_benchmark_says_so(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--gpu"])
    with pytest.raises(SystemExit) as exit:
        run_script(bench.main)
    assert exit.value.code == 2
    message = capsys.readouterr().err
    assert "needs a CUDA GPU" in message and "Traceback" not in message


def test_without_bfloat16_arithmetic_nothing_is_measured_in_it(quick, monkeypatch):
    monkeypatch.setattr("benchmarks.bench.multiplies_bf16", lambda device: False)
    monkeypatch.setattr("benchmarks.measure.multiplies_bf16", lambda device: False)
    results, page = quick(*only("intermediate-rte", "evaluation"))
    for row in results["rows"].values():
        exact, rounded = row["figures"]
        assert exact["ours"] > 0 and "bf16" not in row["ceiling"]
        assert (rounded["ours"], rounded["of_ceiling"], rounded["met"]) == (None, None, None)
        assert f"| {rounded['job']} | {rounded['unit']} | not on this processor | 0 | – |" in page


@pytest.mark.parametrize("library", ["torch", "oneDNN"])
def test_a_target_of_one_library_is_judged_only_where_it_multiplies(quick, monkeypatch, library):
    monkeypatch.setattr("benchmarks.bench.products_by", lambda: library)
    results, page = quick(*only("evaluation"))
    figure = results["rows"]["evaluation"]["figures"][0]
    assert figure["judged"] is (library == "oneDNN") is (figure["met"] is not None)
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {figure['job']}"))
    assert "≥ 12 × published by oneDNN" in line
    assert ("not judged here" in line) is (library == "torch")


@pytest.mark.parametrize("used", ["torch", "oneDNN"])
def test_the_probe_says_where_the_table_of_libraries_is_wrong(monkeypatch, used):
    monkeypatch.setattr(products, "products_by", lambda: used)
    monkeypatch.setattr(products, "processor", lambda: Processor("CPU X", "Maker", "AVX2"))
    other = {"torch": "oneDNN", "oneDNN": "torch"}[used]
    ratios = {"models": 1.0, used: 1.0}
    assert products.verdict({**ratios, other: 0.8}) == (
        f"products: {other} took 1.25 × the time of {used} on CPU X, as the table FASTER in "
        'transformer/linear.py has it for ("Maker", "AVX2")'
    )
    told = products.verdict({**ratios, other: 2.0})
    assert f'wrong here: set ("Maker", "AVX2"): "{other}"' in told
    if used == "torch":
        assert "all there are" in products.verdict(ratios)


def test_a_missed_target_is_shown_as_such():
    values = {"row": "r", "unit": "s a step", "samples": 3, "ceiling": CEILING, "gflop": 350.0}
    floor = Target("floor", 1.18, 0.5)
    table = figures_table(
        [
            Figure(job="slow", ours=1.5, precision="fp32", target=floor, **values),
            Figure(job="fast", ours=0.5, precision="bf16", target=floor, published=7.7, **values),
        ]
    ).splitlines()
    assert table[2] == (
        "| slow | s a step | **1.5** | 3 | – | – | 1 | 67% | ≤ 1.18 × floor, aim 0.5 | 1.5 × | **missed** |"
    )
    assert table[3].endswith("| 3.85 | 1 | 100% | ≤ 1.18 × floor, aim 0.5 | 0.5 × | met |")


def test_the_students_sizes_stand_beside_the_papers():
    model = {
        "parameters": 14.35e6,
        "gflop": 1.24,
        "paper": {"parameters": 14.5e6, "flops": 1.2e9, "speedup": 9.4},
    }
    times = [
        {"batch": batch, "length": "128", "seconds": {"BERT-base": 0.2 * batch, "4": 0.02}}
        for batch in (1, 32)
    ]
    row = {"inference": {"models": {"BERT-base": model, "4": model}, "latency": times}}
    assert "| 4 | 14.3M | 14.5M | 1.24 | 1.2 | 10.0 × | 320.0 × | 9.4 × |" in inference_tables(row)


def test_lengths_are_the_tasks_own():
    assert set(TASKS) == {"CoLA", "MRPC", "RTE", "SST-2"}
    for task, mean in (("SST-2", 13.3), ("RTE", 66.6)):
        assert load_lengths(task)["sequence"] == pytest.approx(mean, abs=0.1)
    (histogram,) = load_lengths("SST-2")["sides"]
    drawn = spread(histogram, 500)
    assert drawn.mean() + 2 == pytest.approx(13.3, abs=0.1)  # [CLS] and [SEP]
    assert (np.diff(drawn) >= 0).all()


def test_invented_sentences_have_the_tokens_and_the_words_asked_for(tmp_path):
    words, counts = Words(5000), load_lengths("RTE")
    (tmp_path / "vocab.txt").write_text("\n".join(words.vocabulary) + "\n")
    assert len(words.vocabulary) == len(set(words.vocabulary)) == 5000
    splitter = SentenceSplitter(BertTokenizer(tmp_path / "vocab.txt", True), 512)
    generator = np.random.default_rng(0)
    sentences = [splitter(words.sentence(n, counts, generator)) for n in [1, 2, 40] * 50]
    assert [len(sentence.ids) for sentence in sentences] == [1, 2, 40] * 50
    assert not any(
        token == SPECIAL.index("[UNK]") for sentence in sentences for token in sentence.ids
    )
    masked = sum(len(sentence.masked) for sentence in sentences) / (43 * 50)
    assert masked == pytest.approx(counts["masked"], abs=0.05)


def test_the_committed_pages_are_those_of_the_committed_results():
    cpu, gpu = (json.loads(path.read_text()) for path in (scaling.RESULTS, scaling.GPU_RESULTS))
    assert scaling.PAGE.read_text() == scaling.render(gpu, cpu)
    assert hardware.PAGE.read_text() == hardware.render(gpu)
    for results, command, file in (
        (cpu, "bench", scaling.RESULTS),
        (gpu, "bench-gpu", scaling.GPU_RESULTS),
    ):
        assert file.with_suffix(".md").read_text() == render(results, f"make {command}", file.name)
    assert cpu["rows"].keys() == bench.ROWS.keys()
    # DistilBERT came after the last run on a GPU.
    assert gpu["rows"].keys() | {"distilbert"} == bench.ROWS.keys() - bench.CPU_ALONE


def test_the_hours_are_of_the_full_profiles_epochs_and_batches():
    lines = (scaling.ROOT / "profiles" / "full.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if "_FLAGS=" in line)

    def flag(name, flags):
        found = re.search(rf"--{name} (\d+)", given[f"{flags}_FLAGS"])
        return int(found[1]) if found else None

    epochs = {
        "PREGENERATE": scaling.GENERAL_EPOCHS, "GENERAL_SMART": scaling.SMART_EPOCHS,
        "INTERMEDIATE": scaling.LAYER_EPOCHS, "PREDICTION": scaling.PREDICTION_EPOCHS,
        "LABELS_ONLY": scaling.LABEL_EPOCHS, "TEACHER": scaling.TEACHER_EPOCHS,
    }  # fmt: skip
    for flags, number in epochs.items():
        name = "epochs_to_generate" if flags == "PREGENERATE" else "num_train_epochs"
        assert flag(name, flags) == number, flags
    for flags in ("INTERMEDIATE", "PREDICTION", "LABELS_ONLY", "TEACHER"):
        assert flag("train_batch_size", flags) == scaling.TASK_BATCH
    assert flag("train_batch_size", "GENERAL_4L") == scaling.GENERAL_BATCH_4L
    for flags in ("GENERAL_6L", "GENERAL_SMART"):
        parts = flag("gradient_accumulation_steps", flags)
        assert flag("train_batch_size", flags) == parts * scaling.GENERAL_BATCH_6L


def test_students_that_learn_labels_alone_are_counted_with_the_original_rows():
    def compared():
        stages = {stage.name: stage.work for stage in scaling.full_profile()}
        both, more = stages["tasks, 4 layers"], stages["tasks, 4 layers, to compare with"]
        return more.steps - both.steps

    rows = sum(scaling.load_lengths(task)["rows"] for task in scaling.TASKS)
    assert compared() == pytest.approx(scaling.LABEL_EPOCHS * rows / scaling.TASK_BATCH)


def test_the_memory_computed_is_the_memory_measured_where_it_was():
    gpu = json.loads(scaling.GPU_RESULTS.read_text())
    measured = scaling.figure_of(gpu, "general", "peak memory of the GPU").ours
    assert hardware.gigabytes(hardware.cases()[0], 32) == pytest.approx(measured, rel=0.1)


def test_every_stage_of_the_scaling_page_has_its_memory():
    names = [case.stage for case in hardware.cases()]
    assert names == [stage.name for stage in scaling.full_profile()]


@pytest.mark.parametrize(
    ("stage", "memory", "told"),
    [
        ("teachers", 8, "fits"),
        ("teachers", 4, "`--gradient_accumulation_steps 2`"),
        ("general, 6 layers", 4, "`--gradient_accumulation_steps 16`"),
        ("augmentation", 0.75, "`--batch_size 32`"),
        ("teachers", 1, "does not fit"),
    ],
)
def test_the_flag_that_makes_a_stage_fit_is_named(stage, memory, told):
    case = next(case for case in hardware.cases() if case.stage == stage)
    assert hardware.advice(case, memory) == told


def test_a_card_of_unknown_price_is_named():
    gpu = json.loads(scaling.GPU_RESULTS.read_text())
    gpu["rows"]["general"]["machine"]["gpu"] = "Voodoo"
    with pytest.raises(UserError, match=r"measured on Voodoo; .*devices.json knows NVIDIA"):
        scaling.render(gpu, json.loads(scaling.RESULTS.read_text()))


def step_of(seconds, gflop):
    return Figure("general", "j", "s a step", seconds, 3, CEILING, precision="bf16", gflop=gflop)


def test_a_steps_time_is_the_line_through_two_measured_ones():
    line = scaling.StepTime.through(step_of(0.010, 100.0), step_of(0.030, 500.0))
    assert line == pytest.approx((0.005, 5e-5))
    assert line.hours(scaling.Work(gflop=500.0, steps=1)) == pytest.approx(0.030 / 3600)
    assert line.times(2.0) == pytest.approx((0.005, 1e-4))


def test_another_card_is_slower_by_its_data_sheet():
    fast, slow = (
        {"bf16_tflops": 900, "bandwidth_gb_s": 4800},
        {"bf16_tflops": 150, "bandwidth_gb_s": 1200},
    )
    assert slower(fast, fast, 0.3) == pytest.approx(1.0)
    assert slower(slow, fast, 0.25) == pytest.approx(0.25 * 6 + 0.75 * 4)


def test_more_gpus_divide_arithmetic_alone_and_serve_no_more_tasks_than_there_are():
    devices = {d["name"]: d for d in json.loads(scaling.DEVICES.read_text())["devices"]}
    one, eight, nodes = (
        devices[n] for n in ("one H200", "8 × H200, one node", "4 nodes of 8 × H200")
    )
    work, step = scaling.Work, scaling.StepTime(start=0.003, per_gflop=1e-6)
    general = scaling.Stage("g", {"": work(7.2e9, 1e6)}, True)
    assert scaling.hours(general, one, step) == pytest.approx((3000 + 7200) / 3600)
    assert scaling.hours(general, eight, step) == pytest.approx((3000 + 1000) / 3600)
    tasks = scaling.Stage("t", {"a": work(3e9, 1), "b": work(1e9, 1)}, False)
    assert scaling.hours(tasks, one, step) / scaling.hours(tasks, eight, step) == pytest.approx(
        4 / 3
    )
    assert scaling.hours(tasks, nodes, step) == scaling.hours(tasks, eight, step)


def test_ceilings_are_measured_outside_the_trainings_autocast(quick, monkeypatch):
    """Under it the fp32 products would be bf16's, and a bf16 row's floor too low."""
    for place in ("benchmarks.bench", "benchmarks.measure", "cli.precision"):
        monkeypatch.setattr(f"{place}.multiplies_bf16", lambda device: True)
    seen, sample = [], Ceiling.sample

    def watched(ceiling):
        seen.append(torch.is_autocast_enabled("cpu"))
        sample(ceiling)

    monkeypatch.setattr(Ceiling, "sample", watched)
    quick(*only("intermediate-sst2"))
    assert len(seen) == 2 * QUICK.task_steps[0] and not any(seen)
