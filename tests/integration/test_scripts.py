"""What the training scripts promise, on tiny models: flags, defaults, records, scores, targets."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import task_distill
from tasks.glue import find_task
from tests.integration.workspace import (
    LABELS,
    ROWS,
    STUDENT_4L,
    config,
    run,
    run_line,
    succeed,
    write_bert,
    write_classifier,
    write_corpus,
    write_glove,
    write_model,
    write_student,
    write_task,
)
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification

UNSET = object()  # a flag that may have any default
REQUIRED = object()

# The published flags of every script and their defaults.
FLAGS = {
    "download_glue.py": {"data_dir": "glue_data", "tasks": "all", "path_to_mrpc": ""},
    "get_bert_models.py": {},
    "prepare_data.py": {},
    "pregenerate_training_data.py": {
        "train_corpus": REQUIRED,
        "output_dir": REQUIRED,
        "bert_model": REQUIRED,
        "do_lower_case": False,
        "do_whole_word_mask": False,
        "reduce_memory": False,
        "num_workers": 1,
        "epochs_to_generate": 3,
        "max_seq_len": 128,
        "short_seq_prob": 0.1,
        "masked_lm_prob": 0.0,
        "max_predictions_per_seq": 20,
        "data_url": "",
        "one_seq": False,
    },
    "general_distill.py": {
        "pregenerated_data": REQUIRED,
        "teacher_model": REQUIRED,
        "student_model": REQUIRED,
        "output_dir": REQUIRED,
        "max_seq_length": 128,
        "reduce_memory": False,
        "do_eval": False,
        "do_lower_case": False,
        "train_batch_size": 32,
        "eval_batch_size": 8,
        "learning_rate": 5e-5,
        "weight_decay": 0.01,
        "wd": UNSET,
        "num_train_epochs": 3,
        "warmup_proportion": 0.1,
        "no_cuda": False,
        "local_rank": -1,
        "seed": 42,
        "gradient_accumulation_steps": 1,
        "fp16": False,
        "continue_train": False,
        "eval_step": 1000,
        "data_url": "",
    },
    "data_augmentation.py": {
        "pretrained_bert_model": REQUIRED,
        "glove_embs": REQUIRED,
        "glue_dir": REQUIRED,
        "task_name": REQUIRED,
        "N": None,  # the task's own
        "M": 15,
        "p": 0.4,
    },
    "fix_teacher_layers.py": {},
    "finetune_teacher.py": {
        "data_dir": REQUIRED,
        "bert_model": REQUIRED,
        "output_dir": REQUIRED,
        "max_seq_length": 128,
        "train_batch_size": 32,
        "num_train_epochs": 3,
        "learning_rate": 2e-5,
        "task_name": None,
    },
    "tinybert_6_from_bert.py": {"keep_layers": "0,2,4,6,8,10"},
    "task_distill.py": {
        "data_dir": REQUIRED,
        "student_model": REQUIRED,
        "task_name": REQUIRED,
        "output_dir": REQUIRED,
        "teacher_model": None,
        "cache_dir": "",
        "max_seq_length": None,  # the task's own
        "do_eval": False,
        "do_lower_case": False,
        "train_batch_size": 32,
        "eval_batch_size": 32,
        "learning_rate": 5e-5,
        "weight_decay": 0.01,
        "wd": UNSET,
        "num_train_epochs": None,  # the task's own
        "warmup_proportion": 0.1,
        "no_cuda": False,
        "seed": 42,
        "gradient_accumulation_steps": 1,
        "aug_train": False,
        "eval_step": 50,
        "pred_distill": False,
        "data_url": "",
        "temperature": 1.0,
    },
}
# task -> epochs and length of the intermediate stage, as the authors meant them
TABLE = {
    "cola": (50, 64),
    "mnli": (5, 128),
    "mrpc": (20, 128),
    "sst-2": (10, 64),
    "sts-b": (20, 128),
    "qqp": (5, 128),
    "qnli": (10, 128),
    "rte": (20, 128),
}
METRICS = {
    "CoLA": {"mcc"},
    "STS-B": {"pearson", "spearmanr", "corr"},
    "MRPC": {"acc", "f1", "acc_and_f1"},
    "QQP": {"acc", "f1", "acc_and_f1"},
}
TEACHER = {"num_hidden_layers": 4}
STUDENT = {**STUDENT_4L, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Inputs that no test changes; results go to folders of the test's own."""
    root = tmp_path_factory.mktemp("world")
    write_bert(root / "bert", **TEACHER)
    write_classifier(root / "teacher", ["entailment", "not_entailment"], **TEACHER)
    torch.manual_seed(3)
    student = TinyBertForPreTraining.from_scratch(config(**STUDENT), fit_size=24)
    write_model(student, root / "student")
    write_student(root / "student_config", **STUDENT)
    for task in LABELS:
        write_task(root / "glue" / task, task)
    write_corpus(root / "corpus.txt")
    succeed(
        f"python pregenerate_training_data.py --train_corpus {root}/corpus.txt "
        f"--bert_model {root}/bert --output_dir {root}/pairs --epochs_to_generate 2 "
        "--max_seq_len 32"
    )
    return root


