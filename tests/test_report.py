"""report.py and the records it reads."""

import csv
import json
from pathlib import Path

import pytest

import report
from files.errors import UserError
from reporting.names import model_of
from reporting.results import read_results

OFFICIAL_ROWS = {"RTE": 277, "SST-2": 872, "CoLA": 1043, "MRPC": 408}


def write_record(folder: Path, name: str = "eval.json", **facts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {"schema": 1, "stage": "evaluate", "output_dir": str(folder), "main_metric": "acc"}
    (folder / name).write_text(json.dumps(record | facts))


def evaluation(
    results: Path,
    model: str,
    task: str,
    rows: int | None = None,
    layers: int | None = None,
    **metrics,
) -> None:
    write_record(
        results / "eval" / model,
        task=task,
        student=str(results.parent / "models" / model),
        metrics={"dev": metrics},
        data={"dev": {"rows": rows or OFFICIAL_ROWS[task]}},
        model={"parameters": 14_500_000, "config": {"num_hidden_layers": layers}},
    )


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def ordered(results: Path) -> None:
    """As reproduction.sh leaves it, which makes every model of the published table."""
    (results / "stages").mkdir(parents=True)


def report_of(results: Path, *flags: str) -> str:
    assert report.main(["--results", str(results), *flags]) == 0
    return (results / "report" / "report.md").read_text()


def line_with(text: str, *words: str) -> str:
    return next(line for line in text.splitlines() if all(word in line for word in words))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("folder", "task", "model", "seed"),
    [
        ("models/distilled_tinybert_4l_rte", "RTE", "distilled_tinybert_4l", ""),
        ("final_sst2_teacher", "SST-2", "final_teacher", ""),
        ("tinybert_6l_smart_init_direct_cola_tsd", "CoLA", "tinybert_6l_smart_init_direct_tsd", ""),
        ("distilled_tinybert_4l_mrpc-seed43", "MRPC", "distilled_tinybert_4l", "43"),
        ("bert-base-uncased-mrpc", "MRPC", "bert-base-uncased-mrpc", ""),
        ("distilled_tinybert_4l", None, "distilled_tinybert_4l", ""),
        ("rte", "RTE", "rte", ""),
        ("sst2_hfhead", "SST-2", "sst2_hfhead", ""),
        ("models/rte_seed_43", "RTE", "rte", "43"),
        ("rte-s43", "RTE", "rte", "43"),
        ("seed43/rte", "RTE", "rte", "43"),
        ("rte/seed-43", "RTE", "rte", "43"),
        ("distilled_tinybert_4l_rte_seed43", "RTE", "distilled_tinybert_4l", "43"),
        ("seeded_4l", None, "seeded_4l", ""),
        ("a_better_start_sst2", "SST-2", "a_better_start_sst2", ""),
    ],
)
def test_a_folder_name_tells_model_and_seed(folder, task, model, seed):
    assert model_of(folder, task) == (model, seed)


@pytest.mark.parametrize(
    ("folder", "seed", "expected"),
    [
        ("rte_43", 43, ("rte", "43")),
        ("rte_seed_43", 7, ("rte_seed_43", "7")),
        ("student-s2", 42, ("student-s2", "42")),
        ("student-s2", 2, ("student", "2")),
        ("seed43/rte", 44, ("rte", "44")),
    ],
)
def test_the_seed_of_the_record_wins_over_names(folder, seed, expected):
    assert model_of(folder, "RTE", seed) == expected


def test_table_has_models_as_rows_and_tasks_as_columns_in_the_published_order(results):
    evaluation(results, "distilled_tinybert_4l_mrpc", "MRPC", acc=0.80, f1=0.857, acc_and_f1=0.83)
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.586)
    evaluation(results, "final_rte_teacher", "RTE", acc=0.7)
    evaluation(results, "my_own_student_rte", "RTE", acc=0.6)
    text = report_of(results)
    assert cells(line_with(text, "model", "RTE", "MRPC")) == ["model", "RTE", "MRPC"]
    assert cells(line_with(text, "| TinyBERT_4, general + task ")) == [
        "TinyBERT_4, general + task",
        "58.6",
        "85.7",
    ]
    order = [text.index(name) for name in ("| teacher", "| TinyBERT_4, gen", "| my_own_student")]
    assert order == sorted(order)
    assert "MRPC F1" in text
    assert cells(line_with(text, "TinyBERT_4", "MRPC", "dev", " acc "))[-1] == "80.0"


