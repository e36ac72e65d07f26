"""What a demo run has left: its commands, its records, and the example that is followed."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from corpus.token_store import TokenStore, encode_pairs
from demo.make import DUMP_NAME
from files.errors import UserError
from tasks.sentence_words import SentenceSplitter
from tasks.task import Examples, Task, read_split
from transformer.modeling import BertModel
from transformer.tokenization import BertTokenizer

_WIDTH = 100


@dataclass(frozen=True)
class DemoRun:
    """A finished run of the demo profile.

    Attributes:
        folder: holds data, models and results.
        task: the task whose rows are followed.
    """

    folder: Path
    task: Task

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def glue(self) -> Path:
        return self.folder / "data" / "glue_data" / self.task.folder

    @property
    def dump(self) -> Path:
        return self.folder / "data" / DUMP_NAME

    @property
    def stages(self) -> dict[str, Path]:
        """The models of the task: teacher, general student, and what the two stages made of it."""
        student = f"distilled_tinybert_4l_{self.task.key}"
        return {
            "teacher": self.models / f"final_{self.task.key}_teacher",
            "general": self.models / "distilled_tinybert_4l",
            "layers": self.models / f"tmp_{student}",
            "predictions": self.models / student,
            "evaluation": self.folder / "results" / "eval" / student,
        }

    def check(self) -> None:
        """Refuse a folder that is not a finished run.

        Raises:
            UserError: it names what is missing.
        """
        wanted = (self.dump, self.glue / "train_aug.tsv", *self.stages.values())
        for path in wanted:
            if not path.exists():
                raise UserError(
                    f"{path}: not there; expected a finished run, as `make demo` leaves it"
                )

    @cached_property
    def tokenizer(self) -> BertTokenizer:
        return BertTokenizer.from_pretrained(self.models / "bert-base-uncased", None, None)

    @cached_property
    def bert(self) -> BertModel:
        """The teacher of general distillation, frozen."""
        model = BertModel.from_pretrained(self.models / "bert-base-uncased")
        return model.requires_grad_(False)

    def log(self, name: str) -> str:
        """A log of reproduction.sh."""
        path = self.folder / "results" / "logs" / f"{name}.log"
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path}: not there; expected the logs of reproduction.sh") from None

    def command(self, log: str, *words: str) -> str:
        """The first command of a log that holds all of `words`, as typed, over several lines.

        Raises:
            UserError: there is none.
        """
        for line in self.log(log).splitlines():
            typed = line.removeprefix("$ ")
            if typed != line and set(words) <= set(shlex.split(typed)):
                return _folded(typed)
        raise UserError(f"log {log}: no command with {' '.join(words)}; expected a finished run")

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        """The lines of a training run's metrics.jsonl."""
        lines = (self.stages[stage] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def record(self, stage: str) -> dict[str, Any]:
        """A training run's run.json, or an evaluation's eval.json."""
        name = "eval.json" if stage == "evaluation" else "run.json"
        return json.loads((self.stages[stage] / name).read_text(encoding="utf-8"))

    @cached_property
    def splitter(self) -> SentenceSplitter:
        return SentenceSplitter(self.tokenizer, self.bert.config.max_length)

    @cached_property
    def train(self) -> Examples:
        return read_split(self.task, self.glue, "train")

    @cached_property
    def row(self) -> int:
        """The training row that is followed.

        The first in which both the language model and the word vectors may replace a word; without
        one, the first in which the language model may.
        """
        by_model = None
        for row in range(len(self.train)):
            sentences = [self.splitter(text) for text in self.texts(row)]
            if any(sentence.masked for sentence in sentences):
                by_model = row if by_model is None else by_model
                if any(sentence.compound for sentence in sentences):
                    return row
        if by_model is None:
            raise UserError(f"{self.glue}: no word that augmentation may replace")
        return by_model

    def texts(self, row: int) -> list[str]:
        """The one or two sentences of a training row."""
        sides = (self.train.text_a, self.train.text_b)
        return [side[row] for side in sides if side is not None]

    @cached_property
    def example(self) -> TokenStore:
        """The training row, tokenised."""
        texts = [[text] for text in self.texts(self.row)]
        length = self.record("layers")["arguments"]["max_seq_length"]
        return encode_pairs(self.tokenizer, texts[0], texts[1] if texts[1:] else None, length)

    def label(self, label: int) -> str:
        """A class id by name."""
        return str(self.record("predictions")["model"]["config"]["id2label"][str(label)])


def _folded(command: str) -> str:
    """A command over several lines, broken before flags."""
    first, *rest = command.replace(" -", "\n-").split("\n")
    lines = [first]
    for part in rest:
        if len(lines[-1]) + len(part) < _WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)