@pytest.fixture(autouse=True)
def place(world, tmp_path, monkeypatch) -> Path:
    """A folder with links to the inputs, to type short commands in."""
    monkeypatch.chdir(tmp_path)
    for path in world.iterdir():
        Path(path.name).symlink_to(path)
    return tmp_path


def record_of(folder: str) -> dict:
    return json.loads(Path(folder, "run.json").read_text())


def weights(folder: str, name: str = "pytorch_model.bin") -> dict[str, torch.Tensor]:
    return torch.load(Path(folder, name), weights_only=True)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


DISTIL = (
    "python task_distill.py --data_dir glue/RTE --task_name RTE --teacher_model teacher "
    "--student_model student --num_train_epochs 1 --learning_rate 1e-3 --train_batch_size 1 "
    "--allow_weak_teacher"  # its weights are random
)  # several steps: with warm-up the first has a learning rate of nought
GENERAL = (
    "python general_distill.py --pregenerated_data pairs --teacher_model bert "
    "--student_model student_config --train_batch_size 8"
)


# Flags


@pytest.mark.parametrize("script", FLAGS)
def test_help_names_every_published_flag(script):
    outcome = run(script, "--help")
    assert outcome.status == 0
    for flag in FLAGS[script]:
        assert f"--{flag}" in outcome.stdout


@pytest.mark.parametrize("script", FLAGS)
def test_defaults_are_the_published_ones(script):
    argv = []
    for flag, default in FLAGS[script].items():
        argv += [f"--{flag}", "RTE"] if default is REQUIRED else []
    args = vars(importlib.import_module(script.removesuffix(".py")).parse_args(argv))
    for flag, default in FLAGS[script].items():
        if default not in (REQUIRED, UNSET):
            assert args[flag] == default, f"--{flag}"


@pytest.mark.parametrize("task", TABLE)
def test_a_task_has_its_own_epochs_and_length_where_none_are_given(task):
    required = f"--data_dir d --student_model s --output_dir o --task_name {task.upper()}".split()

    def resolved(*more: str) -> tuple[int, int]:
        args = task_distill.parse_args([*required, *more])
        task_distill.resolve_defaults(args, find_task(args.task_name))
        return args.num_train_epochs, args.max_seq_length

    epochs, length = TABLE[task]
    assert resolved() == (epochs, length)
    assert resolved("--num_train_epochs", "7") == (7, length)
    assert resolved("--max_seq_length", "50") == (epochs, 50)
    assert resolved("--pred_distill") == (3, length)


def test_the_tasks_own_defaults_reach_the_run():
    line = DISTIL.replace("--num_train_epochs 1", "--max_steps 1").replace("RTE", "SST-2")
    write_classifier(Path("sst2"), ["negative", "positive"], **TEACHER)
    succeed(f"{line.replace('--teacher_model teacher', '--teacher_model sst2')} --output_dir out")
    arguments = record_of("out")["arguments"]
    assert (arguments["num_train_epochs"], arguments["max_seq_length"]) == TABLE["sst-2"]