def test_several_seeds_give_mean_and_sample_standard_deviation(results):
    for suffix, acc in (("", 0.60), ("-seed2", 0.62), ("-seed3", 0.64)):
        evaluation(results, f"distilled_tinybert_4l_rte{suffix}", "RTE", acc=acc)
        evaluation(results, f"labels_only_4l_rte{suffix}", "RTE", acc=0.61)
    text = report_of(results)
    assert "62.0 ± 2.0" in line_with(text, "| TinyBERT_4, general + task ")
    ordering = line_with(text, "TinyBERT_4, general + task > 4-layer student, labels only")
    assert "yes +1.0 (2/3)" in ordering
    rows = list(csv.DictReader((results / "report" / "report.csv").open()))
    ours = next(r for r in rows if r["model"] == "distilled_tinybert_4l" and r["source"] == "ours")
    assert (ours["score"], ours["std"], ours["seeds"]) == ("62.0000", "2.0000", "3")


def test_an_ordering_that_fails_is_reported_as_failing(results):
    ordered(results)
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.60)
    evaluation(results, "labels_only_4l_rte", "RTE", acc=0.65)
    evaluation(results, "final_rte_teacher", "RTE", acc=0.60)
    text = report_of(results)
    assert "NO -5.0" in line_with(text, "general + task > 4-layer student, labels only")
    assert "tie +0.0" in line_with(text, "teacher > TinyBERT_4")
    assert cells(line_with(text, "smart init, task > "))[-1] == "–"


def test_published_dev_and_test_scores_stand_in_separate_tables(results):
    evaluation(results, "distilled_tinybert_6l_rte", "RTE", acc=0.70)
    text = report_of(results)
    dev = text[text.index("published, dev") : text.index("published, test")]
    test = text[text.index("published, test") : text.index("## All metrics")]
    assert "69.0 (ours +1.0)" in dev and "73.4 (ours -3.4)" in dev and "70.0 (ours" not in dev
    assert "70.0 (ours +0.0)" in test and "another split" in test


def test_published_scores_are_left_out_where_the_dev_set_is_another(results):
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", rows=200, acc=0.9)
    assert "Not comparable" in report_of(results)
    assert "seed" not in {row["source"].split()[0] for row in csv_rows(results)}
    evaluation(results, "distilled_tinybert_4l_sst2", "SST-2", acc=0.9)
    assert cells(line_with(report_of(results), "published, dev"))[2:] == ["SST-2"]


def test_embedded_data_are_never_compared_with_published_scores(results):
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.9)
    text = report_of(results, "--embedded_data")
    assert "made by demo/" in text and "(ours" not in text
    assert {row["source"] for row in csv_rows(results)} == {"ours"}


def test_stand_ins_of_another_depth_are_called_by_their_own(results):
    evaluation(results, "final_rte_teacher", "RTE", layers=6, acc=0.9)
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", layers=2, acc=0.8)
    evaluation(results, "tinybert_6l_smart_init_rte", "RTE", layers=3, acc=0.8)
    text = report_of(results, "--embedded_data")
    assert line_with(text, "| 2-layer student, general + task ")
    assert line_with(text, "| 3-layer student smart init, general + task ")
    assert line_with(text, "6-layer teacher > 2-layer student, general + task")
    assert "2 layers for the student of 4, 3 layers for the student of 6" in text


def test_in_a_run_of_stand_ins_no_missing_model_has_a_published_name(results):
    ordered(results)
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", layers=2, acc=0.8)
    evaluation(results, "tinybert_4l_no_gd_rte", "RTE", layers=2, acc=0.7)
    text = report_of(results, "--embedded_data")
    known = "2-layer student, general + task"
    assert line_with(text, "2-layer student, task distillation only > 2-layer student, labels only")
    assert line_with(text, f"stand-in for the 6-layer student, general + task > {known}")
    assert line_with(text, f"stand-in for the 12-layer teacher > {known}")
    scores, _, _ = text.partition("## Size")
    assert "TinyBERT_" not in scores and "4-layer" not in scores


