"""Questions about texts at the command line: flags, data, what a model scores and answers."""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cli.flags import proportion, whole_number
from files.atomic import atomic_open
from files.checksums import file_facts
from files.errors import UserError
from tasks.evaluation import predict_spans
from tasks.spans import Answers, answer, best_answers
from tasks.squad import Questions, read_questions
from tasks.squad_metrics import METRICS, metrics_of
from tasks.windows import STRIDE_MODES, Cut, Windows, make_windows
from transformer.lengths import LengthConfig, parse_lengths
from transformer.modeling import BertForQuestionAnswering
from transformer.tokenization import BertTokenizer

NO_ANSWER = ("keep", "drop")  # or sample:P


def add_question_flags(group: argparse._ArgumentGroup) -> None:
    """Add how texts are cut into windows, and what an answer may be."""
    group.add_argument(
        "--doc_stride",
        type=whole_number,
        default=128,
        help="tokens from the beginning of one window of a long text to that of the next",
    )
    group.add_argument(
        "--stride_mode",
        choices=STRIDE_MODES,
        default="step",
        help="hf: --doc_stride is what two windows share, as in the tokenizers of transformers",
    )
    group.add_argument(
        "--max_query_length",
        type=whole_number,
        default=64,
        help="longest question in tokens; longer ones are truncated",
    )
    group.add_argument(
        "--max_answer_length", type=whole_number, default=30, help="longest answer in tokens"
    )
    group.add_argument(
        "--n_best_size",
        type=whole_number,
        default=20,
        help="answers a question in nbest_predictions.json",
    )
    group.add_argument(
        "--version_2_with_negative",
        action="store_true",
        help="questions may have no answer, as in SQuAD 2.0",
    )
    group.add_argument(
        "--null_score_diff_threshold",
        type=float,
        default=0.0,
        help="with --version_2_with_negative: no answer is given where none scores higher than the best one "
        "by more",
    )
    group.add_argument(
        "--metric",
        choices=METRICS,
        default="squad",
        help="exact match and F1 as SQuAD's own; cjk counts characters of scripts without spaces",
    )


def add_length_flags(group: argparse._ArgumentGroup) -> None:
    """Add how many tokens each layer passes on."""
    group.add_argument(
        "--length_config",
        metavar="L1,L2,…",
        help="how many tokens each layer passes on: of a sequence of --max_seq_length tokens (308,247,198), "
        "or as shares (0.8,0.64,0.52)",
    )
    group.add_argument(
        "--length_mode",
        choices=("relative", "absolute"),
        default="relative",
        help="relative: lengths are shares of each sequence's own length; absolute: numbers of tokens, as "
        "published, of which padding is dropped first",
    )
    group.add_argument(
        "--count_padding",
        action="store_true",
        help="let padding take part in losses and in the ranking of tokens, as the original does",
    )


def lengths_from(args: argparse.Namespace, layers: int) -> LengthConfig | None:
    """The configuration of `--length_config`; None without one.

    Raises:
        UserError: it is none, or does not fit the layers.
    """
    if args.length_config is None:
        return None
    try:
        config = LengthConfig(parse_lengths(args.length_config), count_padding=args.count_padding)
    except ValueError:
        raise UserError(
            f"--length_config {args.length_config}: expected numbers such as 308,247,198, or shares such as "
            "0.8,0.64,0.52"
        ) from None
    try:
        config.check(layers)
    except UserError as error:
        raise UserError(f"--length_config: {error}") from None
    return in_mode(args, config)


def in_mode(args: argparse.Namespace, config: LengthConfig) -> LengthConfig:
    """A configuration of sequences of `--max_seq_length` tokens, as `--length_mode` says."""
    if args.length_mode == "absolute":
        return config.of_tokens(args.max_seq_length)
    return config.of_shares(args.max_seq_length)


def cut_from(args: argparse.Namespace) -> Cut:
    """How texts are cut."""
    return Cut(args.max_seq_length, args.doc_stride, args.max_query_length, args.stride_mode)


def squad_file(args: argparse.Namespace, split: str) -> Path:
    """The file of questions to train on ("train") or to answer ("dev").

    Raises:
        UserError: it is not there.
    """
    given = args.train_file if split == "train" else args.predict_file
    version = "v2.0" if args.version_2_with_negative else "v1.1"
    path = Path(args.data_dir or ".") / (given or f"{split}-{version}.json")
    if not path.is_file():
        flag = "--train_file" if split == "train" else "--predict_file"
        raise UserError(
            f"{path}: no such file; expected questions as SQuAD's JSON has them: --data_dir names the "
            f"folder, {flag} the file"
        )
    return path


