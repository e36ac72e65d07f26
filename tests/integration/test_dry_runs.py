"""--dry_run of the programs that prepare data for hours: it foresees the run, and writes nothing."""

from __future__ import annotations

import bz2
import json
import re
from pathlib import Path

import pytest

from tests.integration.workspace import (
    run_line,
    succeed,
    write_bert,
    write_corpus,
    write_dump,
    write_glove,
    write_task,
)

PAIRS = (
    "python pregenerate_training_data.py --train_corpus corpus.txt --bert_model bert "
    "--epochs_to_generate 2 --output_dir new/pairs"
)
PREPARE = "python prepare_data.py --input wiki.xml.bz2 --output new/wiki.txt --num_workers 1"
AUGMENT = (
    "python data_augmentation.py --pretrained_bert_model bert --glove_embs glove.txt "
    "--glue_dir glue --task_name RTE"
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))
    write_bert(Path("bert"), num_hidden_layers=2)
    write_corpus(Path("corpus.txt"), 400)
    write_dump(Path("wiki.xml.bz2"), 300)
    write_glove(Path("glove.txt"))
    write_task(Path("glue/RTE"), "RTE", {"train": 60})
    return tmp_path


def number_in(text: str, pattern: str) -> float:
    """The number that a pattern's group finds, in bytes where a unit follows it."""
    found = re.search(pattern, text)
    assert found, text
    number, _, unit = found[1].partition(" ")
    return float(number.replace(",", "")) * {"": 1, "kB": 1e3, "MB": 1e6}[unit]


def dry_run(line: str) -> str:
    """Run a command with --dry_run; return what it prints, if nothing has changed."""
    before = {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}
    outcome = succeed(f"{line} --dry_run")
    assert {path: path.lstat().st_mtime_ns for path in Path().rglob("*")} == before
    assert re.fullmatch(r"dry run: \S+ is unchanged", outcome.stderr.splitlines()[-1])
    assert re.search(r"expected\W+about \d+ s", outcome.stderr)
    return outcome.stderr


@pytest.mark.parametrize("form", ["flat", "json"])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_pairs_of_a_corpus_are_foreseen(monkeypatch, form, sampled):
    with monkeypatch.context() as patch:
        if sampled:  # a quarter of the corpus, instead of all of it
            size = Path("corpus.txt").stat().st_size
            patch.setattr("corpus.documents._READ_BYTES", size // 4)
            patch.setattr("cli.pregeneration.SAMPLE_READS", 1)
        told = dry_run(f"{PAIRS} --format {form}")
    rows = number_in(told, r"2 of about ([\d,]+) sequences")
    size = number_in(told, r"sequences and ([\d.]+ \w+) each")
    succeed(f"{PAIRS.replace('new/pairs', 'pairs')} --format {form}")
    made = json.loads(Path("pairs/epoch_0_metrics.json").read_text())["num_training_examples"]
    written = sum(path.stat().st_size for path in Path("pairs").glob("epoch_0*"))
    assert made / 1.1 < rows < made * 1.1 and written / 1.1 < size < written * 1.1
    if not sampled:
        assert rows == made


def test_a_compressed_corpus_is_foreseen_as_its_text():
    plain = dry_run(PAIRS)
    text = Path("corpus.txt").read_bytes()
    Path("corpus.txt").write_bytes(bz2.compress(text))
    packed = dry_run(PAIRS)
    for pattern in (r"corpus\.txt: (\S+ \w+) of text", r"of about (\S+) sequences"):
        assert number_in(plain, pattern) == number_in(packed, pattern)


@pytest.mark.parametrize("sampled", [False, True])
def test_the_sentences_of_a_dump_are_foreseen(monkeypatch, sampled):
    with monkeypatch.context() as patch:
        if sampled:
            size = len(bz2.decompress(Path("wiki.xml.bz2").read_bytes()))
            patch.setattr("cli.preparation.DUMP_SAMPLE_BYTES", size // 3)
        told = dry_run(PREPARE)
    assert "to extract the dump" in told and "to find the sentences" in told
    sentences = number_in(told, r"about ([\d,]+) sentences")
    succeed(PREPARE.replace("new/", ""))
    made = sum(map(bool, Path("wiki.txt").read_text().splitlines()))
    assert made / 1.15 < sentences < made * 1.15
    plain = dry_run(PREPARE.replace("wiki.xml.bz2", "wiki.txt"))
    assert "of plain text" in plain and "dump" not in plain


@pytest.mark.parametrize("more", ["", "--shard 2/3"])
def test_the_time_of_an_augmentation_is_foreseen(more):
    dry_run(f"{AUGMENT} {more}")


def test_the_epochs_that_are_finished_are_not_foreseen_again():
    line = PAIRS.replace("new/pairs", "pairs")
    succeed(line.replace("generate 2", "generate 1"))
    told = dry_run(f"{line} --resume")
    assert "1 of about" in told


@pytest.mark.parametrize("line", [PAIRS, PREPARE.replace("wiki.xml.bz2", "corpus.txt"), AUGMENT])
def test_shards_are_checked_before_they_would_be_merged(line):
    line = line.replace("new/", "")
    for shard in ("1/2", "2/2"):
        succeed(f"{line} --shard {shard}")
    told = succeed(f"{line} --merge_shards 2 --dry_run").stderr
    assert told.endswith("is unchanged\n")
    next(Path().rglob("*.shard-2-of-2")).unlink()
    outcome = run_line(f"{line} --merge_shards 2 --dry_run")
    assert outcome.status == 2 and "shard-2-of-2: is missing" in outcome.stderr


@pytest.mark.parametrize(
    "line, told",
    [
        (f"{PAIRS} --output_dir glue", "--output_dir glue: is not empty"),
        (f"{PAIRS} --output_dir glove.txt", "--output_dir glove.txt: is a file"),
        (f"{PAIRS} --output_dir glove.txt/x", "--output_dir glove.txt/x: cannot be written there"),
        (f"{PAIRS} --temp_dir nowhere", "--temp_dir nowhere: no such folder"),
        (f"{PAIRS} --train_corpus glue/RTE/none.txt", "none.txt: no such file"),
        (f"{PREPARE} --temp_dir nowhere", "--temp_dir nowhere: no such folder"),
        (f"{PREPARE} --output glue", "--output glue: is a folder"),
        (f"{PREPARE} --output glove.txt/x", "--output glove.txt: is a file"),
        (f"{PREPARE} --punkt_dir nowhere", "--punkt_dir"),
        (f"{AUGMENT} --pretrained_bert_model nowhere", "nowhere"),
        (f"{AUGMENT} --glove_embs glue/RTE/train.tsv", "train.tsv"),
    ],
)
def test_a_dry_run_finds_what_the_run_would_stumble_over(line, told):
    outcome = run_line(f"{line} --dry_run")
    assert outcome.status == 2 and told in outcome.stderr
    assert "Traceback" not in outcome.stderr and not Path("new").exists()
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    # The run itself says the same.
    again = run_line(line)
    assert again.status == 2 and not Path("new").exists()


def test_a_single_document_is_refused_before_the_run():
    Path("corpus.txt").write_text("It is the cat.\n" * 50)
    outcome = run_line(f"{PAIRS} --dry_run")
    assert outcome.status == 2 and "is a single document" in outcome.stderr