def test_models_of_the_published_depth_keep_their_names(results):
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", layers=4, acc=0.6)
    text = report_of(results)
    assert line_with(text, "| TinyBERT_4, general + task ") and "stand-ins" not in text


def csv_rows(results: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((results / "report" / "report.csv").open()))


def test_published_scores_are_those_of_the_seed_and_the_paper():
    published = json.loads(report.PUBLISHED.read_text())
    assert published["dev_rows"].items() >= OFFICIAL_ROWS.items()
    found = {
        (row["source"], row["variant"], row["split"], row["model"]): [
            row.get(task) for task in OFFICIAL_ROWS
        ]
        for row in published["scores"]
    }
    smart = "tinybert_6l_smart_init"
    assert found == {
        ("seed", "lr 5e-5", "dev", "distilled_tinybert_4l"): [53.06, 92.3, 31.7, 82.1],
        ("seed", "lr 1.25e-5", "dev", "distilled_tinybert_4l"): [58.6, 91.8, 37.2, 85.7],
        ("seed", "", "dev", "distilled_tinybert_6l"): [69.0, 92.3, 54.3, 88.8],
        ("seed", "", "dev", f"{smart}_direct"): [47.3, 83.1, 28.2, 17.7],
        ("seed", "", "dev", f"{smart}_direct_tsd"): [67.5, 92.0, 55.7, 88.0],
        ("seed", "", "dev", smart): [69.3, 93.3, 56.2, 88.5],
        ("paper", "", "dev", "distilled_tinybert_4l"): [None, None, 50.8, 85.8],
        ("paper", "", "dev", "distilled_tinybert_6l"): [73.4, 93.0, 54.0, 90.6],
        ("paper", "", "test", "distilled_tinybert_4l"): [66.6, 92.6, 44.1, 86.4],
        ("paper", "", "test", "distilled_tinybert_6l"): [70.0, 93.1, 51.1, 87.3],
    }


def test_training_is_followed_back_to_general_distillation(results):
    models = results.parent / "models"
    chain = [
        ("distilled_tinybert_4l_rte", "tmp_distilled_tinybert_4l_rte", "prediction", "RTE", 30),
        ("tmp_distilled_tinybert_4l_rte", "distilled_tinybert_4l", "intermediate", "RTE", 100),
        ("distilled_tinybert_4l", "tinybert_4l_config", "general", None, 1000),
    ]
    for name, student, stage, task, steps in chain:
        write_record(
            models / name,
            "run.json",
            student=str(models / student),
            teacher=None,
            stage=stage,
            task=task,
            steps=steps,
            seconds=12.5,
            metrics={},
        )
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.6)
    text = report_of(results)
    assert cells(line_with(text, "| general ")) == [
        "distilled_tinybert_4l",
        "general",
        "1",
        "1,000",
        "12",
    ]
    assert "100" in line_with(text, "| intermediate ")
    assert len(read_results(results).runs) == 3


def test_a_training_run_of_its_own_counts_with_its_dev_score(results):
    write_record(
        results / "a_student_rte",
        "run.json",
        task="RTE",
        student="elsewhere",
        teacher=None,
        stage="finetune",
        metrics={"dev": {"acc": 0.61}},
    )
    assert "61.0" in line_with(report_of(results), "| a_student_rte ")


def test_stage_times_are_added_up(results):
    evaluation(results, "final_rte_teacher", "RTE", acc=0.6)
    (results / "stages").mkdir()
    for stage, seconds in (("general", "60"), ("augment", "30"), ("torn", "")):
        (results / "stages" / f"{stage}.seconds").write_text(seconds)
    assert cells(line_with(report_of(results), "| total")) == ["total", "90"]


def test_half_finished_results_say_what_is_missing(results):
    ordered(results)
    evaluation(results, "final_rte_teacher", "RTE", acc=0.6)
    (results / "eval" / "torn").mkdir()
    (results / "eval" / "torn" / "eval.json").write_text('{"schema": 1, "metr')
    missing = report_of(results).split("## Missing")[1]
    assert "labels_only_4l" in missing and "RTE" in missing
    assert "torn/eval.json: not a run record" in missing
    assert "final_teacher" not in missing


