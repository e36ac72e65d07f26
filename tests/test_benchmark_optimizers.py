"""The study of the optimisers from end to end on a tiny encoder, and the regression task it learns."""

import json

import numpy as np
import pytest

from benchmarks import optimizers
from demo.similarity import write_similarity
from tasks.glue import find_task
from tasks.task import read_split


def test_every_variant_is_run_once_and_told_in_the_table(tiny_model_dir, tmp_path, capsys):
    encoder = tiny_model_dir("encoder")
    line = [
        f"--bert_model={encoder}", f"--output_dir={tmp_path / 'out'}", "--steps=2", "--train_batch_size=2",
        "--max_seq_length=16", "--seeds", "1", "2", "--variants", *optimizers.VARIANTS,
    ]  # fmt: skip
    for _ in range(2):
        optimizers.main(line)
    runs = [json.loads(one) for one in (tmp_path / "out/runs.jsonl").read_text().splitlines()]
    assert [(run["variant"], run["seed"]) for run in runs] == [
        (variant, seed) for seed in (1, 2) for variant in optimizers.VARIANTS
    ]
    capsys.readouterr()
    optimizers.main(["--table", f"--output_dir={tmp_path / 'out'}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | STS-B, 2 × 2 |"
    low, high = sorted(
        100 * run["scores"]["corr"] for run in runs if run["variant"] == "adamw none"
    )
    assert f"| adamw none | {(low + high) / 2:.1f} ({low:.1f} to {high:.1f}) |" in lines


def test_similar_sentences_are_the_same_each_time_and_of_every_score(tmp_path):
    sizes = {"train": 600, "dev": 200}
    for name in ("one", "two"):
        write_similarity(tmp_path / name, 42, sizes)
    splits = {split: read_split(find_task("STS-B"), tmp_path / "one", split) for split in sizes}
    for split, rows in sizes.items():
        files = [(tmp_path / name / f"{split}.tsv").read_bytes() for name in ("one", "two")]
        assert files[0] == files[1] and len(splits[split]) == rows
        labels = splits[split].labels
        assert labels.min() == 0 and labels.max() == 5
        assert 1.2 < np.std(labels) < 2
    pairs = [
        set(zip(examples.text_a, examples.text_b, strict=True)) for examples in splits.values()
    ]
    assert not pairs[0] & pairs[1]


def test_words_in_common_tell_how_similar_sentences_are(tmp_path):
    """Not all of it: the same is said in other words, and in another order."""
    write_similarity(tmp_path, 42, {"dev": 400})
    examples = read_split(find_task("STS-B"), tmp_path, "dev")
    shared = [
        len(set(one.lower().strip(".").split()) & set(other.lower().strip(".").split()))
        for one, other in zip(examples.text_a, examples.text_b, strict=True)
    ]
    assert np.corrcoef(shared, examples.labels)[0, 1] == pytest.approx(0.7, abs=0.25)
