"""Write a trained model for others: transformers' safetensors, ONNX, or ONNX in 8 bits.

    python export.py --model models/distilled_tinybert_4l_rte --to hf onnx int8 \\
        --output_dir exported/rte --data_dir data/glue_data/RTE

    python export.py --model runs/squad/checkpoint-best --to onnx int8 --output_dir exported/squad \\
        --length_config 308,247,198,159,128,103 --predict_file dev-v1.1.json

What is written is compared with the original on several batch sizes and lengths. Size, latency on the CPU
and, with --data_dir, dev scores of all are printed side by side and kept in export.json. predict.py reads
each of the files.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from cli.answering import shortened
from cli.flag_files import save_flags
from cli.flags import add_head_flag, add_model_flags, whole_number
from cli.help import script_parser
from cli.squad import add_length_flags, add_question_flags, lengths_from, read_dev
from cli.task import add_task_file_flag, chosen_task
from cli.training import check_length, check_vocabulary, describe_model, load_tokenizer
from distillation.records import RunRecord, write_record
from files.atomic import atomic_open
from files.errors import UserError, run_script
from reporting.model_card import write_export_card
from tasks.classifiers import (
    EXPORT_RECORD_NAME,
    data_facts,
    load_classifier,
    load_dev,
    read_classifier,
    recorded_task,
    task_facts,
)
from tasks.evaluation import evaluate
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME
from transformer.lengths import LengthConfig
from transformer.loading import answers_questions, read_config
from transformer.modeling import BertForQuestionAnswering, TinyBertForSequenceClassification
from transformer.onnx import TO_WRITE, OnnxModel, check_packages, write_int8, write_onnx
from transformer.weights import weights_files

Model = TinyBertForSequenceClassification | BertForQuestionAnswering
FILES = {"hf": SAFE_WEIGHTS_NAME, "onnx": "model.onnx", "int8": "model_int8.onnx"}
TOLERANCE = {"hf": 1e-5, "onnx": 1e-4}  # of the logits; what int8 costs is told
CPU = torch.device("cpu")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--model",
        required=True,
        help="classifier, or model that answers questions: folder, hub name or address",
    )
    group.add_argument("--to", required=True, nargs="+", choices=FILES, help="what to write")
    group.add_argument("--output_dir", required=True, help="folder for the files")
    add_head_flag(group)
    add_length_flags(group)
    add_model_flags(group)
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--predict_file", help="questions to score a model on that answers them, as SQuAD has them"
    )
    add_question_flags(group)
    group.add_argument("--data_dir", help="folder of the task, for the dev scores")
    group.add_argument("--task_name", help="a GLUE task (default: as --data_dir is called)")
    add_task_file_flag(group)
    group.add_argument("--eval_batch_size", type=whole_number, default=32, help="rows in a batch")
    group.add_argument(
        "--max_seq_length",
        type=whole_number,
        help="tokens of a row: the most of the dev set, all of those that are timed (default: 128, or as "
        "many as the model has positions)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folder = Path(args.output_dir)
    check_place(folder)
    if set(args.to) - {"hf"}:
        check_packages(TO_WRITE, f"--to {' '.join(args.to)}")
    tokenizer, config = load_tokenizer(args, args.model), read_config(args.model, args.cache_dir)
    args.max_seq_length = args.max_seq_length or min(128, config.max_length)
    check_vocabulary(tokenizer, config, args.model, args.cache_dir)
    check_length(config, args.max_seq_length, args.model)
    task, dev, questions = None, {}, None
    if answers_questions(args.model, args.cache_dir):
        model: Model = BertForQuestionAnswering.from_pretrained(
            args.model, cache_dir=args.cache_dir
        )
        if args.predict_file:
            args.version_2_with_negative, args.max_eval_questions = False, None
            questions = read_dev(args, tokenizer)
    elif args.data_dir or args.task_file:
        task, data_dir = chosen_task(args, guess=True)
        model = load_classifier(task, args.model, (), args.cache_dir, head=args.head)
        dev = load_dev(task, data_dir, tokenizer, args.max_seq_length)
    else:
        model = read_classifier(args.model, args.cache_dir, args.head)
    learned = task or recorded_task(args.model)
    record = RunRecord(
        "export", vars(args), **task_facts(learned), student=args.model, teacher=None,
        output_dir=args.output_dir, data=data_facts(task, data_dir, dev) if task else {},
        model=describe_model(model),
    )  # fmt: skip

    # Distillation's projection to the teacher's width is not part of it.
    plain = type(model)(type(model.config)(**{**vars(model.config), "fit_size": None})).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("fit_")})
    original = weights_files(args.model, args.cache_dir)
    lengths = lengths_from(args, plain.config.num_hidden_layers)
    runners: dict[str, Callable] = {"original": shortened(plain, lengths)}
    rows = {
        "original": {
            "file": original[0].name,
            "bytes": sum(path.stat().st_size for path in original),
        }
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Everything is made and compared in a folder of its own; what differs is never seen under its name.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as made:
        for kind in args.to:
            path = write(kind, plain, Path(made), lengths)
            runners[kind] = (
                OnnxModel(path, plain.config)
                if path.suffix == ".onnx"
                else shortened(type(plain).from_pretrained(path.parent), lengths)
            )
            difference = largest_difference(runners[kind], runners["original"])
            if difference > TOLERANCE.get(kind, float("inf")):
                raise UserError(f"--to {kind}: its logits differ by {difference:.2g}; not written")
            rows[kind] = {"file": FILES[kind], "bytes": path.stat().st_size}
            rows[kind]["logits_differ_by"] = difference
        measure(rows, runners, args.max_seq_length, model.config.vocab_size)
        for name, runner in runners.items():
            if task:
                rows[name]["metrics"] = evaluate(task, runner, dev, args.eval_batch_size, CPU)
            elif questions:
                found = questions.metrics(questions.scores(runner, CPU))
                rows[name]["metrics"] = {"dev": {key: found[key] for key in ("exact", "f1")}}
        tokenizer.save_pretrained(folder, plain.config.max_length)
        plain.config.to_json_file(folder / CONFIG_NAME, plain.architecture())
        save_flags(args, folder)
        for kind, name in FILES.items():
            if kind in args.to:
                (Path(made) / name).replace(folder / name)
            elif (folder / name).exists():  # perhaps of another model than config.json is now
                (folder / name).unlink()
                print(f"note: {folder / name}, of an earlier export, is removed", file=sys.stderr)
    write_record(
        folder / EXPORT_RECORD_NAME, record.complete(threads=torch.get_num_threads(), models=rows)
    )
    write_export_card(folder, Path(args.model), rows, plain.config)
    print(table(rows, args.max_seq_length))
    print(f"wrote {', '.join(FILES[kind] for kind in args.to)} to {folder}", file=sys.stderr)
    return 0


def check_place(folder: Path) -> None:
    """Refuse a folder that holds something other than an export."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder}: is a file; expected a folder")
    present = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if present and EXPORT_RECORD_NAME not in present:
        raise UserError(
            f"--output_dir {folder}: is not empty (holds {present[0]}); choose another folder"
        )


