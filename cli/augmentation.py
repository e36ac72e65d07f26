"""How data_augmentation.py asks its language model, and what it writes and tells."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from tasks.augmentation import Counts, augmented_rows
from tasks.glue import GlueTask
from tasks.tsv import read_rows
from tasks.unfinished import Unfinished
from transformer.modeling import BertForMaskedLM


def language_model(model: BertForMaskedLM, allowed: np.ndarray, bf16: bool):
    """Wrap `model` as the function `predict` that tasks/likely_pieces.py describes.

    Args:
        allowed: bool [V], the pieces that may be answered.
    """
    device = next(model.parameters()).device
    if bf16:
        model = model.to(torch.bfloat16)
    shut_out = (
        torch.zeros(len(allowed)).masked_fill(torch.from_numpy(~allowed), -torch.inf).to(device)
    )
    most = int(allowed.sum())

    @torch.inference_mode()
    def predict(input_ids, token_type_ids, attention_mask, columns, count):
        ids, segments, mask, columns = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in (input_ids, token_type_ids, attention_mask, columns)
        )
        if len(ids) > 1:
            logits = model(ids, segments, mask, columns=columns)
        else:  # in full: this is what an unclear place is settled by
            logits = model(ids, segments, mask, masked_positions=(columns * 0, columns))
        values, pieces = (logits.float() + shut_out).topk(min(count, most))
        return values.cpu().numpy(), pieces.cpu().numpy()

    return predict


def write_augmented(
    file: Unfinished,
    task: GlueTask,
    train: Path,
    has_header: bool,
    numbers: range,
    variants: Iterator,
    written: int,
    counts: Counts,
    pair_mode: str,
) -> int:
    """Append rows and their variants, tab-separated and raw as GLUE's files.

    Args:
        has_header: whether this output begins with the header, if the task has one.
        numbers: the rows whose `variants` these are.
        written: rows that were written before.
        counts: what `variants` counts.

    Returns:
        How many rows have been written, those before included.
    """
    columns = [column for column in task.columns[:2] if column is not None]
    rows = read_rows(train, skip_short=task.skip_short_rows)
    if task.has_header:
        header = "\t".join(next(rows)[1]) + "\n"
        if has_header and not written:
            file.write(header.encode())
    rows = islice(rows, numbers.start, numbers.stop)
    for number, (_, fields), new in zip(numbers, rows, variants, strict=True):
        lines = ["\t".join(row) + "\n" for row in augmented_rows(fields, columns, new, pair_mode)]
        file.write("".join(lines).encode())
        written += len(lines)
        file.mark({"row": number + 1, "written": written, "counts": dict(vars(counts))})
    return written


def say_counts(
    counts: Counts, path: Path, rows: int, written: int, sentences: int, max_positions: int
) -> None:
    """Tell what was replaced and what was not."""
    print(
        f"{path}: {rows} rows in, {written} rows out; words with candidates: "
        f"{counts.model_words} from the language model, {counts.vector_words} from word vectors; "
        f"words left as they are: {counts.words_without_candidates} without candidates, "
        f"{counts.words_beyond_model} beyond the model's {max_positions} positions; "
        f"{sentences} different sentences"
    )
    if not counts.model_words + counts.vector_words:
        print("warning: no word could be replaced; is this text in Latin letters?", file=sys.stderr)