def test_a_folder_that_is_not_there_is_a_user_error(results):
    with pytest.raises(UserError, match="--results .*: no such folder"):
        report.main(["--results", str(results)])
    assert not results.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 10**5, "null", '{"schema": 1}', '{"schema": 1, "metrics": 3}']
)
def test_without_a_score_the_report_says_what_is_missing(results, text):
    results.mkdir()
    assert "no score yet: task_distill.py --do_eval" in report_of(results)
    ordered(results)
    missing = report_of(results).split("## Missing")[1]
    assert "no score of teacher (final_teacher): no task at all" in missing
    (results / "eval").mkdir()
    (results / "eval" / "eval.json").write_text(text)
    assert "eval.json: not a run record" in report_of(results)
    assert "Nothing has been scored yet" in (results / "report" / "report.html").read_text()


def test_training_that_stopped_half_way_is_told_and_drawn(results, tmp_path):
    results.mkdir()
    run = tmp_path / "models" / "half_a_student"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "learning_rate": 0.1}\n')
    text = report_of(results, "--models", str(tmp_path / "models"))
    assert "unfinished training: half_a_student" in text
    assert (run / "curves.png").is_file()
    page = (results / "report" / "report.html").read_text()
    assert 'alt="Training curves of half_a_student"' in page


def test_ablations_stand_in_a_table_of_their_own_beside_the_published_ones(results):
    evaluation(results, "distilled_tinybert_4l_cola", "CoLA", acc=0.50)
    evaluation(results, "ablation_4l_no_att_cola", "CoLA", acc=0.40)
    evaluation(results, "ablation_4l_top_cola-seed43", "CoLA", acc=0.52)
    text = report_of(results)
    assert "ablation_4l" not in text.split("## Ablations")[0]
    ours, paper = text.split("## Ablations")[1].split("the paper's Tables 2 to 4")
    assert cells(line_with(ours, "all of it")) == ["all of it, uniform mapping", "50.0"]
    assert cells(line_with(ours, "without the attention loss"))[-1] == "40.0 (-10.0)"
    assert cells(line_with(ours, "top mapping"))[-1] == "52.0 (+2.0)"
    assert cells(line_with(ours, "bottom mapping"))[-1] == "–"
    missing = text.split("## Missing")[1]
    assert "no score of the ablation bottom mapping (ablation_4l_bottom): CoLA" in missing
    assert "ablation_4l_no_att" not in missing
    assert "41.1 (-9.7)" in line_with(paper, "without the attention loss")


def test_published_ablations_are_those_of_the_paper():
    rows = json.loads(report.PUBLISHED.read_text())["ablations"]
    figures = [[row[c] for c in ("MNLI-m", "MNLI-mm", "MRPC", "CoLA", "average")] for row in rows]
    assert figures == [
        [82.8, 82.9, 85.8, 50.8, 75.6], [82.5, 82.6, 84.1, 40.8, 72.5],
        [80.6, 81.2, 83.8, 28.5, 68.5], [80.5, 81.0, 82.4, 29.8, 68.4],
        [82.3, 82.3, 85.0, 46.7, 74.1], [80.5, 81.0, 84.3, 48.2, 73.5],
        [71.7, 72.3, 70.1, 11.2, 56.3], [79.9, 80.7, 82.3, 41.1, 71.0],
        [81.7, 82.1, 84.1, 43.7, 72.9], [81.7, 82.3, 83.6, 35.9, 70.9],
        [80.6, 81.3, 84.6, 38.5, 71.3],
    ]  # fmt: skip
    for row in figures:  # the average is over the four
        assert row[-1] == pytest.approx(sum(row[:-1]) / 4, abs=0.06)


