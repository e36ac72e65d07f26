"""How long the sentences of the four published tasks are: counts of tokens, and nothing of the data.

    python -m benchmarks.lengths --glue_dir data/glue_data --bert_model models/bert-base-uncased

counts them again and writes lengths.json, which the benchmarks read: their own sentences are as long.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from corpus.token_store import encode_pairs
from files.atomic import atomic_open
from files.errors import run_script
from tasks.augmentation import draw_variants
from tasks.glue import find_task
from tasks.sentence_words import SentenceSplitter
from tasks.task import read_split
from transformer.tokenization import BertTokenizer

PATH = Path(__file__).with_name("lengths.json")
TASKS = ("CoLA", "MRPC", "RTE", "SST-2")
MAX_LENGTH = 128
MAX_POSITIONS = 512
CANDIDATES = [str(i) for i in range(15)]  # as many as augmentation finds for a word


def load_lengths(task: str) -> dict[str, Any]:
    """What `count_lengths` found for a task."""
    return json.loads(PATH.read_text(encoding="utf-8"))["tasks"][task]


def spread(histogram: list[list[int]], count: int) -> np.ndarray:
    """`count` lengths, int64, shorter ones first, distributed as the histogram [[length, rows], …] is."""
    sizes, rows = np.array(histogram, dtype=np.int64).T
    reached = np.cumsum(rows)
    places = (np.arange(count) + 0.5) / count * reached[-1]
    return sizes[np.searchsorted(reached, places)]


def _histogram(tokens: np.ndarray) -> list[list[int]]:
    return [list(pair) for pair in sorted(Counter(tokens.tolist()).items())]


def count_lengths(folder: Path, name: str, tokenizer: BertTokenizer) -> dict[str, Any]:
    """Count a task's train.tsv.

    Returns:
        rows; `sides`: for each sentence of a row a histogram of its tokens, without special tokens, and
        `dev_sides`: the same of the dev set, `dev_rows` long;
        `sequence`: mean length with them, cut at 128; `masked`, `compound`: words that augmentation asks
        the language model and the word vectors about, per token; `compound_pieces`: tokens of the
        latter, each; `augmented_rows`: rows of train_aug.tsv at the task's N, M = 15, p = 0.4, and
        `augmented_sequence`: their mean length, replaced words counted as the words they replace.
    """
    task = find_task(name)
    examples = read_split(task, folder, "train")
    sides = [examples.text_a] + ([examples.text_b] if task.pair else [])
    splitter = SentenceSplitter(tokenizer, MAX_POSITIONS)
    sentences = [[splitter(text) for text in side] for side in sides]
    tokens = [np.array([len(sentence.ids) for sentence in side]) for side in sentences]
    dev = read_split(task, folder, "dev")
    dev_sides = [dev.text_a] + ([dev.text_b] if task.pair else [])
    everything = [sentence for side in sentences for sentence in side]
    total = sum(len(sentence.ids) for sentence in everything)
    compounds = sum(len(sentence.compound) for sentence in everything)
    whole = sum(len(sentence.words) - len(sentence.compound) for sentence in everything)

    generator = np.random.default_rng(0)
    rows = np.ones(len(examples))  # a row itself, and its variants
    for texts, side in zip(sides, sentences, strict=True):
        for row, (text, sentence) in enumerate(zip(texts, side, strict=True)):
            slots = sorted([index for index, _ in sentence.masked] + sentence.compound)
            candidates = [(index, CANDIDATES) for index in slots]
            rows[row] += len(
                draw_variants(text, sentence.words, candidates, task.augment_n, 0.4, generator)
            )
    lengths = encode_pairs(tokenizer, *[*sides, None][:2], MAX_LENGTH).lengths
    return {
        "rows": len(examples),
        "sides": [_histogram(side) for side in tokens],
        "dev_rows": len(dev),
        "dev_sides": [_histogram(np.diff(tokenizer.encode_flat(side)[1])) for side in dev_sides],
        "sequence": round(float(lengths.mean()), 3),
        "masked": round(sum(len(sentence.masked) for sentence in everything) / total, 4),
        "compound": round(compounds / total, 4),
        "compound_pieces": round((total - whole) / compounds, 3),
        "augmented_rows": int(rows.sum()),
        "augmented_sequence": round(float((rows * lengths).sum() / rows.sum()), 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glue_dir", type=Path, required=True, help="folder of the tasks' folders")
    parser.add_argument("--bert_model", required=True, help="folder with BERT's uncased vocabulary")
    args = parser.parse_args(argv)
    tokenizer = BertTokenizer.from_pretrained(args.bert_model, True)
    about = (
        "Counts of WordPiece tokens (BERT's uncased vocabulary) in the train.tsv of four GLUE tasks, made by "
        "benchmarks/lengths.py, which says what each entry is. No text of the data is here."
    )
    tasks = {name: count_lengths(args.glue_dir / name, name, tokenizer) for name in TASKS}
    with atomic_open(PATH) as file:
        lines = ",\n".join(f'"{name}": {json.dumps(counts)}' for name, counts in tasks.items())
        file.write(f'{{"about": "{about}",\n"tasks": {{\n{lines}\n}}}}\n')
    return 0


if __name__ == "__main__":
    run_script(main)
