"""Whole scripts in processes of their own: two that share a run, and one that is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import distilbert.pretrain
import general_distill
import pretrain_mlm
import task_distill
from corpus.epoch_writing import write_epoch, write_json_epoch
from corpus.sentence_pairs import Examples
from distillation.checkpoint import CHECKPOINT_NAME, Checkpoints
from distillation.distributed import Runtime, start_runtime
from distillation.records import METRICS_NAME
from distillation.state import log_of as sums_of
from files.atomic import RUN_RECORD_NAME
from files.errors import UserError
from tests.patience import PATIENCE, wait_until
from tests.training_run import make_source, probing, run
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.modeling import (
    BertForMaskedLM,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)
from transformer.tokenization import BertTokenizer

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
    "PYTHONPATH": str(ROOT),
}
SCRIPTS = {
    "general_distill": general_distill,
    "pretrain_mlm": pretrain_mlm,
    "task_distill": task_distill,
    "distilbert.pretrain": distilbert.pretrain,
}
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# Starting processes is what takes the time: one launch runs several scripts, one after another. With
# `stop` every process leaves the script before that optimiser step.
SEVERAL = """
import importlib, json, sys
from transformer.optimization import BertAdam

class Stopped(Exception):
    pass

due = BertAdam.due
for script, argv, stop in json.load(open(sys.argv[1])):
    done = 0
    def counted(*args, **options):
        global done
        done += 1
        if done == stop:
            raise Stopped
        return due(*args, **options)
    BertAdam.due = counted
    try:
        importlib.import_module(script).main(argv)
        assert stop is None
    except Stopped:
        pass
"""


@pytest.fixture
def corpus(tmp_path, tiny_vocab):
    """Pregenerated data: 21 pairs of 6 to 24 tokens, in `corpus` and, as published, in `corpus_json`."""
    tokenizer = BertTokenizer(tiny_vocab)
    generator = np.random.default_rng(5)
    lengths = generator.integers(6, 25, 21)
    tokens = generator.integers(5, 200, lengths.sum()).astype(np.uint16)
    boundaries = lengths // 2
    ends = np.cumsum(lengths)
    tokens[ends - lengths], tokens[ends - 1] = tokenizer.cls_id, tokenizer.sep_id
    tokens[ends - lengths + boundaries - 1] = tokenizer.sep_id
    part = Examples(tokens, lengths, boundaries.astype(np.uint16), np.zeros(21, np.uint8), None)
    facts = {
        "max_seq_len": 24,
        "vocab_hash": tokenizer.vocab_hash,
        "vocab_size": len(tokenizer),
    }
    (tmp_path / "corpus").mkdir()
    write_epoch(tmp_path / "corpus", 0, [part], np.dtype(np.uint16), False, facts)
    (tmp_path / "corpus_json").mkdir()
    write_json_epoch(tmp_path / "corpus_json", 0, [part], tokenizer.ids_to_tokens, 24)
    return tmp_path / "corpus"


@pytest.fixture
def rte(tmp_path):
    """An RTE folder of 13 training and 6 dev rows."""
    (tmp_path / "RTE").mkdir()
    for name, rows in (("train", 13), ("dev", 6)):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for i in range(rows):
            label = ("entailment", "not_entailment")[i % 2]
            lines.append(f"{i}\tthe cat sees {'a dog ' * (i % 5)}.\tthe cat sees .\t{label}")
        (tmp_path / "RTE" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "RTE"


@pytest.fixture
def general(corpus, tiny_model_dir, tmp_path):
    """A function giving the command line of a tiny general distillation into a folder."""
    teacher = tiny_model_dir("teacher", num_hidden_layers=4)
    # With dropout 0 two processes compute what one does; killed and resumed runs have dropout.
    folders = {p: tiny_model_dir(f"s{p}", TinyBertForPreTraining, hidden_size=16, fit_size=24,
                                 hidden_dropout_prob=p) for p in (0.0, 0.2)}  # fmt: skip

    def command(name, *more, dropout=0.0):
        return [
            f"--pregenerated_data={corpus}", f"--teacher_model={teacher}", "--continue_train",
            f"--student_model={folders[dropout]}", f"--output_dir={tmp_path / name}", "--no_cuda",
            "--train_batch_size=4", "--num_train_epochs=2", "--learning_rate=1e-3", *more,
        ]  # fmt: skip

    return command


# One of two processes fails while the other waits for it, and has an exchange under way that the other never
# joins; or both end well, or stop.
ENDS = """
import atexit, sys
import torch
import torch.distributed as dist
from distillation.distributed import start_runtime
from files.errors import Stopped, UserError, run_script