def test_of_three_seeds_the_one_that_failed_is_told_and_the_others_are_averaged(results):
    for seed, acc in (("", 0.4), ("-seed43", 0.6), ("-seed44", float("nan"))):
        evaluation(results, f"distilled_tinybert_4l_rte{seed}", "RTE", acc=acc)
        evaluation(results, f"labels_only_4l_rte{seed}", "RTE", acc=0.5)
    (results / "eval" / "labels_only_4l_rte-seed43" / "eval.json").unlink()
    text = report_of(results)
    assert cells(line_with(text, "| TinyBERT_4, general + task"))[1] == "50.0 ± 14.1"
    missing = text.split("## Missing")[1]
    assert line_with(missing, "labels_only_4l").endswith("(labels_only_4l) on RTE: seed 43")
    assert "distilled_tinybert_4l_rte-seed44: its acc on dev is nan" in missing
    line = "no score of TinyBERT_4, general + task (distilled_tinybert_4l) on RTE: seed 44"
    assert line in missing


def test_no_seed_is_missed_of_a_model_that_is_run_once(results):
    for seed in ("", "-seed43"):
        evaluation(results, f"distilled_tinybert_4l_rte{seed}", "RTE", acc=0.4)
    evaluation(results, "final_rte_teacher", "RTE", acc=0.5)
    assert "seed 43" not in report_of(results)


def test_models_are_found_where_the_runs_were_moved_to(results, tmp_path):
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.4)
    models = tmp_path / "elsewhere"
    write_record(
        models / "distilled_tinybert_4l_rte",
        "run.json",
        stage="prediction",
        task="RTE",
        student=str(tmp_path / "models" / "tmp_rte"),
        metrics={},
        output_dir=str(tmp_path / "models" / "distilled_tinybert_4l_rte"),
    )
    (models / "tmp_rte").mkdir()
    found = read_results(results, home=models)
    assert found.folders["distilled_tinybert_4l", "RTE"] == models / "distilled_tinybert_4l_rte"
    assert [run["student"] for run in found.runs] == [str(models / "tmp_rte")]


def test_what_hides_the_models_is_told(results, tmp_path):
    ordered(results)
    evaluation(results, "distilled_tinybert_4l_rte", "RTE", acc=0.4)
    missing = report_of(results, "--models", str(tmp_path / "nowhere")).split("## Missing")[1]
    assert "nowhere: no such folder" in missing
    assert "models/distilled_tinybert_4l_rte; no latency is measured" in missing
    assert "attention maps, distances to the teacher: left out, they need" in missing


def test_a_report_cannot_take_the_place_of_a_file(results, tmp_path):
    results.mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output_dir .*file: is a file; expected a folder"):
        report.main(["--results", str(results), "--output_dir", str(tmp_path / "file")])


def test_a_report_leaves_the_flags_that_make_it_again(results, tmp_path):
    folder = results / "eval" / "final_stsb_teacher"
    scores = {"metrics": {"dev": {"corr": 0.6}}, "main_metric": "corr"}
    write_record(folder, task="STS-B", student="models/final_stsb_teacher", **scores)
    text = report_of(results, "--models", str(tmp_path / "m"), "--embedded_data")
    assert "STS-B mean correlation" in text
    flags = str(results / "report" / "flags.json")
    again = tmp_path / "again"
    assert report.main(["--config", flags, "--output_dir", str(again)]) == 0
    assert (again / "report.md").read_text() == text


def scored_on(results, name, sha, acc, split="dev", task="RTE", **facts):
    """A score whose record tells the checksum of its dev set."""
    write_record(
        results / "eval" / name,
        task=task,
        student=str(results.parent / "models" / name),
        metrics={split: {"acc": acc}},
        data={split: {"rows": 277, "sha256": sha, "path": f"{sha}/{split}.tsv"}},
        **facts,
    )


def test_seeds_scored_on_different_dev_sets_are_told_and_kept_apart(results):
    for seed, sha, acc in (("", "one", 0.6), ("-seed43", "one", 0.7), ("-seed44", "two", 0.9)):
        scored_on(results, f"distilled_tinybert_4l_rte{seed}", sha, acc)
    text = report_of(results)
    assert cells(line_with(text, "| model", "RTE"))[1:] == ["RTE", "RTE [2]"]
    assert cells(line_with(text, "| TinyBERT_4, general"))[1:] == ["65.0 ± 7.1", "90.0"]
    told = line_with(text, "- RTE [2]: two/dev.tsv")
    assert told.endswith("models/distilled_tinybert_4l_rte-seed44")
    assert [row["score"] for row in csv_rows(results) if row["source"] == "ours"] == [
        "65.0000", "90.0000",
    ]  # fmt: skip