def write(kind: str, model: Model, folder: Path, lengths: LengthConfig | None) -> Path:
    """Write one kind of file; return its path. A graph passes on so many tokens."""
    path, graph = folder / FILES[kind], folder / FILES["onnx"]
    if kind == "hf":
        with atomic_open(path, "wb") as file:  # save_file makes it private
            file.write(save(model.state_dict(), {"format": "pt"}))
        model.config.to_json_file(folder / CONFIG_NAME, model.architecture())
    elif not graph.exists():
        write_onnx(model, graph, lengths)
    if kind == "int8":
        write_int8(graph, path)
    return path


def batch_of(rows: int, length: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """Random rows of `length` tokens, the first of them padded from its middle on."""
    generator = torch.Generator().manual_seed(rows * length)
    ids = torch.randint(0, vocab_size, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, length // 2 + 1 :] = 0
    segments = (torch.arange(length) > length // 3).long().expand(rows, length)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}


@torch.inference_mode()
def largest_difference(runner: Callable, model: Callable) -> float:
    """Largest absolute difference of a logit over batches of several sizes and lengths, padding left out.

    Of shortened sequences one in ten may differ by more: where two tokens receive all but the same attention,
    rounding decides which is dropped.
    """
    longest = model.config.max_length
    differences = []
    for rows, length in ((1, 1), (1, longest), (2, 9), (7, 33), (32, 16)):
        batch = batch_of(rows, min(length, longest), model.config.vocab_size)
        found, expected = (answers(**batch).output for answers in (runner, model))
        difference = (found - expected).abs()
        if expected.dim() == 3:
            difference = difference * batch["attention_mask"][..., None]
        differences.append(difference.flatten(1).amax(1))
    every = torch.cat(differences)
    shortens = isinstance(model, partial)
    return every.quantile(0.9 if shortens else 1.0).item()


@torch.inference_mode()
def measure(
    rows: dict[str, dict[str, Any]], runners: dict[str, Callable], length: int, vocab_size: int
) -> None:
    """Note the median milliseconds of a batch of 1 and of 32; the models take turns."""
    for size in (1, 32):
        batch = batch_of(size, length, vocab_size)
        times: dict[str, list[float]] = {name: [] for name in runners}
        turn, order = list(runners.items()), random.Random(0)
        end = time.perf_counter() + 5.0
        while len(times["original"]) < 4 or (
            len(times["original"]) < 21 and time.perf_counter() < end
        ):
            order.shuffle(turn)  # whom a model comes after has an effect on its time
            for name, runner in turn:
                began = time.perf_counter()
                runner(**batch)
                times[name].append(1000 * (time.perf_counter() - began))
        for name, spans in times.items():
            rows[name][f"ms_batch_{size}"] = round(statistics.median(spans[1:]), 3)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}" if size >= 1e7 else f"{size / 1e6:.2f}"


def table(rows: dict[str, dict[str, Any]], length: int) -> str:
    """The files side by side."""
    scores = [
        f"{split} {name}"
        for split, metrics in rows["original"].get("metrics", {}).items()
        for name in metrics
    ]
    header = ["", "file", "MB", "ms, batch 1", "ms, batch 32", "logits differ by", *scores]
    lines = [header]
    for name, row in rows.items():
        values = [
            f"{value:.4f}"
            for metrics in row.get("metrics", {}).values()
            for value in metrics.values()
        ]
        differ = f"{row['logits_differ_by']:.1g}" if "logits_differ_by" in row else "–"
        speed = [f"{row[f'ms_batch_{size}']:.2f}" for size in (1, 32)]
        lines.append([name, row["file"], megabytes(row["bytes"]), *speed, differ, *values])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(header) - 2)]
    told = ["  ".join(map(lambda a, c, w: a(c, w), aligned, line, widths)) for line in lines]
    threads = torch.get_num_threads()
    how = f"CPU, {threads} thread{'s' * (threads > 1)}, {length} tokens a row, median"
    return "\n".join([*told, f"({how})"])


if __name__ == "__main__":
    run_script(main)