def main():
    runtime = start_runtime(no_cuda=True)
    runtime.wait()
    if how == "well":
        return 0
    if how == "stopped":
        raise Stopped(15, "after step 3")
    if runtime.rank == 1:
        global exchange
        exchange = dist.all_reduce(torch.ones(9), async_op=True)
        raise {"mistake": UserError, "fault": KeyError}[how]("mine")
    runtime.wait()

how = sys.argv[1]
atexit.register(lambda: sys.stdout.write(f"group: {dist.is_initialized()}\\n"))
run_script(main)
"""


def weights(folder):
    return torch.load(folder / WEIGHTS_NAME)


def log_of(folder):
    lines = [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in lines]


def run_on_two(tmp_path, jobs):
    """Run (script, flags[, step to stop before]) one after another under a torchrun of two."""
    (tmp_path / "several.py").write_text(SEVERAL)
    (tmp_path / "jobs.json").write_text(json.dumps([[*job, None][:3] for job in jobs]))
    done = subprocess.run(
        [sys.executable, *TORCHRUN, tmp_path / "several.py", tmp_path / "jobs.json"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr, done.stderr  # of torch; ours are written small
    return done


def same_weights(one, other, tolerance=1e-6):
    """The keys' biases apart, to which the softmax is blind: what moves them is rounding alone."""
    one, other = weights(one), weights(other)
    keys = [key for key in one if not key.endswith("attention.self.key.bias")]
    return max((one[key] - other[key]).abs().max().item() for key in keys) < tolerance


def test_two_processes_give_the_weights_of_one(general, corpus, rte, tiny_model_dir, tmp_path):
    """All stages; batches of 4, of which one process may get less.

    The last batches hold 1 row: one process then has nothing to add. Masked language modelling learns from
    places, of which rows have different numbers.
    """
    labels = {"id2label": ["entailment", "not_entailment"]}
    teacher = tiny_model_dir(
        "rte", TinyBertForSequenceClassification, 1, num_hidden_layers=4, **labels
    )
    student = tiny_model_dir("new", TinyBertForSequenceClassification, 2, fit_size=24, **labels)
    task = [
        f"--data_dir={rte}", "--task_name=RTE", f"--teacher_model={teacher}", "--no_cuda",
        f"--student_model={student}", "--train_batch_size=4", "--num_train_epochs=2",
        "--learning_rate=1e-3", "--eval_step=3", "--max_seq_length=32",
        "--allow_weak_teacher",
    ]  # fmt: skip
    masked = tiny_model_dir("mlm", BertForMaskedLM, 3)
    mlm = [
        f"--pregenerated_data={corpus}", f"--bert_model={masked}", "--train_batch_size=4", "--no_cuda",
        f"--output_dir={tmp_path}/{{}}_mlm", "--learning_rate=1e-3",
    ]  # fmt: skip
    lines = [f"the cat sees {'a dog ' * (i % 7)}.\na bird sings ." for i in range(30)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines) + "\n")
    half = tiny_model_dir("half", BertForMaskedLM, 4, model_type="distilbert", num_hidden_layers=1)
    words = [
        f"--corpus={tmp_path}/text.txt", f"--teacher_model={masked}", f"--student_model={half}",
        "--train_batch_size=4", "--max_seq_length=12", f"--tokenized_dir={tmp_path}/{{}}_tokenized",
        f"--output_dir={tmp_path}/{{}}_words", "--learning_rate=1e-3", "--no_cuda",
    ]  # fmt: skip
    runs = {
        "words": ("distilbert.pretrain", words),
        "mlm": ("pretrain_mlm", mlm),
        "general": ("general_distill", general("{}_general")),
        "attention": ("general_distill", general("{}_attention", "--rep_weight=0", "--emb_weight=0")),
        "micro": ("general_distill", general("{}_micro", "--gradient_accumulation_steps=2")),
        "layers": ("task_distill", [*task, f"--output_dir={tmp_path}/{{}}_layers"]),
        "logits": ("task_distill", [*task, f"--output_dir={tmp_path}/{{}}_logits", "--pred_distill"]),
        "adamw": ("general_distill", general("{}_adamw", "--optimizer=adamw")),
    }  # fmt: skip
    for script, argv in runs.values():
        SCRIPTS[script].main([word.format("one") for word in argv])
    jobs = [(script, [word.format("two") for word in argv]) for script, argv in runs.values()]
    published = [word.replace("/corpus", "/corpus_json") for word in general("two_json")]
    scores = f"--output_dir={tmp_path}/scores"
    jobs += [("general_distill", published), ("task_distill", [*task, scores, "--do_eval"])]
    done = run_on_two(tmp_path, jobs)
    # What is written once is written by one process.
    assert done.stderr.count("into arrays") == 1
    assert done.stdout.count("acc = ") == 1  # of --do_eval
    assert json.loads((tmp_path / "scores/eval.json").read_text())["stage"] == "evaluate"
    assert same_weights(tmp_path / "one_general", tmp_path / "two_json")
    for name in runs:
        assert same_weights(tmp_path / f"one_{name}", tmp_path / f"two_{name}"), name
        losses = [
            [line["loss"] for line in log_of(tmp_path / f"{way}_{name}") if "loss" in line]
            for way in ("one", "two")
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6), name
        records = [
            json.loads((tmp_path / f"{way}_{name}" / RUN_RECORD_NAME).read_text())
            for way in ("one", "two")
        ]
        for key in ("steps", "examples", "best_step"):
            assert records[0][key] == records[1][key], (name, key)
        one, two = (record["metrics"] or {} for record in records)
        assert list(one) == list(two)
        for split in one:  # scores are the same, losses but for rounding
            assert one[split] == pytest.approx(two[split], rel=1e-6), (name, split)