def test_models_scored_on_different_dev_sets_are_not_compared(results):
    scored_on(results, "final_rte_teacher", "one", 0.9)
    scored_on(results, "distilled_tinybert_4l_rte", "two", 0.8)
    text = report_of(results)
    assert "teacher > TinyBERT_4" not in text and "RTE [2]" in text


def test_ablations_are_compared_on_one_dev_set(results):
    scored_on(results, "distilled_tinybert_4l_rte", "one", 0.9)
    scored_on(results, "ablation_4l_top_rte", "two", 0.8)
    row = line_with(report_of(results).split("## Ablations")[1], "top mapping")
    assert cells(row)[-1] == "80.0"


def test_a_second_dev_set_alone_makes_no_group_of_its_own(results):
    """MNLI's mismatched set may be scored or not; the matched one is the same."""
    for model, splits in (("final_mnli_teacher", 2), ("distilled_tinybert_4l_mnli", 1)):
        names = ("dev_matched", "dev_mismatched")[:splits]
        write_record(
            results / "eval" / model,
            task="MNLI",
            student=f"models/{model}",
            metrics={name: {"acc": 0.8} for name in names},
            data={name: {"rows": 9, "sha256": name} for name in names},
        )
    assert read_results(results).tasks == {"MNLI": "MNLI"}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"arguments": {"max_seq_length": 64}}, "length when scored 64"),
        ({"model": {"parameters": 5}}, "parameters 5"),
    ],
)
def test_seeds_that_differ_in_more_than_the_seed_are_not_averaged(results, facts, told):
    same = {"arguments": {"max_seq_length": 128}, "model": {"parameters": 9}}
    for seed in ("", "-seed43"):
        scored_on(results, f"distilled_tinybert_4l_rte{seed}", "one", 0.6, **same)
    scored_on(results, "distilled_tinybert_4l_rte-seed44", "one", 0.9, **same | facts)
    text = report_of(results)
    assert cells(line_with(text, "| TinyBERT_4, general + task  "))[1] == "60.0 ± 0.0"
    assert cells(line_with(text, f"| TinyBERT_4, general + task ({told})"))[1] == "90.0"
    assert "-seed44: " + told in text


def trained(results, name, **flags):
    folder = results.parent / "models" / name
    write_record(
        folder, "run.json", task="RTE", student="bert", teacher=None, stage="finetune", metrics={},
        arguments=flags,
    )  # fmt: skip


def test_seeds_are_those_of_the_records_and_flags_that_differ_are_told(results):
    for name, seed, rate in (("rte_a", 42, 1e-5), ("rte_s43", 43, 1e-5), ("rte_s44", 44, 3e-5)):
        trained(results, name.replace("_a", ""), seed=seed, learning_rate=rate)
        scored_on(results, name.replace("_a", ""), "one", 0.5 + seed / 1000)
    found = read_results(results)
    seeds = {model: score.seeds for (model, *_), score in found.scores.items()}
    assert seeds == {"rte": ("42", "43"), "rte (learning_rate 3e-05)": ("44",)}
    assert "learning_rate 3e-05; not averaged with" in found.notes[0]


def test_one_seed_twice_is_no_second_seed(results):
    for name in ("rte", "rte-copy", "other/rte"):
        trained(results, name, seed=42)
        scored_on(results, name, "one", 0.5)
    found = read_results(results)
    assert {model for model, *_ in found.scores} == {"models/rte", "rte-copy", "other/rte"}
    assert "the same name and seed (42); not averaged" in found.notes[0]


def test_ones_own_models_of_two_tasks_keep_their_names_and_rows(results):
    evaluation(results, "sst2_hfhead", "SST-2", acc=0.6)
    evaluation(results, "cola_hfhead", "CoLA", mcc=0.1)
    text = report_of(results)
    assert cells(line_with(text, "| sst2_hfhead"))[1:] == ["60.0", "–"]
    assert line_with(text, "| cola_hfhead")
    assert "no score of" not in text and "orderings hold" not in text


def test_one_model_is_one_model(results):
    evaluation(results, "mine", "RTE", acc=0.6)
    report_of(results)
    assert "1 model on RTE, 1 seed;" in (results / "report" / "report.html").read_text()
