"""Dynamic-TinyBERT's five steps with tiny models: as published, resumed, and what it writes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from distillation.records import METRICS_NAME
from tests.integration.workspace import (
    LABELS,
    TEACHER,
    run_line,
    succeed,
    write_bert,
    write_classifier,
    write_task,
)
from tests.patience import PATIENCE, wait_until
from transformer.configuration import BertConfig
from transformer.file_utils import WEIGHTS_NAME
from transformer.modeling import BertForQuestionAnswering, TinyBertForPreTraining

ROOT = Path(__file__).resolve().parents[2]
SHORT = "--max_seq_length 32 --doc_stride 8 --do_lower_case --no_cuda --report_to none"
TEXTS = ("It is the cat . That was a good bird .", "the king was not old and it was the queen .")


def write_questions(folder: Path) -> None:
    """SQuAD's two files, of a few articles; no question without its answer."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("dev", 4)):
        data = []
        for i in range(count):
            context = TEXTS[i % 2] + " " + TEXTS[(i + 1) % 2] * (1 + i % 3)
            qas = [
                {
                    "id": f"{split}-{i}-{j}", "question": f"was it the {answer} ?",
                    "answers": [{"text": answer, "answer_start": context.index(answer)}],
                }
                for j, answer in enumerate(("cat", "good bird", "queen"))
            ]  # fmt: skip
            data.append({"title": f"{i}", "paragraphs": [{"context": context, "qas": qas}]})
        text = json.dumps({"version": "1.1", "data": data})
        (folder / f"{split}-v1.1.json").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A BERT of 4 layers, a general student of 2, and questions."""
    root = tmp_path_factory.mktemp("squad")
    write_bert(root / "bert-base-uncased", **{**TEACHER, "num_hidden_layers": 4})
    config = BertConfig.from_json_file(root / "bert-base-uncased/config.json")
    config.num_hidden_layers, config.fit_size = 2, config.hidden_size
    torch.manual_seed(1)
    student = TinyBertForPreTraining(config)
    student.save_pretrained(root / "general")
    shutil.copy(root / "bert-base-uncased/vocab.txt", root / "general")
    write_questions(root / "squad")
    return root


def recipes() -> list[str]:
    """The commands of the published steps 1 to 4, from shared documents' wording kept in this test."""
    common = (
        "--do_train --evaluate_during_training --save_only_best --do_lower_case "
        "--max_seq_length 384 --doc_stride 128"
    )
    student = (
        "--teacher_model_type bert --teacher_model_name_or_path $OUTPUT_DIR/fintuned_bert/checkpoint-best "
        "--per_gpu_train_batch_size 16 --per_gpu_eval_batch_size 16 --gradient_accumulation_steps 1"
    )
    begin = "python run_squad.py --data_dir $SQUAD_DIR --model_type bert --overwrite_output_dir"
    return [
        f"{begin} --model_name_or_path bert-base-uncased {common} --do_eval --train_file train-v1.1.json "
        "--predict_file dev-v1.1.json --per_gpu_train_batch_size 8 --per_gpu_eval_batch_size 32 "
        "--learning_rate 3e-5 --num_train_epochs 2 --output_dir $OUTPUT_DIR/fintuned_bert",
        f"{begin} --model_name_or_path $GENERAL_TINYBERT_DIR {student} {common} --learning_rate 5e-5 "
        "--num_train_epochs 20 --state_loss_ratio 1.0 --att_loss_ratio 1.0 --att_mse "
        "--output_dir $OUTPUT_DIR/intermediate",
        f"{begin} --model_name_or_path $OUTPUT_DIR/intermediate/checkpoint-last {student} {common} "
        "--learning_rate 3e-5 --num_train_epochs 10 --state_loss_ratio 0.0 --att_loss_ratio 0.0 "
        "--pred_distill --output_dir $OUTPUT_DIR/dynamic_tinybert",
        f"{begin} --model_name_or_path $OUTPUT_DIR/dynamic_tinybert/checkpoint-best {student} {common} "
        "--learning_rate 2e-5 --num_train_epochs 10 --state_loss_ratio 0.0 --att_loss_ratio 0.0 "
        "--pred_distill --length_adaptive --num_sandwich 2 --length_drop_ratio_bound 0.2 "
        "--layer_dropout_prob 0.2 --output_dir $OUTPUT_DIR/dynamic_tinybert_ld_naive",
    ]