def test_ignored_flags_say_so():
    outcome = succeed(f"{DISTIL} --max_steps 1 --output_dir out --data_url s3://bucket")
    assert "--data_url" in outcome.stderr


# Fine-tuning, evaluation and submissions


@pytest.mark.parametrize("task", LABELS)
def test_every_task_is_fine_tuned_scored_and_submitted(task):
    succeed(
        f"python finetune_teacher.py --data_dir glue/{task} --bert_model bert --output_dir out "
        "--num_train_epochs 1"
    )
    record = record_of("out")
    splits = {"dev_matched", "dev_mismatched"} if task == "MNLI" else {"dev"}
    assert record["task"] == task
    assert record["metrics"].keys() == record["metrics_before"].keys() == splits
    for values in record["metrics"].values():
        assert values.keys() == METRICS.get(task, {"acc"})

    outcome = succeed(
        f"python task_distill.py --do_eval --do_predict --data_dir glue/{task} --task_name {task} "
        "--student_model out --output_dir scores --max_seq_length 128"
    )
    scores = json.loads(Path("scores/eval.json").read_text())
    assert scores["stage"] == "evaluate"
    assert scores["metrics"] == record["metrics"], "what training saw"
    for split, values in scores["metrics"].items():
        for name, value in values.items():
            prefix = f"{split}_" if len(splits) > 1 else ""
            assert f"{prefix}{name} = {value}" in outcome.stdout.splitlines()
            assert f"{prefix}{name} = {value}" in Path("scores/eval_results.txt").read_text()

    for name in ("MNLI-m", "MNLI-mm") if task == "MNLI" else (task,):
        header, *rows = Path(f"scores/{name}.tsv").read_text().splitlines()
        assert header == "index\tprediction"
        assert [row.split("\t")[0] for row in rows] == [str(i) for i in range(ROWS["test"])]
        answers = {row.split("\t")[1] for row in rows}
        if task == "STS-B":
            assert all(0 <= float(answer) <= 5 for answer in answers)
        else:
            assert answers <= set(LABELS[task])


@pytest.mark.parametrize(
    "task, flags, optimizer, clip",
    [
        ("RTE", "", "bertadam", "tensor"),  # which published commands train on
        ("STS-B", "", "adamw", "global"),
        ("STS-B", "--optimizer bertadam", "bertadam", "tensor"),
        ("RTE", "--optimizer adamw", "adamw", "global"),
        ("RTE", "--clip global", "bertadam", "global"),
        ("MyRTE", "--task_name RTE", "adamw", "global"),  # one's own data
    ],
)
def test_a_teachers_optimizer_is_the_published_one_where_there_is_one(task, flags, optimizer, clip):
    if task == "MyRTE":
        shutil.copytree("glue/RTE", "glue/MyRTE")
    outcome = succeed(
        f"python finetune_teacher.py --data_dir glue/{task} --bert_model bert --output_dir out "
        f"--max_steps 1 {flags}"
    )
    record = record_of("out")["arguments"]
    assert (record["optimizer"], record["clip"]) == (optimizer, clip)
    name = {"bertadam": "BertAdam", "adamw": "AdamW"}[optimizer]
    how = {"tensor": "tensor by tensor", "global": "together"}[clip]
    assert f"{name}, gradients clipped {how}; learning rate" in outcome.stderr
    chosen = "adamw, as no published command trains on this data" in outcome.stderr
    assert chosen == (optimizer == "adamw" and "--optimizer" not in flags)


def test_a_model_that_learned_nothing_is_not_reported_as_done_alone():
    outcome = succeed(
        "python finetune_teacher.py --data_dir glue/STS-B --bert_model bert --output_dir out "
        "--max_steps 1"
    )
    score = record_of("out")["metrics"]["dev"]["corr"]
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith(f"warning: out: learned nothing: corr {score:.3f} on dev of STS-B;")
    assert "(published for BERT-base: 0.890)" in last


