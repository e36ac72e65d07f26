"""A task of one's own, as `--task_file` takes it: CSV files of sentences, and what they are about.

The label is the class of the sentence's subject: "The small hound runs, quite slowly." is about an animal.
Only the dev and test sets have sentences that the corpus never has.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random

from demo import lexicon as lex
from demo.language import sentence, words_of
from demo.writing import action, is_held_out, noun_phrase
from files.atomic import atomic_open

TASK = {
    "name": "subjects",
    "files": {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"},
    "text": "sentence",
    "label": "about",
    "labels": list(lex.NOUN_TREE),
    "metric": "macro_f1",
    "max_length": 64,
}


def write_own_task(folder: Path, seed: int, sizes: dict[str, int]) -> None:
    """Write `folder`/task.json and SPLIT.csv, of so many rows each; no sentence stands in two of them."""
    seen: set[str] = set()
    for split, size in sizes.items():
        rng, rows = Random(f"{seed} {split}"), []
        while len(rows) < size:
            subject = noun_phrase(rng, lex.TAXONOMY_NOUNS)
            clause = action(rng, subject)
            text = sentence(words_of(clause))
            if is_held_out(clause) == (split != "train") and text not in seen:
                seen.add(text)
                noun = lex.canonical(subject.noun)
                rows.append((text, (noun, *lex.superclasses(noun))[-1]))
        with atomic_open(folder / f"{split}.csv") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows([("sentence", "about"), *rows])
    with atomic_open(folder / "task.json") as file:
        file.write(json.dumps(TASK, indent=1) + "\n")