def test_several_processes_resume_with_their_own_dropout(general, tmp_path):
    """Stopped before step 5 of 12; each process resumes with its generator, and the log with its sums."""
    flags = {name: general(name, dropout=0.2) for name in ("whole", "stopped")}
    run_on_two(
        tmp_path,
        [
            ("general_distill", flags["whole"]),
            ("general_distill", [*flags["stopped"], "--save_minutes=0"], 5),
            ("general_distill", [*flags["stopped"], "--resume"]),
        ],
    )
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "stopped")


def test_two_machines_give_the_weights_of_one_process(general, tmp_path):
    """They meet at a port: one by torchrun, one by the older launcher, which passes --local-rank."""
    general_distill.main(general("one"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", f"torch.distributed.{launcher}", "--nnodes", "2",
             "--node_rank", str(rank), "--nproc_per_node", "1", "--master_addr", "127.0.0.1",
             "--local_addr", "127.0.0.1",
             "--master_port", port, str(ROOT / "general_distill.py"), *general("two")],
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for rank, launcher in enumerate(("run", "launch"))
    ]  # fmt: skip
    for node in nodes:
        said = node.communicate(timeout=PATIENCE)[1]
        assert node.returncode == 0, said[-3000:]
    assert same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("how", "status"), [("well", 0), ("stopped", 143), ("mistake", 2), ("fault", 1)]
)
def test_a_process_parts_from_the_others_however_it_ends(tmp_path, how, status):
    """And waits for none that waits for it; who is left behind says so in a line."""
    (tmp_path / "ends.py").write_text(ENDS)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, tmp_path / "ends.py", how],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    said = done.stderr
    assert "forcefully exiting" not in said, "torchrun kills those that hang after 30 seconds"
    if how in ("well", "stopped"):
        assert done.stdout.count("group: False\n") == 2
        assert (done.returncode == 0) == (how == "well")
    else:
        assert done.stdout == "", "the interpreter's end would wait for the exchange"
        assert said.count("error: mine") == (how == "mistake")
        assert said.count("KeyError: 'mine'") == (how == "fault")
        lost = (
            "error: process 0 of 2: another process of this run has ended; its own message says why"
        )
        assert lost in said or "exitcode  : 143" in said, said  # torchrun may be faster
        assert "gloo" not in said
    if status:
        assert f"exitcode  : {status} " in said, said