def test_other_splits_are_predicted_beside_their_labels():
    write_classifier(Path("model"), list(LABELS["MNLI"]), **TEACHER)
    line = "python task_distill.py --data_dir glue/MNLI --task_name mnli --student_model model"
    succeed(f"{line} --output_dir out --do_eval --do_predict --split dev")
    scores = json.loads(Path("out/eval.json").read_text())["metrics"]
    assert not Path("out/MNLI-m.tsv").exists()
    for split, metrics in scores.items():
        header, *rows = Path(f"out/MNLI-{split}.tsv").read_text().splitlines()
        assert header == "index\tprediction\tlabel"
        right = [row.split("\t")[1] == row.split("\t")[2] for row in rows]
        assert sum(right) / len(right) == pytest.approx(metrics["acc"])
    outcome = run_line(f"{line} --output_dir out --do_eval --split dev")
    assert outcome.status == 2 and "--split dev: only applies with --do_predict" in outcome.stderr


def test_both_mnli_dev_sets_are_scored_at_every_evaluation():
    """The original evaluates the second one and forgets the first for the rest of the run."""
    line = "python finetune_teacher.py --data_dir glue/MNLI --bert_model bert --output_dir out "
    succeed(f"{line} --num_train_epochs 2 --train_batch_size 2 --eval_step 1")
    lines = map(json.loads, Path("out/metrics.jsonl").read_text().splitlines())
    evaluations = [line["dev"] for line in lines if "dev" in line]
    assert len(evaluations) == 4
    assert all(dev.keys() == {"dev_matched", "dev_mismatched"} for dev in evaluations)


def test_a_teachers_own_order_of_labels_gives_the_same_answers():
    """Many MNLI models of other people say entailment, neutral, contradiction."""
    write_classifier(Path("ours"), list(LABELS["MNLI"]), **TEACHER)
    shutil.copytree("ours", "theirs")
    from safetensors.torch import load_file, save_file

    state = load_file("ours/model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][[1, 2, 0]].contiguous()
    save_file(state, "theirs/model.safetensors", {"format": "pt"})
    values = json.loads(Path("theirs/config.json").read_text())
    values["id2label"] = {"0": "ENTAILMENT", "1": "NEUTRAL", "2": "CONTRADICTION"}
    Path("theirs/config.json").write_text(json.dumps(values))
    for name in ("ours", "theirs"):
        outcome = succeed(
            "python task_distill.py --do_eval --do_predict --data_dir glue/MNLI --task_name mnli "
            f"--student_model {name} --output_dir scores-{name}"
        )
        assert ("reordered" in outcome.stderr) == (name == "theirs")
    for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "eval_results.txt"):
        assert Path("scores-ours", name).read_bytes() == Path("scores-theirs", name).read_bytes()
    assert len({row[-1] for row in Path("scores-ours/MNLI-m.tsv").read_text().split()[2:]}) > 1


def test_a_student_without_teacher_starts_from_its_configuration():
    succeed(
        "python finetune_teacher.py --from_scratch --bert_model student_config "
        "--vocab_model teacher --data_dir glue/RTE --output_dir out --num_train_epochs 1"
    )
    model = TinyBertForSequenceClassification.from_pretrained("out")
    assert (model.config.num_hidden_layers, model.config.classifier_head) == (2, "tinybert")


# What the student learns from


