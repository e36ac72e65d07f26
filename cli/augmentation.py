"""How data_augmentation.py asks its language model, and what it writes, tells and foresees."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from files.resumable import Unfinished
from tasks.augmentation import Augmenter, Counts, augmented_rows
from tasks.task import Task, open_rows
from transformer.modeling import BertForMaskedLM

MEASURED_BATCHES = 4


def language_model(model: BertForMaskedLM, allowed: np.ndarray, bf16: bool):
    """Wrap `model` as the function `predict` that tasks/likely_tokens.py describes.

    Args:
        allowed: bool [V], the tokens that may be answered. The model may have embeddings for more.
    """
    device = next(model.parameters()).device
    if bf16:
        model = model.to(torch.bfloat16)
    shut_out = torch.full((model.config.vocab_size,), -torch.inf)
    shut_out[: len(allowed)][torch.from_numpy(allowed)] = 0.0
    shut_out = shut_out.to(device)
    most = int(allowed.sum())

    @torch.inference_mode()
    def predict(input_ids, token_type_ids, attention_mask, columns, count):
        ids, segments, mask, columns = (
            torch.from_numpy(array).to(device, non_blocking=True)
            for array in (input_ids, token_type_ids, attention_mask, columns)
        )
        if len(ids) > 1:
            logits = model(ids, segments, mask, columns=columns).output
        else:  # in full: this is what an unclear place is settled by
            logits = model(ids, segments, mask, masked_positions=(columns * 0, columns)).output
        values, tokens = (logits.float() + shut_out).topk(min(count, most))
        return values.cpu().numpy(), tokens.cpu().numpy()

    return predict


def time_of_augmenting(
    augmenter: Augmenter, sides: Sequence[Sequence[str]], rows: range, passes: int, batch_size: int
) -> float:
    """Foresee the seconds that augmenting `rows` takes from those of the first few.

    Args:
        passes: the masked passes that all of them need.
        batch_size: of the language model, in all processes together.
    """
    for batches in (1, MEASURED_BATCHES):  # the very first is slower than those to come
        few, asked = first_rows(augmenter, sides, rows, batches * batch_size)
        start = time.perf_counter()
        for _ in augmenter.variants(sides, few):
            pass
        seconds = time.perf_counter() - start
    return seconds * (passes / asked if asked else len(rows) / len(few))


def first_rows(
    augmenter: Augmenter, sides: Sequence[Sequence[str]], rows: range, passes: int
) -> tuple[range, int]:
    """The first rows that need so many masked passes, and how many they need."""
    texts: set[str] = set()
    asked = 0
    for number in rows:
        for text in {side[number] for side in sides} - texts:
            texts.add(text)
            asked += len(augmenter.splitter(text).masked)
        if asked >= passes:
            return range(rows.start, number + 1), asked
    return rows, asked


def write_augmented(
    file: Unfinished,
    task: Task,
    folder: Path,
    has_header: bool,
    numbers: range,
    variants: Iterator,
    written: int,
    counts: Counts,
    pair_mode: str,
) -> int:
    """Append rows and their variants, tab-separated and raw as GLUE's files.

    Args:
        folder: the task's, with train.tsv.
        has_header: whether this output begins with the header, if train.tsv has one.
        numbers: the rows whose `variants` these are.
        written: rows that were written before.
        counts: what `variants` counts.

    Returns:
        How many rows have been written, those before included.
    """
    _, layout, rows = open_rows(task, folder, "train")
    columns = [column for column in layout.columns[:2] if column is not None]
    if layout.header is not None and has_header and not written:
        file.write(("\t".join(layout.header) + "\n").encode())
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
