"""What a command of reproduction.sh has to do: arithmetic of models, bytes of text, or hardly anything.

Read from its words and from the files it names. What is not there yet is taken from the command that will
make it, or else from the sizes of GLUE and of the paper's corpus.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.devices import Work
from benchmarks.shapes import (
    classifier_macs,
    encoder_macs,
    layer_step_gflop,
    masked_word_macs,
    prediction_gflop,
)
from files.errors import UserError
from tasks.glue import find_task
from transformer.configuration import BertConfig

LENGTHS = Path(__file__).with_name("lengths.json")
# Of the paper's corpus: words, and as seen in docs/results-small.md tokens a word and tokens a sequence.
WORDS, TOKENS_PER_WORD, SEQUENCE = 2.5e9, 1.63, 118
BYTES_PER_WORD, BYTES_PER_TOKEN = 5.9, 4.6  # of text; of a task's rows
# Rows of the training sets that lengths.json does not have, and about how many tokens one has.
ROWS = {"MNLI": (392_702, 39), "QQP": (363_846, 30), "QNLI": (104_743, 50), "STS-B": (5_749, 31),
        "WNLI": (635, 37)}  # fmt: skip
UNPACKED = 4  # bytes of text in one of a packed dump
KEPT_VARIANTS = 0.9  # of the N that augmentation draws for a sentence
MASKED_PER_TOKEN, SENTENCES_PER_BATCH = 0.42, 64
_TEXT = {"wikiextractor.WikiExtractor", "prepare_data.py", "pregenerate_training_data.py"}
_EPOCHS = {"general_distill.py": 3, "finetune_teacher.py": 3, "pretrain_mlm.py": 1}


class Load(NamedTuple):
    """What a command has to do.

    Attributes:
        kind: commands of one kind keep one pace.
        group: `models`, `text` or `other`.
        work: of models.
        size: bytes of text.
    """

    kind: str
    group: str = "other"
    work: Work = Work(0, 0)
    size: float = 0.0


class Rows(NamedTuple):
    """Rows of a file, and their mean length in tokens."""

    count: float
    length: float


class Commands:
    """The commands of a plan, which know from each other what is not on disk yet."""

    def __init__(self, commands: Iterable[tuple[str, Sequence[str]]]) -> None:
        """
        Args:
            commands: each as its line and the paths that it makes.
        """
        self._makers = {path: shlex.split(line) for line, paths in commands for path in paths}

    def load(self, line: str) -> Load:
        """What a command has to do."""
        words = shlex.split(line)
        program = next((w for w in words if w.endswith(".py") or w in _TEXT), words[0])
        flags = flags_of(words)
        if program in _TEXT:
            return Load(program, "text", size=self._text(program, words, flags))
        if program == "task_distill.py" and "do_eval" in flags:
            return Load("scoring", "models", self._scoring(flags))
        if program == "task_distill.py":
            kind = "predictions" if "pred_distill" in flags else "layers"
            return Load(kind, "models", self._task_distillation(kind, flags))
        if program == "finetune_teacher.py":
            return Load(program, "models", self._fine_tuning(flags))
        if program in ("general_distill.py", "pretrain_mlm.py"):
            return Load(program, "models", self._pre_training(program, flags))
        if program == "data_augmentation.py":
            return Load(program, "models", self._augmentation(flags))
        return Load(program)

    def config(self, folder: str) -> BertConfig:
        """The shape of a model: its config.json's, or that of what it will be made from; else BERT-base."""
        found = read_shape(Path(folder) / "config.json")
        if found is not None:
            return found
        words = self._makers.get(folder)
        if words is None:
            return BertConfig()
        flags = flags_of(words)
        source = next(
            (flags[n] for n in ("student_model", "bert_model", "source") if flags.get(n)), None
        )
        halved = any(word.endswith("tinybert_6_from_bert.py") for word in words)
        if halved and source is None:  # --models_dir and --names, which mean a task's final teacher
            name = flags.get("names", "base")
            model = "bert-base-uncased" if name == "base" else f"final_{name}_teacher"
            source = str(Path(flags.get("models_dir", "models")) / model)
        config = self.config(source) if source else BertConfig()
        if halved:
            kept = flags.get("keep_layers")
            layers = len(kept.split(",")) if kept else config.num_hidden_layers // 2
            config = replace(config, num_hidden_layers=layers)
        return config

    def _task_distillation(self, kind: str, flags: Mapping[str, str]) -> Work:
        task = find_task(flags["task_name"])
        student, teacher = self.config(flags["student_model"]), self.config(flags["teacher_model"])
        rows = self._rows(flags["data_dir"], "aug_train" in flags, flags)
        own = task.intermediate_epochs if kind == "layers" else 3
        steps, seen = _steps(rows, flags, own)
        if kind == "layers":
            gflop = seen * layer_step_gflop(student, teacher, [rows.length])
        else:
            epochs = seen / max(rows.count, 1)
            asked = min(rows.count, seen)
            gflop = asked * prediction_gflop(student, teacher, [rows.length], max(epochs, 1))
        return Work(gflop, steps)

    def _fine_tuning(self, flags: Mapping[str, str]) -> Work:
        rows = self._rows(flags["data_dir"], False, flags)
        steps, seen = _steps(rows, flags, _EPOCHS["finetune_teacher.py"])
        macs = classifier_macs(self.config(flags["bert_model"]), rows.length, training=True)
        return Work(2e-9 * 3 * seen * macs, steps)

    def _scoring(self, flags: Mapping[str, str]) -> Work:
        rows = self._rows(flags["data_dir"], False, flags, "dev")
        macs = classifier_macs(self.config(flags["student_model"]), rows.length)
        return Work(2e-9 * rows.count * macs, rows.count / 32)

    def _pre_training(self, program: str, flags: Mapping[str, str]) -> Work:
        rows = self._sequences(flags["pregenerated_data"])
        steps, seen = _steps(rows, flags, _EPOCHS[program])
        if program == "general_distill.py":
            student, teacher = (self.config(flags[n]) for n in ("student_model", "teacher_model"))
            return Work(seen * layer_step_gflop(student, teacher, [rows.length]), steps)
        config = self.config(flags["bert_model"])
        words = 0.15 * rows.length * config.hidden_size * (config.hidden_size + config.vocab_size)
        return Work(2e-9 * 3 * seen * (encoder_macs(config, rows.length) + words), steps)

    def _augmentation(self, flags: Mapping[str, str]) -> Work:
        task = find_task(flags["task_name"])
        rows = self._rows(str(Path(flags["glue_dir"]) / task.folder), False, flags)
        tokens = (rows.length - 3) / (1 + task.pair)  # of a sentence
        passes = rows.count * (1 + task.pair) * max(MASKED_PER_TOKEN * tokens, 1)
        macs = masked_word_macs(self.config(flags["pretrained_bert_model"]), 2 * tokens + 3)
        return Work(2e-9 * passes * macs, passes / SENTENCES_PER_BATCH)

    def _rows(
        self, folder: str, augmented: bool, flags: Mapping[str, str], split: str = "train"
    ) -> Rows:
        longest = float(flags.get("max_seq_length") or 128)
        task = find_task(Path(folder).name)
        known = json.loads(LENGTHS.read_text("utf-8"))["tasks"].get(task.folder, {})
        if augmented and (found := count_rows(Path(folder) / "train_aug.tsv")):
            return Rows(found.count, min(found.length, longest))
        found = count_rows(Path(folder) / f"{split}.tsv")
        if split == "dev":
            found = found or Rows(known.get("dev_rows", 5_000), known.get("sequence", 40))
        if found is None and augmented and known:
            return Rows(known["augmented_rows"], min(known["augmented_sequence"], longest))
        if found is None:
            count, length = ROWS.get(task.folder, (10_000, 40))
            found = Rows(known.get("rows", count), known.get("sequence", length))
        variants = int(flags.get("N") or task.augment_n) * (1 + task.pair) * KEPT_VARIANTS
        return Rows(found.count * (1 + augmented * variants), min(found.length, longest))

    def _sequences(self, folder: str) -> Rows:
        """Sequences of an epoch of pregenerated data."""
        metrics = sorted(Path(folder).glob("epoch_*_metrics.json"))
        if metrics:
            told = json.loads(metrics[0].read_text("utf-8"))
            count = max(told.get("num_training_examples", 1), 1)
            return Rows(count, told.get("num_tokens", SEQUENCE * count) / count)
        flags = flags_of(self._makers.get(folder, []))
        length = min(SEQUENCE, float(flags.get("max_seq_len") or 128))
        corpus = self._bytes(flags.get("train_corpus", ""))
        tokens = corpus / BYTES_PER_WORD * TOKENS_PER_WORD
        return Rows(tokens / length, length)

    def _text(self, program: str, words: Sequence[str], flags: Mapping[str, str]) -> float:
        """Bytes of text that a program reads."""
        if program == "wikiextractor.WikiExtractor":
            return UNPACKED * self._bytes(words[words.index(program) + 1], packed=True)
        if program == "prepare_data.py":
            return self._bytes(flags.get("input", ""))
        epochs = int(flags.get("epochs_to_generate") or 3)
        return epochs * self._bytes(flags.get("train_corpus", ""))

    def _bytes(self, path: str, packed: bool = False) -> float:
        """Bytes of a file or folder: on disk, or of what it will be made from, or of the paper's corpus."""
        if size := size_of(path):
            return size
        words = self._makers.get(path)
        program = next((word for word in words or () if word in _TEXT), None)
        if words and program:
            own = flags_of(words)
            return self._text(program, words, own | {"epochs_to_generate": "1"})
        if words and "demo.make" in words:
            return 1e6
        return WORDS * BYTES_PER_WORD / (UNPACKED if packed else 1)


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """Flag -> its value, empty for a flag without one; the last of its name holds."""
    flags: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
            flags[name] = value if given else "" if following.startswith("--") else following
    return flags