def test_the_teacher_has_no_dropout():
    shutil.copytree("teacher", "lossy")
    values = json.loads(Path("lossy/config.json").read_text())
    values |= {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    Path("lossy/config.json").write_text(json.dumps(values))
    lossy = DISTIL.replace("--teacher_model teacher", "--teacher_model lossy")
    for stage in ("", "--pred_distill"):
        succeed(f"{DISTIL} {stage} --output_dir plain{stage}")
        succeed(f"{lossy} {stage} --output_dir lossy{stage}-out")
        succeed(f"{lossy} {stage} --teacher_dropout --output_dir dropped{stage}")
        assert same(weights(f"plain{stage}"), weights(f"lossy{stage}-out"))
        assert not same(weights(f"plain{stage}"), weights(f"dropped{stage}"))


def test_sts_b_learns_the_teachers_scores_and_labels_on_demand():
    write_classifier(Path("scorer"), ["LABEL_0"], **TEACHER)
    shutil.copytree("glue/STS-B", "other/STS-B")
    path = Path("other/STS-B/train.tsv")
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *(row.rsplit("\t", 1)[0] + "\t2.5" for row in rows[1:])]))

    def learned(data: str, flag: str) -> dict[str, torch.Tensor]:
        folder = f"out-{data}{flag}"
        line = DISTIL.replace("glue/RTE", f"{data}/STS-B").replace("RTE", "STS-b")
        line = line.replace("--teacher_model teacher", "--teacher_model scorer")
        succeed(f"{line} --pred_distill {flag} --output_dir {folder}")
        return weights(folder)

    assert same(learned("glue", ""), learned("other", "")), "labels are not read"
    assert not same(learned("glue", "--hard_labels"), learned("other", "--hard_labels"))


def test_a_stage_trains_what_its_losses_read():
    succeed(f"{DISTIL} --output_dir middle")
    succeed(f"{DISTIL.replace('model student', 'model middle')} --pred_distill --output_dir last")
    before, middle, last = weights("student"), weights("middle"), weights("last")
    for name, moves_first, moves_last in (
        ("bert.encoder.layer.1.attention.self.query.weight", True, True),
        ("fit_dense.weight", True, False),
        ("bert.pooler.dense.weight", False, True),
    ):
        assert torch.equal(before[name], middle[name]) != moves_first, name
        assert torch.equal(middle[name], last[name]) != moves_last, name
    assert not torch.equal(middle["classifier.weight"], last["classifier.weight"])


def test_a_weak_teacher_is_allowed_when_asked_and_its_score_recorded():
    outcome = succeed(f"{DISTIL} --max_steps 1 --output_dir out")
    score = record_of("out")["teacher_metrics"]["dev"]["acc"]
    told = f"warning: teacher: a teacher with acc {score:.3f} on dev of RTE; of 1,000 that know nothing"
    assert told in outcome.stderr  # six rows tell nothing
    assert "(published for BERT-base: 0.693)" in outcome.stderr


def test_fit_dense_has_the_teachers_width():
    write_classifier(Path("wide"), list(LABELS["RTE"]), **{**TEACHER, "hidden_size": 32})
    shutil.copytree("student", "narrow")
    state = {k: v for k, v in weights("student").items() if not k.startswith("fit_dense")}
    torch.save(state, "narrow/pytorch_model.bin")
    line = DISTIL.replace("--teacher_model teacher", "--teacher_model wide")
    succeed(f"{line.replace('--student_model student', '--student_model narrow')} --output_dir out")
    assert weights("out")["fit_dense.weight"].shape == (32, 12)


# General distillation


def test_general_distillation_saves_every_step_asked_for_and_the_newest_as_the_model():
    succeed(f"{GENERAL} --output_dir out --num_train_epochs 2 --eval_step 2")
    steps = record_of("out")["steps"]
    names = [path.name for path in Path("out").glob("step_*_pytorch_model.bin")]
    saved = {int(name.split("_")[1]) for name in names}
    assert saved == {*range(2, steps, 2), steps // 2, steps}
    assert same(weights("out"), weights("out", f"step_{steps}_pytorch_model.bin"))


def test_continue_train_starts_from_the_students_weights():
    line = GENERAL.replace("student_config", "student").replace("python ", "")
    line = f"{line} --max_steps 1 --learning_rate 1e-12"
    succeed(f"python {line} --continue_train --output_dir continued")
    succeed(f"python {line} --output_dir fresh")
    before = weights("student")
    for name, value in weights("continued").items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-9)
    name = "bert.embeddings.word_embeddings.weight"
    assert not torch.allclose(weights("fresh")[name], before[name], atol=1e-3)