class Dev(NamedTuple):
    """Questions to answer, and how."""

    questions: Questions
    windows: Windows
    args: argparse.Namespace
    tokenizer: BertTokenizer

    def half(self, which: int) -> Dev:
        """The questions of every other article, beginning with the first or second; where there is but one,
        every other question."""
        groups = self.questions.article_of
        if len(np.unique(groups)) < 2:
            groups = np.arange(len(self.questions))
        order = np.unique(groups, return_inverse=True)[1]
        chosen = self.questions.take(np.flatnonzero(order % 2 == which))
        return open_dev(self.args, self.tokenizer, chosen)

    def scores(
        self,
        model: BertForQuestionAnswering,
        device: torch.device,
        precision: AbstractContextManager | None = None,
        lengths: LengthConfig | None = None,
    ) -> np.ndarray:
        """What a model gives every token, float32 [T, 2]."""
        if lengths is not None and self.args.version_2_with_negative:
            lengths = lengths._replace(
                keep_first=True
            )  # whose scores are those of there being no answer
        return predict_spans(
            model, self.windows.store, self.args.eval_batch_size, device, precision, lengths=lengths
        )

    def answers(self, scores: np.ndarray) -> Answers:
        """The best span of each question."""
        return answer(scores, self.windows, self.questions, self.args.max_answer_length)

    def metrics(self, scores: np.ndarray, answers: Answers | None = None) -> dict[str, float]:
        """Exact match, F1, and the mean loss of the windows."""
        answers = answers or self.answers(scores)
        odds = answers.null - answers.scores if self.args.version_2_with_negative else None
        found = metrics_of(
            self.questions, self.given(answers), odds, answers.texts, self.args.metric
        )
        return {"f1": found.pop("f1"), **found, "loss": self.loss(scores)}

    def given(self, answers: Answers) -> list[str]:
        """The answers, of which some may be "" in SQuAD 2.0."""
        if not self.args.version_2_with_negative:
            return answers.texts
        return answers.given(self.args.null_score_diff_threshold)

    def loss(self, scores: np.ndarray) -> float:
        """-log softmax at the answer's tokens, mean of first and last and over windows; padding left out."""
        store, labels = self.windows.store, self.windows.labels
        begins = store.offsets[:-1]
        highest = np.maximum.reduceat(scores, begins)
        shifted = np.exp(scores - np.repeat(highest, store.lengths, 0), dtype=np.float64)
        total = np.log(np.add.reduceat(shifted, begins)) + highest
        right = np.stack([scores[begins + labels[:, side], side] for side in (0, 1)], 1)
        return float((total - right).mean())

    def write(self, folder: Path, scores: np.ndarray) -> dict[str, float]:
        """Write predictions.json, nbest_predictions.json, null_odds.json (2.0) and metrics.json."""
        answers, ids = self.answers(scores), self.questions.ids
        negative = self.args.version_2_with_negative
        best = best_answers(
            scores, self.windows, self.questions, self.args.n_best_size,
            self.args.max_answer_length, negative,
        )  # fmt: skip
        metrics = self.metrics(scores, answers)
        files: dict[str, Any] = {
            "predictions.json": dict(zip(ids, self.given(answers), strict=True)),
            "nbest_predictions.json": dict(zip(ids, best, strict=True)),
            "metrics.json": metrics,
        }
        if negative:
            odds = (answers.null - answers.scores).tolist()
            files["null_odds.json"] = dict(zip(ids, odds, strict=True))
        for name, content in files.items():
            with atomic_open(folder / name) as file:
                json.dump(content, file, indent=4, ensure_ascii=False)
                file.write("\n")
        return metrics


def open_dev(args: argparse.Namespace, tokenizer: BertTokenizer, questions: Questions) -> Dev:
    """Cut questions into windows, in memory."""
    return Dev(questions, make_windows(questions, tokenizer, cut_from(args)), args, tokenizer)


def read_dev(args: argparse.Namespace, tokenizer: BertTokenizer) -> Dev:
    """Read the questions to answer.

    Raises:
        UserError: a file is missing or wrong; or no question has an answer to compare with.
    """
    questions = read_questions(squad_file(args, "dev"), args.version_2_with_negative)
    if args.max_eval_questions is not None:
        questions = questions.take(np.arange(min(args.max_eval_questions, len(questions))))
    hidden = [
        i
        for i, answers in enumerate(questions.answers)
        if not answers and not questions.impossible[i]
    ]
    if hidden:
        raise UserError(
            f"{questions.path}: {len(hidden):,} questions have no answer, the first is "
            f"{questions.ids[hidden[0]]}; expected answers to compare with (predict.py answers questions "
            "whose answers are not known; --version_2_with_negative is for those that have none)"
        )
    return open_dev(args, tokenizer, questions)


def chosen_windows(windows: Windows, questions: Questions, how: str, seed: int) -> np.ndarray:
    """The rows to train on.

    A question whose answer is not in its text is left out. Of the windows in which the answer of their
    question is not, all are kept, none, or each with a probability (`sample:P`).
    """
    known = np.array([bool(s and s[0] >= 0) for s in questions.starts]) | questions.impossible
    rows = known[windows.question]
    without = (windows.labels[:, 0] == 0) & ~questions.impossible[windows.question]
    share = {"keep": 1.0, "drop": 0.0}.get(how)
    if share is None:
        share = float(how.removeprefix("sample:"))
    drawn = np.random.default_rng(seed % 2**64).random(len(windows)) < share
    return np.flatnonzero(rows & (~without | drawn))


def no_answer_windows(text: str) -> str:
    """Read `keep`, `drop` or `sample:P`."""
    if text not in NO_ANSWER:
        kind, _, value = text.partition(":")
        if kind != "sample":
            raise argparse.ArgumentTypeError(f"{text}: expected keep, drop or sample:0.5")
        proportion(value)
    return text


def question_facts(path: Path, questions: int, windows: int) -> dict[str, Any]:
    """What a record says of a file of questions."""
    return {**file_facts([path])[0], "rows": questions, "windows": windows, "dataset": None}