@pytest.fixture(scope="module")
def published(world):
    """The published steps, typed in dynamic_tinybert/, one after the other; what each said."""
    here = world / "dynamic_tinybert"
    here.mkdir()
    for name in ("run_squad.py", "run-sigopt-search.sh"):
        (here / name).symlink_to(ROOT / "dynamic_tinybert" / name)
    for name in ("bert-base-uncased", "general"):
        config = json.loads((world / name / "config.json").read_text())
        folder = here / name if name == "bert-base-uncased" else world / "long"
        shutil.copytree(world / name, folder)
        weights = torch.load(folder / WEIGHTS_NAME, weights_only=True)
        key = "bert.embeddings.position_embeddings.weight"
        weights[key] = torch.cat([weights[key]] * 3)  # as many positions as the commands ask for
        weights.pop("bert.embeddings.position_ids", None)
        torch.save(weights, folder / WEIGHTS_NAME)
        config["max_position_embeddings"] = 384
        (folder / "config.json").write_text(json.dumps(config))
    environment = {
        **os.environ, "SQUAD_DIR": str(world / "squad"), "OUTPUT_DIR": str(world / "out"),
        "GENERAL_TINYBERT_DIR": str(world / "long"), "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    said = []
    for line in [*recipes(), "./run-sigopt-search.sh --search_trials 9 --timed_batches 5"]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=here, env=environment, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        said.append(done)
    return said


STEPS = ("fintuned_bert", "intermediate", "dynamic_tinybert", "dynamic_tinybert_ld_naive")


def test_every_step_leaves_its_best_and_its_last_model(world, published):
    for step in STEPS:
        for name in ("checkpoint-best", "checkpoint-last"):
            BertForQuestionAnswering.from_pretrained(world / "out" / step / name)
        assert json.loads((world / f"out/{step}/run.json").read_text())["task"] == "SQuAD"
    assert re.search(r"checkpoint-best: EM \d+\.\d{3} F1 \d+\.\d{3}", published[0].stdout)
    answers = json.loads((world / "out/fintuned_bert/checkpoint-best/predictions.json").read_text())
    assert len(answers) == 12


def test_nothing_is_scored_while_layers_are_learned(world, published):
    assert "nothing is scored in this step" in published[1].stderr
    lines = (world / "out/intermediate" / METRICS_NAME).read_text().splitlines()
    assert not any("dev" in json.loads(line) for line in lines)
    best, last = (
        world / f"out/intermediate/checkpoint-{name}/{WEIGHTS_NAME}" for name in ("best", "last")
    )
    assert best.read_bytes() == last.read_bytes()


def test_layers_and_predictions_come_nearer_to_the_teacher(world, published):
    for step, name in (
        ("intermediate", "attention_loss"), ("intermediate", "hidden_loss"),
        ("dynamic_tinybert", "loss"),
    ):  # fmt: skip
        lines = [
            json.loads(x) for x in (world / f"out/{step}" / METRICS_NAME).read_text().splitlines()
        ]
        found = [line[name] for line in lines if name in line]
        assert found[-1] < found[0]
    lines = [
        json.loads(x)
        for x in (world / "out/dynamic_tinybert_ld_naive" / METRICS_NAME).read_text().splitlines()
    ]
    assert any("inplace_loss" in line for line in lines)


def test_the_search_leaves_its_front_in_three_places(world, published):
    folder = world / "out/sigopt_search"
    with open(folder / "pareto.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rows[0][f"l{i}"] for i in (1, 2)] == ["384", "384"]
    assert float(rows[0]["share"]) == 1 and all(float(row["share"]) < 1 for row in rows[1:])
    published_csv = (world / "dynamic_tinybert/sigopt-pareto-front.csv").read_text().splitlines()
    assert published_csv[0] == "x0,x1,f1,evalTime" and len(published_csv) == len(rows) + 1
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert len(trials) == 9 and {"lengths", "f1", "em", "gmacs", "trial"} <= trials[0].keys()
    config = json.loads((world / "out/dynamic_tinybert/checkpoint-best/config.json").read_text())
    assert config["length_configs"][0]["lengths"] == [1.0, 1.0]
    assert (folder / "pareto.png").stat().st_size > 5000


def test_a_model_is_read_by_transformers(world, published):
    folder = world / "out/dynamic_tinybert/checkpoint-best"
    theirs, told = transformers.AutoModelForQuestionAnswering.from_pretrained(
        folder, output_loading_info=True
    )
    assert not told["missing_keys"]
    ids = torch.randint(5, 60, (2, 20))
    with torch.no_grad():
        out = theirs.eval()(ids)
        ours = BertForQuestionAnswering.from_pretrained(folder)(ids).output
    torch.testing.assert_close(ours[..., 0], out.start_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[..., 1], out.end_logits, atol=1e-5, rtol=1e-5)


def test_cards_are_those_of_models_that_answer(world, published):
    text = (world / "out/fintuned_bert/README.md").read_text()
    assert "pipeline_tag: question-answering" in text and "AutoModelForQuestionAnswering" in text
    assert "classifier" not in text and "GLUE" not in text
    f1 = json.loads((world / "out/fintuned_bert/run.json").read_text())["metrics"]["dev"]["f1"]
    assert f"| dev | f1 | {f1:.1f} |" in text


# --- on a shorter length, in this process --------------------------------------------------------------


def teacher_line(world: Path, output: str, more: str = "") -> str:
    return (
        f"python dynamic_tinybert/run_squad.py --data_dir {world}/squad --model_type bert "
        f"--model_name_or_path {world}/bert-base-uncased --do_train --output_dir {world}/{output} "
        f"--num_train_epochs 3 --learning_rate 1e-3 {SHORT} {more}"
    )


@pytest.fixture(scope="module")
def teacher(world):
    succeed(teacher_line(world, "teacher", "--do_eval --evaluate_during_training --save_steps 4"))
    return world / "teacher"


def test_models_of_steps_are_kept_unless_only_the_best_is_wanted(world, teacher):
    steps = sorted(path.name for path in teacher.glob("checkpoint-[0-9]*"))
    assert "checkpoint-4" in steps and not list(teacher.glob("step_*"))
    BertForQuestionAnswering.from_pretrained(teacher / "checkpoint-4")
    outcome = succeed(
        f"python dynamic_tinybert/run_squad.py --data_dir {world}/squad --do_eval --eval_all_checkpoints "
        f"--model_name_or_path {teacher} --output_dir {teacher} {SHORT}"
    )
    assert outcome.stdout.count("F1") == len(steps) + 2


@pytest.mark.parametrize("step", ["", "ld"])
def test_a_killed_run_resumes_to_the_same_bits(world, teacher, step):
    more = "--evaluate_during_training --save_only_best --save_steps 2"
    if step:
        more += f" --teacher_model_name_or_path {teacher}/checkpoint-best --pred_distill --length_adaptive"
    line = teacher_line(world, f"whole{step}", more)
    succeed(line)
    killed = subprocess.Popen(
        [sys.executable, *teacher_line(world, f"parts{step}", more).split()[1:]], cwd=ROOT,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    checkpoint = world / f"parts{step}/checkpoint.pt"
    wait_until(lambda: checkpoint.exists() or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    succeed(teacher_line(world, f"parts{step}", f"{more} --resume"))
    for name in ("checkpoint-best", "checkpoint-last"):
        whole, parts = (
            world / f"{kind}{step}/{name}/{WEIGHTS_NAME}" for kind in ("whole", "parts")
        )
        assert whole.read_bytes() == parts.read_bytes()


def test_anybodys_predictions_are_scored(world, teacher):
    path = world / "predictions.json"
    path.write_text(json.dumps({f"dev-{i}-0": "the cat" for i in range(4)}))
    outcome = succeed(
        f"python dynamic_tinybert/run_squad.py --score {path} --data_dir {world}/squad "
        "--predict_file dev-v1.1.json"
    )
    assert outcome.stdout == "EM 33.333 F1 33.333\n"
    assert "8 of 12 questions are not answered" in outcome.stderr


def test_uniform_rates_are_measured(world, teacher):
    outcome = succeed(
        f"python dynamic_tinybert/run_squad.py --data_dir {world}/squad --measure_rate [0.1,0.3] "
        f"--model_name_or_path {teacher}/checkpoint-best --output_dir {world}/rates {SHORT} --timed_batches 5"
    )
    assert "drop 0.1 a layer: 29, 27, 25, 23" in outcome.stderr
    lines = [json.loads(x) for x in (world / "rates/measure_out.log").read_text().splitlines()]
    assert [line["rate"] for line in lines] == [0.1, 0.3] and lines[0]["macs"] > lines[1]["macs"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("", "nothing to do"),
        ("--do_train --pred_distill", "--teacher_model_name_or_path: expected"),
        ("--do_train --teacher_model_name_or_path {teacher}", "expected --pred_distill"),
        (
            "--do_train --teacher_model_name_or_path {teacher} --pred_distill --state_loss_ratio 1",
            "excludes",
        ),
        ("--do_eval --length_config 20,30,9,8", "--length_config: lengths 20,30,9,8: grow"),
        ("--do_eval --length_config 20,9", "expected one for each of 4 layers"),
        ("--do_eval --length_config exit()", "expected numbers such as"),
        ("--do_eval --model_type roberta", "is a bert by its config.json"),
        ("--do_eval --predict_file none.json", "none.json: no such file"),
        ("--do_eval --do_search --do_optuna_search", "give one of them"),
        ("--do_train --per_gpu_train_batch_size 8 --train_batch_size 8", "give one of them"),
        ("--do_train --length_adaptive --num_sandwich -1", "--num_sandwich -1: expected"),
        ("--do_train --length_adaptive --length_config 9,8,7,6", "give one of them"),
        ("--do_train --no_answer_windows some", "expected keep, drop or sample"),
        ("--do_train --doc_stride 30", "would leave tokens out"),
        ("--do_eval --dry_run", "--dry_run: only applies to training"),
    ],
)
def test_mistakes_are_refused_in_one_line_and_nothing_is_written(world, teacher, flags, told):
    flags = flags.replace("{teacher}", f"{teacher}/checkpoint-best")
    short = "--max_seq_length 32 --do_lower_case --no_cuda --report_to none"
    if "--doc_stride" not in flags:
        short += " --doc_stride 8"
    outcome = run_line(
        f"python dynamic_tinybert/run_squad.py --data_dir {world}/squad --model_name_or_path "
        f"{world}/bert-base-uncased --output_dir {world}/nothing {short} {flags}"
    )
    assert outcome.status == 2
    assert told in outcome.stderr.splitlines()[-1]
    assert not (world / "nothing").exists() and not (world / "nothing.cache").exists()


def test_a_dry_run_says_what_would_be_done(world):
    outcome = succeed(teacher_line(world, "dry", "--dry_run"))
    assert "18 questions in" in outcome.stderr and "is unchanged" in outcome.stderr
    assert not (world / "dry").exists()


# --- using the models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(world, teacher):
    """A copy of the teacher with the lengths that a search has found."""
    shutil.copytree(teacher / "checkpoint-best", world / "searched")
    succeed(
        f"python dynamic_tinybert/run_squad.py --data_dir {world}/squad --do_optuna_search {SHORT} "
        f"--model_name_or_path {world}/searched --output_dir {world}/search --search_trials 9 "
        "--timed_batches 5"
    )
    return world / "searched"


def test_questions_are_answered_line_by_line(world, searched, tmp_path):
    rows = [("was it the cat ?", TEXTS[0]), ("was it the queen ?", TEXTS[1] * 9)]
    (tmp_path / "q.tsv").write_text("".join(f"{q}\t{c}\n" for q, c in rows))
    lines = [json.dumps({"question": q, "context": c}) for q, c in rows]
    (tmp_path / "q.jsonl").write_text("\n".join(lines) + "\n")
    found = []
    for name in ("q.tsv", "q.jsonl"):
        outcome = succeed(
            f"python predict.py --model {searched} --input {tmp_path}/{name} --format jsonl --no_cuda"
        )
        found.append([json.loads(line) for line in outcome.stdout.splitlines()])
    assert found[0] == found[1] and len(found[0]) == 2
    for told, (question, context) in zip(found[0], rows, strict=True):
        assert told["question"] == question and 0 < told["score"] <= 1
        assert context[told["start"] : told["end"]] == told["answer"] != ""
    one = succeed(
        f'python predict.py --model {searched} --question "{rows[0][0]}" --context "{rows[0][1]}" --no_cuda'
    )
    assert one.stdout.splitlines()[1].split("\t")[0] == found[0][0]["answer"]


def test_a_budget_chooses_among_the_lengths_that_were_found(world, searched):
    front = json.loads((searched / "config.json").read_text())["length_configs"]
    cheapest = min(entry["share"] for entry in front)
    ask = f'python predict.py --model {searched} --question "was it ?" --context "{TEXTS[0]}" --no_cuda'
    affordable = [entry for entry in front if entry["share"] <= cheapest + 1e-4]
    told = succeed(f"{ask} --budget {cheapest + 1e-4}").stderr
    assert f"share {affordable[0]['share']:.3g}" in told
    assert "ms a batch here" in succeed(f"{ask} --budget 9999ms").stderr
    outcome = run_line(f"{ask} --budget 0.0001")
    assert outcome.status == 2 and "allow that" in outcome.stderr
    outcome = run_line(
        ask.replace(str(searched), f"{world}/teacher/checkpoint-best") + " --budget 0.5"
    )
    assert outcome.status == 2 and "has no length configurations" in outcome.stderr


def test_a_shortened_model_is_exported_with_the_same_scores(world, searched, tmp_path):
    succeed(
        f"python export.py --model {searched} --to hf onnx int8 --output_dir {tmp_path}/out "
        f"--length_config 0.9,0.7,0.5,0.4 --predict_file {world}/squad/dev-v1.1.json --max_seq_length 32 "
        "--doc_stride 8"
    )
    models = json.loads((tmp_path / "out/export.json").read_text())["models"]
    assert models["onnx"]["metrics"] == models["original"]["metrics"]
    answer = succeed(
        f'python predict.py --model {tmp_path}/out/model.onnx --question "was it ?" --context "{TEXTS[0]}"'
    ).stdout
    assert answer.splitlines()[1].split("\t")[0] in TEXTS[0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--question q", "--question and --context: give both"),
        ("--question q --context c --single", "answers questions; leave it out"),
        ("--input {tmp}/bad.tsv", "line 1: expected a question and the text"),
        ("--input {tmp}/bad.jsonl", "line 1: expected a question and the text"),
        ("--question q --context c --budget 2", "expected a share above 0"),
    ],
)
def test_questions_that_cannot_be_read_are_refused(searched, tmp_path, flags, told):
    (tmp_path / "bad.tsv").write_text("no tab in it\n")
    (tmp_path / "bad.jsonl").write_text('{"question": 3}\n')
    outcome = run_line(
        f"python predict.py --model {searched} {flags.replace('{tmp}', str(tmp_path))}"
    )
    assert outcome.status == 2 and told in outcome.stderr


def test_a_classifier_learns_with_length_drop_and_its_lengths_are_searched(tmp_path):
    write_task(tmp_path / "RTE", "RTE", {"train": 24, "dev": 16, "test": 3})
    write_classifier(
        tmp_path / "teacher", list(LABELS["RTE"]), **{**TEACHER, "num_hidden_layers": 4}
    )
    write_classifier(
        tmp_path / "student", list(LABELS["RTE"]), seed=1, **{**TEACHER, "num_hidden_layers": 2}
    )
    common = f"--data_dir {tmp_path}/RTE --task_name RTE --max_seq_length 24 --no_cuda"
    succeed(
        f"python task_distill.py --pred_distill --length_adaptive --layer_dropout_prob 0.2 {common} "
        f"--teacher_model {tmp_path}/teacher --student_model {tmp_path}/student --output_dir {tmp_path}/out "
        "--num_train_epochs 2 --train_batch_size 4 --learning_rate 1e-3 --allow_weak_teacher --report_to none"
    )
    lines = [json.loads(x) for x in (tmp_path / "out" / METRICS_NAME).read_text().splitlines()]
    assert any("inplace_loss" in line for line in lines)
    succeed(
        f"python task_distill.py --search_lengths {common} --student_model {tmp_path}/out "
        f"--output_dir {tmp_path}/search --search_trials 8 --timed_batches 5"
    )
    front = json.loads((tmp_path / "out/config.json").read_text())["length_configs"]
    assert front[0]["lengths"] == [1.0, 1.0] and front[0]["metric"] == "acc"
    scores = [
        succeed(
            f"python task_distill.py --do_eval {common} --student_model {tmp_path}/out {more} "
            f"--output_dir {tmp_path}/eval"
        ).stdout
        for more in ("", "--length_config 24,24", "--length_config 1.0,1.0")
    ]
    assert scores[0] == scores[1] == scores[2]
    answered = subprocess.run(
        [sys.executable, "predict.py", "--model", str(tmp_path / "out"), "--budget", "1.0", "--no_cuda"],
        cwd=ROOT, input="It is the cat .\tthat was a bird .\n", capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert answered.returncode == 0 and "note: lengths" in answered.stderr
    refused = run_line(
        f"python task_distill.py --length_adaptive {common} --teacher_model {tmp_path}/teacher "
        f"--student_model {tmp_path}/student --output_dir {tmp_path}/none"
    )
    assert (
        refused.status == 2
        and "--length_adaptive: only applies with --pred_distill" in refused.stderr
    )