def test_published_weights_are_short_for_objectives():
    weights_of = {"short": "--att_weight 2 --rep_weight 0.5 --emb_weight 0", "long":
                  "--objectives att_mse:2,hidden_mse:0.5"}  # fmt: skip
    for name, flags in weights_of.items():
        succeed(f"{GENERAL} --max_steps 2 {flags} --output_dir {name}")
    assert same(weights("short"), weights("long"))


def test_several_objectives_teach_layers_and_predictions_at_once():
    succeed(
        f"{DISTIL} --max_steps 2 --objectives soft_ce:1,labels:0.5,hidden_mse:1 --output_dir out"
    )
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if "loss" in line)
    assert {"prediction_loss", "label_loss", "hidden_loss"} <= set(losses)
    assert any("dev" in line for line in lines)


@pytest.mark.parametrize(
    "flags, told",
    [
        ("--pred_distill --objectives soft_ce:1", "--pred_distill and --objectives: give one"),
        ("--hard_labels --objectives labels:1", "--hard_labels and --objectives: give one"),
        ("--objectives mlm:1", "mlm is not an objective; there are att_mse"),
        ("--objectives soft_ce:1 --temperature 0", "--temperature 0.0: expected a number above 0"),
        ("--objectives hidden_mse:1 --patience 2", "--patience 2: nothing is scored"),
    ],
)
def test_what_is_to_be_learned_does_not_contradict_itself(flags, told):
    status, _, said = run_line(f"{DISTIL} {flags} --output_dir out")
    assert status == 2 and told in said, said
    assert not Path("out").exists()


def test_a_regression_has_no_soft_targets():
    write_task(Path("sts"), "STS-B")
    line = DISTIL.replace("glue/RTE --task_name RTE", "sts --task_name STS-B")
    status, _, said = run_line(f"{line} --objectives soft_ce:1 --output_dir out")
    assert status == 2 and "--objectives soft_ce: is for classes" in said, said


