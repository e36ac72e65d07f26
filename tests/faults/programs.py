"""Programs that can be killed, starved and robbed: each runs in a process of its own.

The processes are forked from one that has imported everything, so that a run takes as long as its work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import torch

import files.resumable
import prepare_data
from files.errors import run_script
from tests.integration.workspace import (
    STUDENT_4L,
    config,
    write_bert,
    write_classifier,
    write_corpus,
    write_glove,
    write_model,
    write_student,
    write_task,
)
from transformer.modeling import TinyBertForPreTraining

KILLS = int(os.environ.get("FAULTS", 3))  # how often each program is killed, and each file damaged
LAYERS = {"num_hidden_layers": 2}
STUDENT = {**STUDENT_4L, "num_hidden_layers": 2}
FAST = "--train_batch_size 4 --save_steps 1 --eval_step 7 --output_dir out/new"


class Program(NamedTuple):
    """A command line, what it takes to run it again after a kill, and the files it reads."""

    line: str
    again: str
    reads: tuple[str, ...]


BERT = ("models/bert/config.json", "models/bert/pytorch_model.bin", "models/bert/vocab.txt")
TEACHER = (
    "models/teacher/config.json",
    "models/teacher/model.safetensors",
    "models/teacher/vocab.txt",
)
STUDENT_FILES = ("models/student/config.json", "models/student/pytorch_model.bin")
RTE = ("glue/RTE/train.tsv", "glue/RTE/dev.tsv")
PAIRS = tuple(
    f"pairs/epoch_0{name}"
    for name in ("_metrics.json", ".tokens.npy", ".offsets.npy", ".boundaries.npy")
)
PROGRAMS = {
    "general_distill": Program(
        "general_distill.py --pregenerated_data pairs --teacher_model models/bert "
        f"--student_model student_config --num_train_epochs 3 {FAST}",
        "--resume",
        (*BERT, *PAIRS, "student_config/config.json"),
    ),
    "task_distill": Program(
        "task_distill.py --pred_distill --data_dir glue/RTE --task_name RTE --allow_weak_teacher "
        "--teacher_model models/teacher --student_model models/student --num_train_epochs 3 "
        f"--learning_rate 1e-3 {FAST}",
        "--resume",
        (*TEACHER, *STUDENT_FILES, *RTE),
    ),
    "finetune_teacher": Program(
        "finetune_teacher.py --data_dir glue/RTE --bert_model models/teacher "
        f"--num_train_epochs 3 --learning_rate 1e-3 {FAST}",
        "--resume",
        (*TEACHER, *RTE),
    ),
    "pretrain_mlm": Program(
        "pretrain_mlm.py --pregenerated_data pairs --bert_model models/bert --num_train_epochs 3 "
        f"{FAST}",
        "--resume",
        (*BERT, *PAIRS),
    ),
}
PROGRAMS |= {
    "pregenerate_training_data": Program(
        "pregenerate_training_data.py --train_corpus corpus.txt --bert_model models/bert "
        "--max_seq_len 24 --output_dir out/new",
        "--resume",
        ("corpus.txt", "models/bert/vocab.txt"),
    ),
    "prepare_data": Program(
        "prepare_data.py --input wiki --output out/wiki.txt --num_workers 1",
        "--resume",
        ("wiki/wiki_00",),
    ),
    "data_augmentation": Program(
        "data_augmentation.py --pretrained_bert_model models/bert --glove_embs glove.txt "
        "--glue_dir glue --task_name RTE --N 2",
        "--resume",
        (*BERT, "glove.txt", "glue/RTE/train.tsv"),
    ),
}


class Run(NamedTuple):
    """A program that has ended: its exit status (negative: the signal), and all it printed."""

    status: int
    output: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.startswith("error: ")]

    def says_one_line(self) -> bool:
        """Whether it refused as a program of ours does: one line at the end, status 2, no traceback."""
        return (
            self.status == 2
            and len(self.error_lines) == 1
            and self.output.rstrip().splitlines()[-1] == self.error_lines[0]
            and "Traceback" not in self.output
        )


def server() -> Any:
    """Where processes are forked from: everything is imported there, once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.faults.programs", "nltk.tokenize.punkt", "matplotlib.figure", *PROGRAMS]
    )
    return context


class Running:
    """A program that was started, and what it prints."""

    def __init__(self, line: str, place: Path, **limits: int) -> None:
        """
        Args:
            line: its command line, without `python`.
            place: the folder to run it in.
            limits: `file_bytes`, the largest file it can write; `plain_user`: permissions hold for it,
                as they do not for root; `seen_by`: it sees the file systems that this process sees.
        """
        # A pipe, because a limit on files would hold for a log as well.
        self._pipe = place.parent / f"{place.name}.pipe"
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe)
        self._output: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        words = shlex.split(line)
        self._process = server().Process(target=_run, args=(words, str(place), self._pipe, limits))
        self._process.start()

    def _read(self) -> None:
        self._output.append(self._pipe.read_bytes())

    def kill_after(self, seconds: float) -> None:
        """kill -9 after some time, if it is still running."""
        self._process.join(seconds)
        self._process.kill()
        self._process.join()

    def outcome(self) -> Run:
        """Wait for its end."""
        self._process.join(120)
        assert self._process.exitcode is not None, "the program hangs"
        self._reader.join(10)
        return Run(self._process.exitcode, b"".join(self._output).decode(errors="replace"))