def test_two_processes_asked_to_stop_go_on_to_the_same_weights(general, tmp_path):
    """SIGTERM to torchrun; the run is long enough for a forecast of its time."""
    more = ["--num_train_epochs=35", "--eval_step=100"]

    def start(name, *flags):
        words = [*TORCHRUN, ROOT / "general_distill.py", *general(name, *more, *flags, dropout=0.2)]
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    process = start("stopped", "--save_steps=1")
    wait_until((tmp_path / "stopped" / CHECKPOINT_NAME).exists, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=PATIENCE)[1]
    assert said.count("--resume continues from there") == 2, said
    for process in (start("stopped", "--resume"), start("whole")):
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0 and said.count("expected: about") == 1, said[-3000:]
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(general, tmp_path, capsys):
    """kill -9 of the real script; dropout on."""
    more = ["--train_batch_size=1", "--num_train_epochs=5", "--eval_step=100"]
    command = [ROOT / "general_distill.py", *general("killed", *more, dropout=0.2)]
    process = subprocess.Popen(
        [sys.executable, *map(str, command), "--save_minutes=0"],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    killed = tmp_path / "killed"
    wait_until((killed / CHECKPOINT_NAME).exists, process)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / RUN_RECORD_NAME).exists()
    _, state = Checkpoints(killed).load()  # the newest may be on its way to its name
    done_before = state["step"]
    assert 0 < done_before < 105

    general_distill.main(general("killed", *more, "--resume", dropout=0.2))
    assert f"resuming after step {done_before} of 105" in capsys.readouterr().err
    general_distill.main(general("whole", *more, dropout=0.2))
    one, other = weights(tmp_path / "whole"), weights(killed)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert log_of(tmp_path / "whole") == log_of(killed)
    assert not (killed / CHECKPOINT_NAME).exists() and (killed / CONFIG_NAME).exists()


def test_a_local_rank_without_a_launcher_is_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="--local_rank 0: start with torchrun"):
        start_runtime(no_cuda=True, local_rank=0)
    runtime = start_runtime(no_cuda=True)
    assert (runtime.device.type, runtime.rank, runtime.world, runtime.is_main) == (
        "cpu",
        0,
        1,
        True,
    )


@pytest.mark.skipif(
    not HUGE_PAGES.is_file() or "[never]" in HUGE_PAGES.read_text(), reason="needs huge pages"
)
def test_large_tensors_get_huge_pages():
    """Else the system hands out and clears 16,384 pages for every tensor of 64 MiB."""
    code = """
import resource, torch
from distillation.distributed import start_runtime
start_runtime(no_cuda=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert int(done.stdout) < 4000, done.stderr


def test_two_processes_whose_steps_can_be_recorded_give_the_weights_of_one(
    make_model, tmp_path, device
):
    """They exchange their gradients, an objective's own too, between passes and update.

    On a GPU they share the card.
    """
    model = make_model()
    model.save_pretrained(tmp_path / "start")
    source = make_source(rows=41)  # the last batch holds 1 row: one process then adds nothing
    losses = probing(model.config).to(device)
    run(model.to(device), tmp_path / "one", source, losses, runtime=Runtime(device))
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "tests.training_run", tmp_path / "start", tmp_path / "two",
         device.type],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kernel by kernel" not in done.stderr
    close = 1e-6 if device.type == "cpu" else 1e-5
    assert same_weights(tmp_path / "one", tmp_path / "two", close)
    probe = torch.load(tmp_path / "two" / "probe.pt", weights_only=True)["parts.1.probe.weight"]
    own = losses.parts[1].probe.weight
    assert (own - probe.to(own.device)).abs().max() < close
    assert not torch.equal(own.cpu(), probing(model.config).parts[1].probe.weight)


def test_what_several_processes_had_added_up_is_not_lost_when_fewer_go_on():
    logs = [
        {
            "sums": {"a_loss": torch.tensor(x)},
            "by_layer": {"a_loss": torch.tensor([x, 0.0])},
            "steps": 3,
        }
        for x in (1.0, 2.0, 4.0)
    ]
    first = sums_of({"log": logs}, Runtime(torch.device("cpu"), 0, 2))
    assert first["sums"] == {"a_loss": torch.tensor(7.0)} and first["steps"] == 3
    assert first["by_layer"]["a_loss"].tolist() == [7.0, 0.0]
    second = sums_of({"log": logs}, Runtime(torch.device("cpu"), 1, 2))
    assert (second["sums"], second["by_layer"], second["steps"]) == ({}, {}, 3)