def test_predictions_among_objectives_set_the_stage_its_schedule_and_its_epochs():
    line = DISTIL.replace("--num_train_epochs 1 ", "")
    succeed(f"{line} --max_steps 2 --objectives soft_ce:1,hidden_mse:1 --output_dir out")
    record = json.loads(Path("out/run.json").read_text())
    assert (record["stage"], record["arguments"]["num_train_epochs"]) == ("prediction", 3)
    lines = Path("out/metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line).get("learning_rate") for line in lines]
    assert len({rate for rate in rates if rate is not None}) > 1


def test_what_objectives_have_learned_stands_beside_the_student(monkeypatch):
    from distillation.objectives import OBJECTIVES
    from tests.training_run import ProbeObjective

    class Probe(ProbeObjective):  # the states that it sees are as wide as the teacher's
        def __init__(self, setup):
            super().__init__(setup._replace(student=setup.teacher))

    monkeypatch.setitem(OBJECTIVES, "probe", Probe)
    succeed(f"{DISTIL} --max_steps 2 --objectives soft_ce:1,probe:1 --output_dir out")
    kept = torch.load("out/objectives.bin", weights_only=True)
    assert kept["parts.1.probe.weight"].shape[0] == 2
    succeed(f"{DISTIL} --max_steps 2 --output_dir plain")
    assert not Path("plain/objectives.bin").exists()


def test_objectives_of_logits_have_no_place_in_general_distillation():
    status, _, told = run_line(f"{GENERAL} --objectives soft_ce:1 --output_dir out")
    assert status == 2 and "--objectives: expected objectives of layers" in told
    assert not Path("out").exists()


def test_accumulation_changes_nothing_but_rounding():
    write_student(  # dropout would depend on how a batch is split
        Path("still"), **STUDENT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    for count in (1, 4):
        succeed(
            f"{GENERAL.replace('student_config', 'still')} --gradient_accumulation_steps {count} "
            f"--max_steps 3 --output_dir out-{count}"
        )
    one, four = weights("out-1"), weights("out-4")
    for name, value in one.items():
        torch.testing.assert_close(value, four[name], rtol=1e-4, atol=1e-5)


def test_masked_language_modelling_gives_an_encoder_the_head_that_augmentation_needs():
    write_bert(Path("encoder"), head=False, **TEACHER)
    succeed(
        "python pretrain_mlm.py --pregenerated_data pairs --bert_model encoder --output_dir mlm "
        "--train_batch_size 8"
    )
    write_glove(Path("glove.txt"))
    shutil.copytree("glue/CoLA", "data/CoLA")
    succeed(
        "python data_augmentation.py --pretrained_bert_model mlm --glove_embs glove.txt "
        "--glue_dir data --task_name CoLA"
    )
    assert Path("data/CoLA/train_aug.tsv").is_file()


# Records


def test_a_training_run_leaves_its_record():
    succeed(f"{DISTIL} --pred_distill --output_dir out")
    record = record_of("out")
    assert record.keys() >= {
        "schema", "script", "stage", "command", "arguments", "task", "student", "teacher",
        "output_dir", "versions", "git_commit", "data", "model", "steps", "seconds", "started",
        "finished", "hardware", "metrics", "best_step", "main_metric",
    }  # fmt: skip
    assert (record["schema"], record["script"], record["stage"]) == (
        1, "task_distill.py", "prediction",
    )  # fmt: skip
    assert (record["task"], record["student"], record["teacher"]) == ("RTE", "student", "teacher")
    assert record["command"][:2] == ["task_distill.py", "--data_dir"]
    assert record["arguments"]["max_seq_length"] == 128, "the resolved default"
    assert record["data"]["train"].keys() >= {"path", "sha256", "rows"}
    assert record["data"]["dev"]["rows"] == ROWS["dev"]
    assert record["model"]["parameters"] == sum(v.numel() for v in weights("out").values())
    assert record["model"]["config"]["num_hidden_layers"] == 2
    assert (
        record["main_metric"] == "acc" and record["best_step"] == record["steps"] == ROWS["train"]
    )
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("line", "stage", "losses"),
    [
        (GENERAL, "general", {"attention_loss", "hidden_loss"}),
        (DISTIL, "intermediate", {"attention_loss", "hidden_loss"}),
        (f"{DISTIL} --pred_distill", "prediction", set()),
    ],
    ids=["general", "intermediate", "prediction"],
)
def test_the_log_tells_the_losses(line, stage, losses):
    succeed(f"{line} --max_steps 2 --output_dir out")
    assert record_of("out")["stage"] == stage
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert logged
    for line in logged:
        assert line.keys() == {
            *("step", "epoch", "loss", "learning_rate", "examples_per_second", "tokens_per_second"),
            *losses,
            *(f"{name}_by_layer" for name in losses),
        }
        assert line["loss"] == pytest.approx(sum(line[name] for name in losses) or line["loss"])
        for name in losses:
            layers = line[f"{name}_by_layer"]
            assert len(layers) == (3 if name == "hidden_loss" else 2)  # embeddings first
            assert sum(layers) == pytest.approx(line[name], rel=1e-5)


def test_the_same_seed_gives_the_same_student():
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        succeed(f"{DISTIL} --seed {seed} --output_dir {name}")
    assert same(weights("one"), weights("again"))
    assert not same(weights("one"), weights("other"))


def test_a_finished_run_is_not_trained_again_by_resume():
    succeed(f"{DISTIL} --max_steps 2 --output_dir out")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    succeed(f"{DISTIL} --max_steps 2 --output_dir out --resume")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_the_published_log_file_tells_the_losses_too():
    succeed(f"{GENERAL} --max_steps 2 --output_dir out")
    assert "attention_loss = " in Path("out/log.txt").read_text()
