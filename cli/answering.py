"""Answering questions line by line: what predict.py does with a model that finds spans."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from cli.budget import chosen_lengths
from cli.squad import cut_from
from files.errors import UserError
from tasks.evaluation import predict_spans
from tasks.spans import answer, best_answers
from tasks.squad import Questions
from tasks.windows import make_windows
from transformer.configuration import EncoderConfig
from transformer.lengths import LengthConfig
from transformer.tokenization import BertTokenizer

HEADER = ("answer", "score", "start", "end")


def answer_all(
    args: argparse.Namespace,
    config: EncoderConfig,
    model: Callable,
    tokenizer: BertTokenizer,
    device: torch.device,
    lines: Iterator[tuple[int, bytes]],
    name: str,
    output: IO[str],
) -> int:
    """Answer every question, some at a time, in their order; return how many there were.

    Raises:
        UserError: a line is no question.
    """
    count, lengths = 0, None
    if args.format == "tsv":
        print("\t".join(HEADER), file=output)
    rows = read_pairs(args, lines, name)
    while block := list(itertools.islice(rows, 16 * args.batch_size)):
        questions = questions_of(block)
        windows = make_windows(questions, tokenizer, cut_from(args))
        if not count:
            sample = np.arange(min(args.batch_size, len(windows)))
            lengths = chosen_lengths(args, config, model, partial(windows.store.collate, sample))
        if lengths is not None and args.version_2_with_negative:
            lengths = lengths._replace(keep_first=True)
        scores = predict_spans(model, windows.store, args.batch_size, device, lengths=lengths)
        found = answer(scores, windows, questions, args.max_answer_length)
        listed = best_answers(
            scores, windows, questions, args.n_best_size, args.max_answer_length,
            args.version_2_with_negative,
        )  # fmt: skip
        texts = found.texts
        if args.version_2_with_negative:
            texts = found.given(args.null_score_diff_threshold)
        for (question, _), text, span, best in zip(
            block, texts, found.characters.tolist(), listed, strict=True
        ):
            odds = next((told["probability"] for told in best if told["text"] == text), 0.0)
            start, end = span if text else (0, 0)
            if args.format == "jsonl":
                told = {"question": question, "answer": text, "score": round(odds, 6)}
                told |= {"start": start, "end": end}
                print(json.dumps(told, ensure_ascii=False), file=output)
            else:
                print(" ".join(text.split()), f"{odds:.6f}", start, end, sep="\t", file=output)
        output.flush()
        count += len(block)
    return count


def read_pairs(
    args: argparse.Namespace, lines: Iterator[tuple[int, bytes]], name: str
) -> Iterator[tuple[str, str]]:
    """Question and text of each line: of a JSON object, or with a tab between.

    Raises:
        UserError: `FILE, line N`: a line is neither.
    """
    if args.question is not None:
        yield args.question, args.context
        return
    for number, line in lines:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{name}, line {number}: not UTF-8") from None
        if text.startswith("{"):
            try:
                row: Any = json.loads(text)
                pair = row["question"], row["context"]
            except (ValueError, KeyError, RecursionError):
                pair = None, None
        else:
            pair = tuple(text.split("\t"))
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise UserError(
                f"{name}, line {number}: expected a question and the text it is about, with a tab between, "
                'or as JSON: {"question": "…", "context": "…"}'
            )
        yield pair


def questions_of(block: list[tuple[str, str]]) -> Questions:
    """Questions whose answers are not known."""
    numbers: dict[str, int] = {}
    for _, context in block:
        numbers.setdefault(context, len(numbers))
    count = len(block)
    return Questions(
        Path("-"), [str(i + 1) for i in range(count)], [question for question, _ in block],
        list(numbers), np.array([numbers[context] for _, context in block], np.int32),
        np.zeros(count, np.int32), [[] for _ in block], [[] for _ in block], np.zeros(count, bool),
    )  # fmt: skip


def shortened(model: Callable, lengths: LengthConfig | None) -> Callable:
    """A model that is called as before and passes on so many tokens."""
    if lengths is None:
        return model
    call = partial(model, lengths=lengths)
    call.config = model.config
    return call
