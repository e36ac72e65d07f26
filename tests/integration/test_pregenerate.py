"""pregenerate_training_data.py as a person runs it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pregenerate_training_data
from corpus.epochs import available_epochs, open_epoch
from files.errors import UserError
from transformer.tokenization import BertTokenizer

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"{letter}{vowel}" for letter in "bdfgklmnprst" for vowel in "aeiou"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]


@pytest.fixture
def model(tmp_path) -> str:
    vocabulary = [*SPECIAL, *WORDS, *(f"##{word}" for word in WORDS)]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return str(tmp_path / "model")


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> str:
    """Forty documents in several blocks, so that there is work for several workers."""
    monkeypatch.setattr("corpus.documents.BLOCK_TOKENS", 500)
    rng = np.random.default_rng(0)

    def sentence() -> str:
        words = ("".join(rng.choice(WORDS, rng.integers(1, 3))) for _ in range(rng.integers(1, 15)))
        return " ".join(words).capitalize() + "."

    documents = ("\n".join(sentence() for _ in range(rng.integers(1, 20))) for _ in range(40))
    (tmp_path / "corpus.txt").write_text("\n\n".join(documents) + "\n")
    return str(tmp_path / "corpus.txt")


def pregenerate(corpus: str, model: str, output, *flags: str) -> Path:
    argv = ["--train_corpus", corpus, "--bert_model", model, "--output_dir", str(output)]
    assert pregenerate_training_data.main([*argv, *flags]) == 0
    return Path(output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_published_command_line(corpus, model, tmp_path, capsys):
    flags = ["--reduce_memory", "--do_lower_case", "--epochs_to_generate", "3"]
    folder = pregenerate(corpus, model, tmp_path / "data" / "json_wiki", *flags)
    assert "corpus: 40 documents" in capsys.readouterr().out
    assert available_epochs(folder) == 3
    tokenizer = BertTokenizer.from_pretrained(model)
    epochs = [open_epoch(folder, i, tokenizer) for i in range(3)]
    for epoch in epochs:
        assert epoch.store.lengths.max() <= 128 and epoch.masked is None
        assert not np.isin(epoch.store.tokens, [tokenizer.mask_id, tokenizer.unk_id]).any()
    assert not np.array_equal(epochs[0].store.tokens, epochs[1].store.tokens)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
    on_disk = sum(path.stat().st_size for path in folder.iterdir())
    assert on_disk < 2.3 * sum(len(epoch.store.tokens) for epoch in epochs) + 8000


def test_the_learning_versions_command_line_makes_no_unknown_tokens(
    corpus, model, tmp_path, capsys
):
    folder = pregenerate(corpus, model, tmp_path / "out", "--do_whole_word_mask")
    messages = capsys.readouterr().err
    assert "nothing is masked" in messages and "uncased" in messages
    tokenizer = BertTokenizer.from_pretrained(model)
    assert not np.isin(open_epoch(folder, 0, tokenizer).store.tokens, [1, 4]).any()


def test_workers_and_low_memory_go_together_and_change_nothing(corpus, model, tmp_path):
    flags = ["--masked_lm_prob", "0.15", "--do_whole_word_mask", "--epochs_to_generate", "2"]
    one = pregenerate(corpus, model, tmp_path / "one", *flags)
    flags += ["--num_workers", "3", "--reduce_memory", "--temp_dir", str(tmp_path)]
    three = pregenerate(corpus, model, tmp_path / "three", *flags)
    assert contents(one) == contents(three)


def test_both_formats_hold_the_same_examples(corpus, model, tmp_path):
    flags = ["--masked_lm_prob", "0.15", "--epochs_to_generate", "1"]
    flat = pregenerate(corpus, model, tmp_path / "flat", *flags)
    published = pregenerate(corpus, model, tmp_path / "json", *flags, "--format", "json")
    assert sorted(contents(published)) == ["epoch_0.json", "epoch_0_metrics.json"]
    tokenizer = BertTokenizer.from_pretrained(model)
    one, other = (open_epoch(folder, 0, tokenizer) for folder in (flat, published))
    assert np.array_equal(one.store.tokens, other.store.tokens)
    assert np.array_equal(one.store.offsets, other.store.offsets)
    assert np.array_equal(one.store.boundaries, other.store.boundaries)
    assert np.array_equal(one.is_random_next, other.is_random_next)
    assert all(map(np.array_equal, one.masked, other.masked))


def test_chinese(tmp_path):
    characters = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "。", *characters]), encoding="utf-8")
    text = "天地玄黄。\n宇宙洪荒。\n\n日月盈昃。\n辰宿列张。\n"
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    corpus, vocabulary = str(tmp_path / "corpus.txt"), str(tmp_path / "vocab.txt")
    folder = pregenerate(corpus, vocabulary, tmp_path / "out")
    tokens = open_epoch(folder, 0, BertTokenizer(vocabulary)).store.tokens
    assert set(range(7, 7 + len(characters))) <= set(tokens.tolist()) and 1 not in tokens


def test_one_document_needs_one_seq(model, tmp_path, capsys):
    (tmp_path / "corpus.txt").write_text("ba be bi.\nbo bu da.\nde.\n")
    corpus = str(tmp_path / "corpus.txt")
    with pytest.raises(UserError, match="a single document.*--one_seq"):
        pregenerate(corpus, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = pregenerate(corpus, model, tmp_path / "out", "--one_seq", "--data_url", "x")
    assert "--data_url is ignored" in capsys.readouterr().err
    epoch = open_epoch(folder, 0, BertTokenizer.from_pretrained(model))
    assert not epoch.is_random_next.any()


def test_a_filled_folder_is_kept_unless_told_otherwise(corpus, model, tmp_path):
    folder = pregenerate(corpus, model, tmp_path / "out")
    (folder / "notes.txt").touch()
    before = contents(folder)
    with pytest.raises(UserError, match="not empty.*--overwrite"):
        pregenerate(corpus, model, folder)
    assert contents(folder) == before
    pregenerate(corpus, model, folder, "--overwrite", "--epochs_to_generate", "1")
    assert available_epochs(folder) == 1
    assert (folder / "notes.txt").exists()
    assert json.loads((folder / "epoch_0_metrics.json").read_text())["seed"] == 42


def test_an_earlier_result_survives_a_bad_corpus(corpus, model, tmp_path):
    folder = pregenerate(corpus, model, tmp_path / "out", "--epochs_to_generate", "1")
    before = contents(folder)
    (tmp_path / "bad.txt").write_bytes(b"ba\n\nbe\n\xff\n")
    with pytest.raises(UserError, match=r"bad\.txt:4: is not UTF-8"):
        pregenerate(str(tmp_path / "bad.txt"), model, folder, "--overwrite")
    assert contents(folder) == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--max_seq_len", "4"],
        ["--max_seq_len", "70000"],
        ["--short_seq_prob", "1.5"],
        ["--masked_lm_prob", "nan"],
        ["--epochs_to_generate", "0"],
        ["--num_workers", "0"],
        ["--max_predictions_per_seq", "0"],
    ],
)
def test_a_value_that_cannot_work_names_its_flag(corpus, model, tmp_path, flags):
    with pytest.raises(UserError, match=flags[0]):
        pregenerate(corpus, model, tmp_path / "out", *flags)


def test_a_mistake_is_one_line_and_status_2(model, tmp_path):
    command = [sys.executable, str(ROOT / "pregenerate_training_data.py")]
    command += ["--train_corpus", "nowhere.txt", "--bert_model", model, "--output_dir", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: nowhere.txt") and run.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_merged_shards_are_the_bytes_of_the_single_run(corpus, model, tmp_path, monkeypatch):
    """Shares begin inside lines, and documents continue from one to the next."""
    monkeypatch.setattr("corpus.documents._SENTENCES", 7)
    flags = ["--masked_lm_prob", "0.15", "--epochs_to_generate", "2"]
    whole = contents(pregenerate(corpus, model, tmp_path / "whole", *flags))
    for count in (1, 3, 50):
        output = tmp_path / f"shared-{count}"
        for index in range(count, 0, -1):
            pregenerate(corpus, model, output, *flags, "--shard", f"{index}/{count}")
        pregenerate(corpus, model, output, *flags, "--merge_shards", str(count))
        assert contents(output) == whole


def test_a_shard_with_nothing_in_it_changes_nothing(model, tmp_path):
    """Every cut of a small file: between documents, in a line, in a character, in blank lines."""
    text = "ba be bi.\nbo bu.\n\n\nda de.\n \nö di.\n\n\n"
    (tmp_path / "corpus.txt").write_text(text, encoding="utf-8")
    corpus, count = str(tmp_path / "corpus.txt"), len(text.encode())
    flags = ["--epochs_to_generate", "1"]
    whole = contents(pregenerate(corpus, model, tmp_path / "whole", *flags))
    for index in range(1, count + 1):
        pregenerate(corpus, model, tmp_path / "out", *flags, "--shard", f"{index}/{count}")
    pregenerate(corpus, model, tmp_path / "out", *flags, "--merge_shards", str(count))
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--merge_shards", "3"], "documents.shard-1-of-3: is missing .there are shards of 2.;"),
        (["--merge_shards", "2", "--seed", "1"], "made with seed 42, expected 1"),
        (["--merge_shards", "2", "--max_seq_len", "64"], "made with max_seq_len 128, expected 64"),
        (["--merge_shards", "2", "--train_corpus", "other.txt"], "another input than"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(
    corpus, model, tmp_path, monkeypatch, more, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("ba.\n\nbe.\n")
    for index in (1, 2):
        pregenerate(corpus, model, tmp_path / "out", "--shard", f"{index}/2")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=message):
        pregenerate(corpus, model, tmp_path / "out", *more)
    assert contents(tmp_path / "out") == before


def test_a_compressed_corpus_cannot_be_shared(corpus, model, tmp_path):
    packed = tmp_path / "corpus.gz"
    packed.write_bytes(gzip.compress(Path(corpus).read_bytes()))
    with pytest.raises(UserError, match="one compressed file cannot be sharded"):
        pregenerate(str(packed), model, tmp_path / "out", "--shard", "1/2")


def test_a_resumed_run_makes_only_the_epochs_that_are_missing(corpus, model, tmp_path, capsys):
    folder = pregenerate(corpus, model, tmp_path / "out", "--epochs_to_generate", "3")
    whole = contents(folder)
    (folder / "epoch_2_metrics.json").unlink()  # as if killed before it was finished
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("epoch_[01]*")}
    capsys.readouterr()
    pregenerate(corpus, model, folder, "--epochs_to_generate", "3", "--resume")
    assert "2 of 3 epochs are finished" in capsys.readouterr().out
    assert contents(folder) == whole
    assert {path: path.stat().st_mtime_ns for path in folder.glob("epoch_[01]*")} == kept
    with pytest.raises(UserError, match="epoch 0 was made by another command.*--overwrite"):
        pregenerate(corpus, model, folder, "--seed", "7", "--resume")
    assert contents(folder) == whole