def read_shape(path: Path) -> BertConfig | None:
    """The sizes in a config.json; None where it is not there or is not understood."""
    try:
        told = json.loads(path.read_text("utf-8"))
        return BertConfig(**{f.name: told[f.name] for f in fields(BertConfig) if f.name in told})
    except (OSError, ValueError, TypeError, UserError):
        return None


@cache
def count_rows(path: Path) -> Rows | None:
    """Rows of a file, estimated from its first part, and their length; None where there is no file."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(1 << 20)
    except OSError:
        return None
    count = head.count(b"\n") * size / max(len(head), 1)
    return Rows(max(count, 1), 3 + size / max(count, 1) / BYTES_PER_TOKEN)


@cache
def size_of(path: str) -> float:
    """Bytes of a file, or of the files in a folder; 0 where neither is there."""
    place = Path(path)
    if not path or not place.exists():
        return 0
    files = [place] if place.is_file() else place.rglob("*")
    return float(sum(file.stat().st_size for file in files if file.is_file()))


def _steps(rows: Rows, flags: Mapping[str, str], epochs: float) -> tuple[float, float]:
    """Forward passes of a training, micro-steps counted each, and the rows they see."""
    batch = int(flags.get("train_batch_size") or 32)
    epochs = float(flags.get("num_train_epochs") or epochs)
    steps = epochs * math.ceil(rows.count / batch)
    if flags.get("max_steps"):
        steps = min(steps, int(flags["max_steps"]))
    seen = min(epochs * rows.count, steps * batch)
    return steps * int(flags.get("gradient_accumulation_steps") or 1), seen
