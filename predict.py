"""Classify lines of text with a trained model: label and probabilities for each line.

    python predict.py --model models/distilled_tinybert_4l_sst-2 --input reviews.txt --output labels.tsv
    echo "It is raining." | python predict.py --model models/distilled_tinybert_4l_cola --format jsonl

A line is a sentence, or two with a tab between them; one answer a line comes out, in the same order, while
the input is still being read. --model is a folder that training or export.py wrote, or an .onnx file in it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch

from cli.flags import add_model_flags, whole_number
from cli.help import script_parser
from cli.onnx_models import OnnxClassifier
from cli.training import check_length, check_vocabulary, load_tokenizer, read_config
from distillation.distributed import start_runtime
from tasks.evaluation import predict_logits
from tasks.token_store import encode_pairs
from transformer.errors import UserError, run_script
from transformer.file_utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME, atomic_open
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer

BATCHES_AT_ONCE = 16  # of a file; their rows are sorted by length, so that little is padding


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--model", required=True, help="folder, hub name or address, or .onnx file")
    group.add_argument("--input", default="-", help="text file, or - for standard input")
    group.add_argument("--output", default="-", help="file, or - for standard output")
    group.add_argument(
        "--format",
        choices=("tsv", "jsonl"),
        default="tsv",
        help="a header and columns, or a JSON object a line, which holds the text as well",
    )
    add_model_flags(group)
    group = parser.add_argument_group("running")
    group.add_argument("--batch_size", type=whole_number, default=32, help="lines in a batch")
    group.add_argument(
        "--max_seq_length",
        type=whole_number,
        help="longest line in pieces, longer ones are truncated (default: 128, or as many as the model "
        "has positions)",
    )
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    device = start_runtime(args.no_cuda).device
    folder, graph = find_graph(args.model)
    config = read_config(folder, args.cache_dir)
    tokenizer = load_tokenizer(args, folder)
    check_vocabulary(tokenizer, config, folder, args.cache_dir)
    args.max_seq_length = args.max_seq_length or min(128, config.max_position_embeddings)
    check_length(config, args.max_seq_length, folder)
    if graph is not None:
        model: Callable = OnnxClassifier(graph, config)
    else:
        model = TinyBertForSequenceClassification.from_pretrained(folder, None, args.cache_dir)
        model.to(device)
    names = config.id2label or [f"LABEL_{i}" for i in range(config.num_labels)]
    interactive = args.input == "-"
    at_once = args.batch_size * (1 if interactive else BATCHES_AT_ONCE)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open_input(args.input))
        output = sys.stdout
        if args.output != "-":
            output = stack.enter_context(atomic_open(args.output))
        if args.format == "tsv":
            print("\t".join(header(names)), file=output)
        rows = read_rows(lines, "standard input" if interactive else args.input)
        try:
            while block := list(itertools.islice(rows, at_once)):
                logits = answer(model, tokenizer, block, args, device)
                write_answers(output, args.format, names, block, logits)
        except BrokenPipeError:  # the reader, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_graph(source: str) -> tuple[str, Path | None]:
    """The model's folder, and its ONNX graph if that is what is to be run.

    Raises:
        UserError: a folder without torch's weights holds several graphs.
    """
    path = Path(source)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise UserError(f"--model {path}: no such file; export.py --to onnx makes one")
        return os.fspath(path.parent), path
    if path.is_dir() and not any(
        (path / name).is_file() for name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME)
    ):
        graphs = sorted(path.glob("*.onnx"))
        if len(graphs) > 1:
            found = " or ".join(map(str, graphs))
            raise UserError(f"--model {path}: holds several models; give {found}")
        return source, graphs[0] if graphs else None
    return source, None


def open_input(name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    return open(name, "rb")


def read_rows(lines: IO[bytes], name: str) -> Iterator[tuple[str, ...]]:
    """Yield the one or two texts of each line.

    Raises:
        UserError: a line is no UTF-8, or has another number of texts than the first, or more than two.
    """
    expected = None
    for number, line in enumerate(lines, 1):
        try:
            texts = tuple(line.decode("utf-8").rstrip("\r\n").split("\t"))
        except UnicodeDecodeError:
            raise UserError(f"{name}, line {number}: not UTF-8") from None
        expected = expected or len(texts)
        if len(texts) > 2:
            raise UserError(f"{name}, line {number}: {len(texts)} texts; expected one or two")
        if len(texts) != expected:
            told = f"{len(texts)}, line 1 has {expected}; expected the same number in every line"
            raise UserError(f"{name}, line {number}: texts between tabs: {told}")
        yield texts


def answer(
    model: Callable,
    tokenizer: BertTokenizer,
    rows: list[tuple[str, ...]],
    args: argparse.Namespace,
    device: torch.device,
) -> np.ndarray:
    """Logits of the rows, float32 [n, C]."""
    texts = [list(column) for column in zip(*rows, strict=True)]
    store = encode_pairs(
        tokenizer, texts[0], texts[1] if len(texts) > 1 else None, args.max_seq_length
    )
    return predict_logits(model, store, args.batch_size, device)


def header(names: list[str]) -> list[str]:
    """Columns of the TSV output: for a regression the score alone."""
    return ["score"] if len(names) == 1 else ["label", "probability", *names]


def write_answers(
    output: io.TextIOBase,
    style: str,
    names: list[str],
    rows: list[tuple[str, ...]],
    logits: np.ndarray,
) -> None:
    """Write a block's answers and have them seen at once."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    for texts, scores, odds in zip(
        rows, logits, shifted / shifted.sum(1, keepdims=True), strict=True
    ):
        best = int(odds.argmax())
        if style == "jsonl":
            told = dict(zip(("text", "text_b"), texts, strict=False))
            if len(names) == 1:
                told["score"] = round(float(scores[0]), 6)
            else:
                odds = [round(float(value), 6) for value in odds]
                told["label"], told["probabilities"] = (
                    names[best],
                    dict(zip(names, odds, strict=True)),
                )
            print(json.dumps(told, ensure_ascii=False), file=output)
        elif len(names) == 1:
            print(f"{scores[0]:.6f}", file=output)
        else:
            print(names[best], *(f"{v:.6f}" for v in (odds[best], *odds)), sep="\t", file=output)
    output.flush()


if __name__ == "__main__":
    run_script(main)
