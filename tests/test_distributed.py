"""Whole scripts in processes of their own: two that share a run, and one that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import general_distill
import task_distill
from distillation.checkpoint import CHECKPOINT_NAME
from distillation.distributed import start_runtime
from distillation.records import METRICS_NAME
from tasks.corpus import write_epoch
from tasks.pregeneration import Examples
from transformer.errors import UserError
from transformer.file_utils import CONFIG_NAME, RUN_RECORD_NAME, WEIGHTS_NAME
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
    "PYTHONPATH": str(ROOT),
}
SCRIPTS = {"general_distill": general_distill, "task_distill": task_distill}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# Starting processes is what takes the time: one launch runs several scripts, one after another.
SEVERAL = """
import importlib, json, sys
for script, argv in json.load(open(sys.argv[1])):
    importlib.import_module(script).main(argv)
"""


@pytest.fixture
def corpus(tmp_path, tiny_vocab):
    """Pregenerated data: 21 pairs of 6 to 24 pieces."""
    tokenizer = BertTokenizer(tiny_vocab)
    generator = np.random.default_rng(5)
    lengths = generator.integers(6, 25, 21)
    tokens = generator.integers(5, 200, lengths.sum()).astype(np.uint16)
    part = Examples(tokens, lengths, (lengths // 2).astype(np.uint16), np.zeros(21, np.uint8), None)
    facts = {
        "max_seq_len": 24,
        "vocab_hash": tokenizer.vocab_hash,
        "vocab_size": len(tokenizer),
    }
    (tmp_path / "corpus").mkdir()
    write_epoch(tmp_path / "corpus", 0, [part], np.dtype(np.uint16), False, facts)
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


def weights(folder):
    return torch.load(folder / WEIGHTS_NAME)


def log_of(folder):
    lines = [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "examples_per_second"} for line in lines]


def test_two_processes_give_the_weights_of_one(general, rte, tiny_model_dir, tmp_path):
    """General and task distillation, both stages; batches of 4, of which one process may get less.

    The last batches hold 1 row: one process then has nothing to add.
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
    ]  # fmt: skip
    runs = {
        "general": ("general_distill", general("{}_general")),
        "attention": ("general_distill", general("{}_attention", "--rep_weight=0")),
        "micro": ("general_distill", general("{}_micro", "--gradient_accumulation_steps=2")),
        "layers": ("task_distill", [*task, f"--output_dir={tmp_path}/{{}}_layers"]),
        "logits": ("task_distill", [*task, f"--output_dir={tmp_path}/{{}}_logits", "--pred_distill"]),
    }  # fmt: skip
    for script, argv in runs.values():
        SCRIPTS[script].main([word.format("one") for word in argv])
    (tmp_path / "several.py").write_text(SEVERAL)
    jobs = [(script, [word.format("two") for word in argv]) for script, argv in runs.values()]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, *TORCHRUN, tmp_path / "several.py", tmp_path / "jobs.json"],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in runs:
        one, two = (weights(tmp_path / f"{way}_{name}") for way in ("one", "two"))
        worst = max((one[key] - two[key]).abs().max().item() for key in one)
        assert worst < 1e-6, name
        records = [
            json.loads((tmp_path / f"{way}_{name}" / RUN_RECORD_NAME).read_text())
            for way in ("one", "two")
        ]
        for key in ("steps", "examples", "metrics", "best_step"):
            assert records[0][key] == records[1][key], (name, key)


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(general, tmp_path, capsys):
    """kill -9 of the real script; dropout on."""
    more = ["--train_batch_size=1", "--num_train_epochs=5", "--eval_step=100"]
    command = [ROOT / "general_distill.py", *general("killed", *more, dropout=0.2)]
    process = subprocess.Popen(
        [sys.executable, *map(str, command), "--save_minutes=0"],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    killed = tmp_path / "killed"
    deadline = time.monotonic() + 120
    while not (killed / CHECKPOINT_NAME).exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / RUN_RECORD_NAME).exists()
    done_before = torch.load(killed / CHECKPOINT_NAME)["step"]
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
