"""Classify lines of text with a trained model, or answer questions about texts.

    python predict.py --model models/distilled_tinybert_4l_sst2 --input reviews.txt --output labels.tsv
    echo "It is raining." | python predict.py --model models/distilled_tinybert_4l_cola --format jsonl

    python predict.py --model runs/squad/checkpoint-best --question "Who sleeps?" --context "The cat sleeps."

A line is a sentence, or two with a tab between them, as the model learned; of a model that answers questions
it is a question and the text it is about, with a tab between or as JSON. One answer a line comes out,
in the same order, while the input is still being read. --model is a folder that training or export.py
wrote, or an .onnx file in it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cli.answering import answer_all, shortened
from cli.budget import add_budget_flag, chosen_lengths
from cli.flags import add_head_flag, add_model_flags, whole_number
from cli.help import script_parser
from cli.squad import add_question_flags
from cli.training import check_length, check_vocabulary, load_tokenizer
from corpus.text_formats import is_json, refuse_binary
from corpus.token_store import MAX_SEQUENCE, TokenStore, encode_pairs
from distillation.distributed import start_runtime
from files.atomic import atomic_open, check_no_input
from files.errors import UserError, run_script
from tasks.classifiers import read_classifier, recorded_task
from tasks.evaluation import predict_logits
from tasks.layout import is_header
from tasks.own import FORMATS, read_task_file
from tasks.task import check_label_order
from transformer.configuration import EncoderConfig
from transformer.loading import answers_questions, read_config
from transformer.modeling import BertForQuestionAnswering
from transformer.onnx import OnnxModel
from transformer.tokenization import BertTokenizer
from transformer.weight_shards import WEIGHTS_FILES

BATCHES_AT_ONCE = 16  # whose rows are sorted by length, so that little is padding
READ_BYTES = 1 << 20
ODD = {
    "empty": "they are classified as if they were texts",
    "cut": "they have more tokens than --max_seq_length",
}


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
    group.add_argument(
        "--single",
        action="store_true",
        help="take each line as one text, whatever the model learned; a tab in it counts as a space",
    )
    group.add_argument(
        "--task_file",
        metavar="FILE",
        help="JSON file of the task that the model learned: --input may then be a file of its kind (.csv, "
        ".tsv, .jsonl)",
    )
    add_head_flag(group)
    add_model_flags(group)
    group = parser.add_argument_group("models that answer questions")
    group.add_argument("--question", help="one question, in place of --input; with --context")
    group.add_argument("--context", help="the text that --question is about")
    add_question_flags(group)
    group = parser.add_argument_group("running")
    add_budget_flag(group)
    group.add_argument("--batch_size", type=whole_number, default=32, help="lines in a batch")
    group.add_argument(
        "--max_seq_length",
        type=whole_number,
        help="longest line in tokens, longer ones are truncated, longer texts of questions cut into windows "
        "(default: 128, of questions 384, or as many as the model has positions)",
    )
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if "-" not in (args.input, args.output):
        check_no_input("output", args.output, [args.input])
    if args.output == "-" and sys.stdout is None:
        raise UserError("--output -: standard output is closed; name a file")
    if Path(args.output).is_dir():
        raise UserError(f"--output {args.output}: is a folder; expected the name of a file")
    device = start_runtime(args.no_cuda).device
    folder, graph = find_graph(args.model)
    config = read_config(folder, args.cache_dir)
    tokenizer = load_tokenizer(args, folder)
    check_vocabulary(tokenizer, config, folder, args.cache_dir)
    answers = answers_questions(folder, args.cache_dir)
    check_kind(args, folder, answers)
    args.max_seq_length = args.max_seq_length or min(384 if answers else 128, config.max_length)
    check_length(config, args.max_seq_length, folder)
    if graph is not None:
        if args.head:
            raise UserError(f"--head {args.head}: {graph} holds its head; export the model again")
        if args.budget:
            raise UserError(f"--budget: {graph} holds its lengths; export the model again")
        model: Callable = OnnxModel(graph, config)
    elif answers:
        model = BertForQuestionAnswering.from_pretrained(folder, cache_dir=args.cache_dir).to(
            device
        )
    else:
        model = read_classifier(folder, args.cache_dir, args.head).to(device)
        config = model.config
    told: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(open_input(args.input))
        if lines.isatty():
            print("reading lines from the terminal; Ctrl-D ends them", file=sys.stderr)
        output = sys.stdout
        if args.output != "-":
            output = stack.enter_context(atomic_open(args.output))
        name = "standard input" if args.input == "-" else args.input
        try:
            if answers:
                numbered = enumerate(itertools.chain.from_iterable(whole_lines(lines)), 1)
                told["lines"] = answer_all(
                    args, config, model, tokenizer, device, numbered, name, output
                )
            else:
                blocks = read_blocks(args, folder, config, lines, name)
                classify(args, config, model, tokenizer, device, blocks, output, told)
        except UserError as error:
            if output is sys.stdout:
                raise
            raise UserError(f"{error}; {args.output} is not written") from None
        except BrokenPipeError:  # the reader, such as head, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for what, meaning in ODD.items():
        if told[what]:
            print(f"note: {name}: {what} lines: {told[what]:,}; {meaning}", file=sys.stderr)
    if args.output != "-":
        answers = f"{told['lines']:,} answer{'s' * (told['lines'] != 1)}"
        print(f"wrote {answers} to {args.output}", file=sys.stderr)
    return 0


def check_kind(args: argparse.Namespace, folder: str, answers: bool) -> None:
    """Refuse flags that are for models of another kind."""
    if (args.question is None) != (args.context is None):
        raise UserError("--question and --context: give both, or neither")
    given = [flag for flag in ("head", "task_file", "single") if getattr(args, flag)]
    if answers and given:
        raise UserError(f"--{given[0]}: {folder} answers questions; leave it out")
    if answers and args.doc_stride == 128:  # as long as a window holds, where that is less
        args.doc_stride = min(128, ((args.max_seq_length or 384) - 3) // 3)
    if args.question is not None and not answers:
        raise UserError(f"--question: {folder} is a classifier; give it lines of text")


def classify(
    args: argparse.Namespace,
    config: EncoderConfig,
    model: Callable,
    tokenizer: BertTokenizer,
    device: torch.device,
    blocks: Iterator[list[tuple[str, ...]]],
    output: io.TextIOBase,
    told: Counter[str],
) -> None:
    """Write an answer for every line; what there was is counted in `told`."""
    names = config.id2label or [f"LABEL_{i}" for i in range(config.num_labels)]
    if args.format == "tsv":
        print("\t".join(header(names)), file=output)
    for block in blocks:
        store = encode(tokenizer, block, args.max_seq_length, told)
        if not told["lines"]:
            sample = np.arange(min(args.batch_size, len(store)))
            lengths = chosen_lengths(args, config, model, partial(store.collate, sample))
            model = shortened(model, lengths)
        logits = predict_logits(model, store, args.batch_size, device)
        write_answers(output, args.format, names, block, logits)
        told["lines"] += len(block)


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
    if path.is_dir() and not any((path / name).is_file() for name in WEIGHTS_FILES):
        graphs = sorted(path.glob("*.onnx"))
        if len(graphs) > 1:
            found = " or ".join(map(str, graphs))
            raise UserError(f"--model {path}: holds several models; give {found}")
        return source, graphs[0] if graphs else None
    return source, None


def open_input(name: str) -> contextlib.AbstractContextManager[io.BufferedReader]:
    if name == "-":
        if sys.stdin is None:
            raise UserError("--input -: standard input is closed; name a file")
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        raise UserError(f"--input {name}: {error.strerror}") from None


class Kind(NamedTuple):
    """How many texts each line has, who says so, and whether tabs part them."""

    texts: int
    reason: str
    split: bool = True


def read_blocks(
    args: argparse.Namespace,
    folder: str,
    config: EncoderConfig,
    lines: io.BufferedReader,
    name: str,
) -> Iterator[list[tuple[str, ...]]]:
    """Yield the texts of the input, some rows at once: of its lines, or of a file of the task's kind.

    Raises:
        UserError: see `read_rows` and `OwnTask.open_rows`; or the model's labels are not the task's.
    """
    most = BATCHES_AT_ONCE * args.batch_size
    task = recorded_task(folder)
    if args.task_file:
        task = read_task_file(args.task_file)
        check_label_order(task, dict(enumerate(config.id2label or ())), folder)
        path = Path(args.input)
        if path.suffix.removeprefix(".").lower() in FORMATS:
            layout, rows = task.open_rows(path, "test")
            columns = [column for column in layout.columns[:2] if column is not None]
            while block := [tuple(f[c] for c in columns) for _, f in itertools.islice(rows, most)]:
                yield block
            return
    kind = task and Kind(1 + task.pair, f"as {folder} learned {task.folder}")
    if args.single:
        kind = Kind(1, "as --single says", split=False)
    yield from read_rows(lines, name, most, kind)


def read_rows(
    lines: io.BufferedReader, name: str, most: int, kind: Kind | None = None
) -> Iterator[list[tuple[str, ...]]]:
    """Yield the one or two texts of each line, as many lines at once as are there, `most` at most.

    Args:
        kind: of every line; None: as the first. Where tabs do not part texts, they are spaces.

    Raises:
        UserError: a line is not UTF-8, or is of another kind, or has more than two texts. The lines before
            it have been yielded. Or the input is not lines of text by the look of the first.
    """
    number = 0
    for there in whole_lines(lines):
        if not number and (kind is None or kind.split):
            check_first_line(there[0], name)
        for start in range(0, len(there), most):
            block: list[tuple[str, ...]] = []
            for line in there[start : start + most]:
                number += 1
                try:
                    texts = texts_of(line, number == 1, kind)
                except UserError as error:
                    if block:
                        yield block
                    raise UserError(f"{name}, line {number}: {error}") from None
                kind = kind or Kind(len(texts), "as in line 1")
                block.append(texts)
            yield block


def check_first_line(line: bytes, name: str) -> None:
    """Refuse what is not lines of text; say so where the first line is a header by its look.

    Raises:
        UserError: it is binary, JSON, or has the line ends of old Macs.
    """
    refuse_binary(name, line)
    line = line.removeprefix(b"\xef\xbb\xbf").strip()
    if b"\r" in line:
        raise UserError(
            f"{name}, line 1: has a carriage return within it; expected lines that end in line feeds: "
            "`tr '\\r' '\\n'` converts them"
        )
    if line.startswith((b"{", b"[")) and (line == b"[" or is_json(line)):
        raise UserError(
            f"{name}, line 1: is JSON; expected a line of text. --task_file names the columns of a .jsonl "
            "file; --single takes each line as one text"
        )
    if is_header(line.decode("utf-8", "replace").split("\t")):
        print(
            f"note: {name}: line 1 looks like a header, and is classified as a text",
            file=sys.stderr,
        )


def texts_of(line: bytes, first: bool, kind: Kind | None) -> tuple[str, ...]:
    """The texts of a line, which has to be of a kind."""
    try:  # a byte order mark is not text
        text = line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        raise UserError(
            "not UTF-8; unpack the file, or convert it, with iconv -f LATIN1 -t UTF-8, say"
        ) from None
    text = text.rstrip("\r\n")
    if kind is not None and not kind.split:
        return (text,)
    texts = tuple(text.split("\t"))
    if len(texts) > 2:
        raise UserError(
            f"{len(texts)} texts with tabs between; expected one or two. For the test files of GLUE "
            "there is task_distill.py --do_predict"
        )
    if kind is not None and len(texts) != kind.texts:
        told = f"{counted(len(texts))}; expected {counted(kind.texts)}, {kind.reason}"
        advice = "" if kind.reason == "as in line 1" else "; --single takes each line as one text"
        raise UserError(told + advice)
    return texts


def counted(texts: int) -> str:
    """Say how many texts a line has."""
    return "a single text" if texts == 1 else "two texts with a tab between"


def whole_lines(stream: io.BufferedReader) -> Iterator[list[bytes]]:
    """Yield the lines that a stream has by now, without waiting for more than one of them."""
    begun: list[bytes] = []
    while chunk := stream.read1(READ_BYTES):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield [b"".join(begun), *others[:-1]]
            begun = [others[-1]]
    if last := b"".join(begun):
        yield [last]


def encode(
    tokenizer: BertTokenizer, rows: list[tuple[str, ...]], length: int, told: Counter[str]
) -> TokenStore:
    """Tokenise a block; lines without a text, and those cut to `length` tokens, are counted."""
    a, *b = (list(column) for column in zip(*rows, strict=True))
    store = encode_pairs(tokenizer, a, b[0] if b else None, length)
    full = [rows[i] for i in np.flatnonzero(store.lengths == length)]
    if full and length < MAX_SEQUENCE:
        a, *b = (list(column) for column in zip(*full, strict=True))
        longer = encode_pairs(tokenizer, a, b[0] if b else None, length + 1)
        told["cut"] += int((longer.lengths > length).sum())
    told["empty"] += sum(not "".join(row).strip() for row in rows)
    return store


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