def run(line: str, place: Path, **limits: int) -> Run:
    return Running(line, place, **limits).outcome()


def _run(words: list[str], place: str, pipe: Path, limits: dict[str, int]) -> None:
    output = os.open(pipe, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(output, stream)
    if "seen_by" in limits:
        _see_files_of(limits["seen_by"])
    os.chdir(place)
    torch.set_num_threads(1)
    files.resumable.SECONDS = 0  # there is something to resume after a moment
    prepare_data.BLOCK_BYTES = 2000
    if "file_bytes" in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"],) * 2)
    if "plain_user" in limits and os.geteuid() == 0:
        _obey_permissions()
    sys.argv = words
    run_script(importlib.import_module(words[0].removesuffix(".py")).main)


def _obey_permissions() -> None:
    """Give up root's right to pass over permission bits (CAP_DAC_OVERRIDE, _READ_SEARCH, CAP_FOWNER)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the interface, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words first
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~0b1110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _see_files_of(pid: int) -> None:
    """Enter a process's namespaces of users and of mounts."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptors = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt")]
    for descriptor in descriptors:
        if libc.setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)


class SmallDisk:
    """A file system in memory of so many KB over a folder, for programs that are `seen_by` its holder.

    It is private to a process of its own, and gone with it.
    """

    HOLDER = """
        mount -t tmpfs -o size="$2"k none "$1" && echo made || exit
        while read size; do mount -o remount,size="$size"k "$1" && echo made || echo no; done
    """

    def __init__(self, folder: Path, kilobytes: int) -> None:
        """
        Raises:
            OSError: the system does not allow such things.
        """
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount"]
            + ["bash", "-c", self.HOLDER, "bash", str(folder), str(kilobytes)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.pid = self._holder.pid
        if self._holder.stdout.readline() != "made\n":
            self.close()
            raise OSError("no file system of one's own can be made here")

    @classmethod
    @functools.cache
    def possible(cls) -> bool:
        """Whether the system allows such things."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                cls(Path(folder), 4).close()
            except OSError:
                return False
        return True

    def path(self, path: Path) -> Path:
        """How this process reaches a path that is covered by the disk."""
        return Path(f"/proc/{self.pid}/root{path}")

    def grow(self, kilobytes: int) -> None:
        """Give it more room."""
        print(kilobytes, file=self._holder.stdin, flush=True)
        assert self._holder.stdout.readline() == "made\n"

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


def make_world(root: Path) -> Path:
    """Everything the programs read, in small."""
    write_bert(root / "models/bert", **LAYERS)
    write_classifier(root / "models/teacher", ["entailment", "not_entailment"], **LAYERS)
    student = TinyBertForPreTraining.from_scratch(config(**STUDENT), fit_size=24)
    write_model(student, root / "models/student")
    write_student(root / "student_config", **STUDENT)
    write_task(root / "glue/RTE", "RTE", {"train": 24, "dev": 12})
    write_glove(root / "glove.txt")
    write_corpus(root / "corpus.txt")
    (root / "wiki").mkdir()
    pages = (
        {"title": f"page {i}", "text": "The cat is here. It was a dog. " * 9} for i in range(60)
    )
    (root / "wiki/wiki_00").write_text("".join(json.dumps(page) + "\n" for page in pages))
    pregenerate = (
        "pregenerate_training_data.py --train_corpus corpus.txt --bert_model models/bert "
        "--epochs_to_generate 1 --max_seq_len 24 --output_dir pairs"
    )
    done = run(pregenerate, root)
    assert done.status == 0, done.output
    return root


def results(place: Path) -> dict[str, str]:
    """What a finished program has left, each file by its checksum; clocks are left out."""
    found = {}
    for path in sorted([*(place / "out").rglob("*"), place / "glue/RTE/train_aug.tsv"]):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.name == "metrics.jsonl":
            lines = (json.loads(line) for line in content.splitlines())
            content = json.dumps([_without_clock(line) for line in lines]).encode()
        elif path.name == "run.json":
            record = json.loads(content)
            content = json.dumps(
                [record[name] for name in ("metrics", "steps", "examples")]
            ).encode()
        elif path.name in ("log.txt", "README.md", "curves.png", ".lock"):
            # metrics.jsonl and run.json in other words, with their clocks; a lock's file outlives a
            # process killed at its very end, and binds nobody
            continue
        found[str(path.relative_to(place))] = hashlib.sha256(content).hexdigest()
    return found


def _without_clock(line: dict) -> dict:
    return {name: value for name, value in line.items() if not name.endswith("_per_second")}
