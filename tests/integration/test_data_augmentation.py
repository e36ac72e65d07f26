"""The whole script on tiny models: the published commands, repeatability, user mistakes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_augmentation import main
from files.errors import UserError
from files.locks import sole_writer
from tasks.glue import find_task
from tasks.task import read_split
from tests.patience import PATIENCE
from transformer.configuration import BertConfig
from transformer.file_utils import WEIGHTS_NAME
from transformer.modeling import BertForMaskedLM
from transformer.weights import save_weights

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the cat dog bird house sees finds likes old small bright river is was king queen bread
apple table chair window door road hill . , " ' no play walk good bad film""".split()  # noqa: SIM905
ENDINGS = ["##s", "##ed", "##ing", "##er"]
SENTENCES = [
    "The cat sees the old bird .",
    'A "small" dog likes bread',
    "the king was walking , the queen was playing",
    "bright river , \"old' house",
    "Xyz is bad film .",
]
TRAIN = {
    "RTE": ["index\tsentence1\tsentence2\tlabel"]
    + [f"{i}\t{a}\t{SENTENCES[4 - i]}\tentailment" for i, a in enumerate(SENTENCES)],
    "SST-2": ["sentence\tlabel"] + [f"{text} \t{i % 2}" for i, text in enumerate(SENTENCES)],
    "CoLA": [f"gj04\t{i % 2}\t*\t{text}" for i, text in enumerate(SENTENCES)],
    "MRPC": ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    + [f"1\t{i}\t{i + 9}\t{text}\t{SENTENCES[0]}" for i, text in enumerate(SENTENCES)],
}  # fmt: skip


def save_model(folder: Path, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    vocabulary = [*SPECIAL, *WORDS, *ENDINGS, *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertForMaskedLM.from_scratch(config).save_pretrained(folder)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder as the published commands expect it."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "models/bert-base-uncased")
    for task, lines in TRAIN.items():
        folder = tmp_path / "data/glue_data" / task
        folder.mkdir(parents=True)
        (folder / "train.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    vectors = np.random.default_rng(0).normal(size=(20, 5)).round(3)
    words = ["walking", "playing", "finds", *(f"near{i}" for i in range(16)), "walked"]
    rows = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, vectors, strict=True)]
    (tmp_path / "data/glove.840B.300d.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def command(task, *more, glue_dir="data/glue_data"):
    return [
        "--pretrained_bert_model", "models/bert-base-uncased",
        "--glove_embs", "data/glove.840B.300d.txt",
        "--glue_dir", glue_dir, "--task_name", task, *more,
    ]  # fmt: skip


def output(place, task):
    return place / "data/glue_data" / task / "train_aug.tsv"


def triples(examples):
    texts_b = examples.text_b or examples.text_a
    return list(zip(examples.text_a, texts_b, examples.labels.tolist(), strict=True))


def rows(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("task", "draws"), [("RTE", 30), ("SST-2", 20), ("CoLA", 30), ("MRPC", 30)]
)
def test_the_published_commands_write_every_row_and_its_variants(place, capsys, task, draws):
    assert main(command(task)) == 0
    glue_task, folder = find_task(task), place / "data/glue_data" / task
    train = read_split(glue_task, folder, "train")
    augmented = read_split(glue_task, folder, "train_aug")
    sides = 2 if glue_task.pair else 1
    assert len(train) * 3 < len(augmented) <= len(train) * (1 + sides * draws)
    pairs = triples(augmented)
    assert set(triples(train)) <= set(pairs)
    if glue_task.has_header:
        assert rows(output(place, task))[0] == TRAIN[task][0].removeprefix("\ufeff").split("\t")
    out = capsys.readouterr().out
    assert f"{len(train)} rows in, {len(augmented)} rows out" in out
    assert f"N={draws} M=15 p=0.4 seed=42" in out


def test_variants_keep_the_other_fields_of_their_row(place):
    main(command("MRPC"))
    sides = {}
    for quality, id_a, id_b, a, b in rows(output(place, "MRPC"))[1:]:
        assert (quality, int(id_b) - int(id_a)) == ("1", 9)
        sides.setdefault(id_a, []).append((a, b))
    for variants in sides.values():
        original = variants[0]
        assert all(a == original[0] or b == original[1] for a, b in variants)
        assert len({a for a, _ in variants}) > 1 and len({b for _, b in variants}) > 1


def test_columns_of_an_export_are_found_by_name_and_stay_where_they_are(place):
    """The same rows in another order of columns give the same variants."""
    main(command("RTE", "--N", "3"))
    official = read_split(find_task("RTE"), place / "data/glue_data/RTE", "train_aug")
    train = place / "data/glue_data/RTE/train.tsv"
    train.write_text("".join("\t".join(row[::-1]) + "\n" for row in rows(train)))
    main(command("RTE", "--N", "3"))
    assert rows(output(place, "RTE"))[0] == ["label", "sentence2", "sentence1", "index"]
    export = read_split(find_task("RTE"), place / "data/glue_data/RTE", "train_aug")
    assert triples(export) == triples(official)


def test_quotes_stay_as_they_are(place):
    main(command("SST-2"))
    text = output(place, "SST-2").read_text()
    assert 'A "small" dog likes bread \t1\n' in text
    assert '""' not in text


def test_the_learning_version_finds_the_task_folder_beside_it(place, monkeypatch):
    save_model(place / "data/glue_data/teacher_model")
    monkeypatch.chdir(place / "data/glue_data")
    (place / "data/glue_data/glove.6B.100d.txt").write_text("a 1 2\nb 2 1\n")
    line = (
        "--pretrained_bert_model teacher_model --glove_embs glove.6B.100d.txt "
        "--glue_dir . --task_name SST-2"
    )
    main(line.split())
    assert output(place, "SST-2").exists()


@pytest.mark.parametrize("task", ["RTE", "CoLA"])
def test_the_output_is_the_same_whatever_the_batch_size(place, task):
    written = []
    for size in ("1", "3", "64"):
        main(command(task, "--N", "5", "--M", "4", "--batch_size", size))
        written.append(output(place, task).read_bytes())
    assert written[0] == written[1] == written[2]
    main(command(task, "--N", "5", "--M", "4", "--seed", "43"))
    assert output(place, task).read_bytes() != written[0]


def test_the_users_numbers_win_over_the_tables(place, capsys):
    main(command("sst2", "--N", "2"))
    assert "N=2 M=15 p=0.4" in capsys.readouterr().out
    assert len(rows(output(place, "SST-2"))) <= 1 + 3 * len(SENTENCES)
    main(command("rte", "--preset", "paper", "--p", "0.1"))
    assert "N=20 M=15 p=0.1" in capsys.readouterr().out


def test_the_legacy_mode_brings_back_the_stuck_first_sentence(place):
    main(command("RTE", "--N", "3", "--p", "1", "--pair_mode", "legacy"))
    first = [row for row in rows(output(place, "RTE"))[1:] if row[0] == "0"]
    stuck = first.index([*first[0][:1], first[-1][1], *first[0][2:]])
    assert len(first) - stuck > 2
    assert {row[1] for row in first[stuck:]} == {first[-1][1]} != {SENTENCES[0]}


def test_bfloat16_runs(place):
    assert main(command("CoLA", "--bf16", "--no_cuda")) == 0


def test_text_without_replaceable_words_is_kept_and_said(place, capsys):
    train = place / "data/glue_data/SST-2/train.tsv"
    train.write_text("sentence\tlabel\n\u4e2d \u6587\t1\nof the\t0\n", encoding="utf-8")
    main(command("SST-2"))
    assert rows(output(place, "SST-2"))[1:] == [["\u4e2d \u6587", "1"], ["of the", "0"]]
    assert "no word could be replaced" in capsys.readouterr().err


def test_an_encoder_without_its_head_stops_the_program(place):
    weights = place / "models/bert-base-uncased" / WEIGHTS_NAME
    state = torch.load(weights, weights_only=True)
    torch.save({key: value for key, value in state.items() if "cls." not in key}, weights)
    output(place, "RTE").write_text("what an earlier run left")
    result = subprocess.run(
        [sys.executable, str(ROOT / "data_augmentation.py"), *command("RTE")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
    )
    assert result.returncode == 2
    message = result.stderr.splitlines()[-1]
    assert (
        message.startswith("error: ") and "cls.predictions" in message and WEIGHTS_NAME in message
    )
    assert "Traceback" not in result.stderr
    assert output(place, "RTE").read_text() == "what an earlier run left"
    assert sorted(os.listdir(output(place, "RTE").parent)) == ["train.tsv", "train_aug.tsv"]


def break_glove(place):
    path = place / "data/glove.840B.300d.txt"
    path.write_text(path.read_text() + "short 1 2\n")


def break_train(text):
    def write(place):
        (place / "data/glue_data/RTE/train.tsv").write_bytes(text)

    return write


def lengthen_vocabulary(place):
    path = place / "models/bert-base-uncased/vocab.txt"
    path.write_text(path.read_text() + "onemore\n")


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (break_glove, [], "glove.840B.300d.txt:21: "),
        (lambda place: (place / "data/glove.840B.300d.txt").unlink(), [], "no such file"),
        (break_train(b""), [], "RTE/train.tsv: the file is empty"),
        (break_train(b"index\ta\tb\tlabel\n1\tx\tentailment\n"), [], "RTE/train.tsv:2: "),
        (break_train(b"index\ta\tb\tlabel\n1\tx\ty\tmaybe\n"), [], "RTE/train.tsv:2: label"),
        (break_train(b"index\ta\tb\tlabel\n1\tx\t\xff\tentailment\n"), [], "RTE/train.tsv:2: "),
        (lambda place: (place / "data/glue_data/RTE/train.tsv").unlink(), [], "RTE/train.tsv"),
        (lengthen_vocabulary, [], "word embeddings, the vocabulary"),
        (lambda place: None, ["--N", "0"], "--N 0"),
        (lambda place: None, ["--M", "-1"], "--M -1"),
        (lambda place: None, ["--p", "1.5"], "--p 1.5"),
        (lambda place: None, ["--p", "nan"], "--p nan"),
        (lambda place: None, ["--batch_size", "0"], "--batch_size 0"),
        (lambda place: None, ["--glove_limit", "0"], "--glove_limit 0"),
        (lambda place: None, ["--task_name", "RTEE"], "no such task"),
        (lambda place: None, ["--glue_dir", "nowhere"], "nowhere/RTE"),
        (lambda place: None, ["--pretrained_bert_model", "models/none"], "models/none"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_written(place, damage, more, message):
    damage(place)
    with pytest.raises(UserError) as caught:
        main(command("RTE", *more))
    assert message in str(caught.value)
    assert not output(place, "RTE").exists()


def test_vectors_past_the_limit_are_not_read(place):
    break_glove(place)
    assert main(command("CoLA", "--glove_limit", "20")) == 0


@pytest.mark.parametrize("task", ["RTE", "CoLA"])
def test_merged_shards_are_the_bytes_of_the_single_run(place, capsys, task):
    """5 rows in 3 and in 7 shards: some of them hold no row."""
    main(command(task, "--N", "5"))
    whole = output(place, task).read_bytes()
    for count in (3, 7):
        output(place, task).unlink()
        for index in range(count, 0, -1):
            main(command(task, "--N", "5", "--shard", f"{index}/{count}"))
        assert not output(place, task).exists()
        main(command(task, "--N", "5", "--merge_shards", str(count)))
        assert output(place, task).read_bytes() == whole
        assert sorted(os.listdir(output(place, task).parent)) == ["train.tsv", "train_aug.tsv"]


def spoil_input(place):
    train = place / "data/glue_data/CoLA/train.tsv"
    train.write_text(train.read_text() + "gj04\t1\t*\tThe dog .\n")


def spoil_shard(place):
    path = place / "data/glue_data/CoLA/train_aug.tsv.shard-2-of-2"
    path.write_bytes(path.read_bytes()[:-1])


def unfinish(place):
    (place / "data/glue_data/CoLA/train_aug.tsv.shard-2-of-2.json").unlink()


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        (
            lambda place: None,
            ["--merge_shards", "3"],
            "-1-of-3: is missing .there are shards of 2.;.*1/3",
        ),
        (lambda place: None, ["--merge_shards", "2", "--seed", "43"], "seed 42, expected 43"),
        (lambda place: None, ["--merge_shards", "2", "--M", "3"], "with M 15, expected 3"),
        (lambda place: None, ["--merge_shards", "0"], "--merge_shards 0"),
        (lambda place: None, ["--merge_shards", "2", "--shard", "1/2"], "give one of them"),
        (spoil_input, ["--merge_shards", "2"], "with another input than"),
        (spoil_shard, ["--merge_shards", "2"], "shard-2-of-2: does not match its .json;.*2/2"),
        (unfinish, ["--merge_shards", "2"], "shard-2-of-2: is not finished;.*2/2"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(place, change, more, message):
    for index in (1, 2):
        main(command("CoLA", "--shard", f"{index}/2"))
    change(place)
    with pytest.raises(UserError, match=message):
        main(command("CoLA", *more))
    assert not output(place, "CoLA").exists()


def test_shards_of_different_models_are_refused(place):
    main(command("CoLA", "--shard", "1/2"))
    shutil.rmtree(place / "models")
    save_model(place / "models/bert-base-uncased", seed=1)
    main(command("CoLA", "--shard", "2/2"))
    with pytest.raises(UserError, match="shard-2-of-2: was made with another model than"):
        main(command("CoLA", "--merge_shards", "2"))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_shard_that_cannot_be_is_refused(place, shard, capsys):
    with pytest.raises(SystemExit):
        main(command("CoLA", "--shard", shard))
    assert "expected I/N" in capsys.readouterr().err


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_write_the_bytes_of_one(place, stopped_after, resume):
    """From the beginning, or from where one process was stopped."""
    main(command("RTE", "--N", "5", "--batch_size", "4"))
    whole = output(place, "RTE").read_bytes()
    if resume:
        assert stopped_after(3, lambda: main(command("RTE", "--N", "5")))
    output(place, "RTE").unlink()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    flags = command("RTE", "--N", "5", "--batch_size", "4", "--no_cuda")
    flags += ["--resume"] if resume else []
    result = subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "data_augmentation.py"), *flags],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=PATIENCE,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("5 rows in") == 1
    assert ("resuming after" in result.stderr) == resume
    assert output(place, "RTE").read_bytes() == whole


@pytest.mark.parametrize(("task", "mode"), [("RTE", "legacy"), ("CoLA", "independent")])
def test_a_run_stopped_between_rows_ends_with_the_bytes_and_counts_of_a_whole_one(
    place, capsys, stopped_after, task, mode
):
    flags = command(task, "--N", "5", "--batch_size", "4", "--pair_mode", mode)
    main(flags)
    whole, said = output(place, task).read_bytes(), capsys.readouterr().out.splitlines()[-1]
    told = []
    writes = 0
    while stopped_after(writes, lambda: main(flags)):
        output(place, task).unlink()
        capsys.readouterr()
        main([*flags, "--resume"])
        assert output(place, task).read_bytes() == whole
        assert sorted(os.listdir(output(place, task).parent)) == ["train.tsv", "train_aug.tsv"]
        plan, *_, last = capsys.readouterr().out.splitlines()
        assert last == said
        told.append(int(plan.partition(": ")[2].partition(" rows")[0]))
        writes += 2
    assert told[0] == len(SENTENCES) and told[-1] <= 2, "rows that were written are not made again"


def test_a_stopped_run_with_other_flags_is_refused_and_kept(place, stopped_after):
    main(command("CoLA", "--seed", "43"))
    whole = output(place, "CoLA").read_bytes()
    assert stopped_after(3, lambda: main(command("CoLA", "--seed", "43")))
    for flags in ((), ("--resume",)):
        with pytest.raises(UserError, match="seed 43, expected 42"):
            main(command("CoLA", *flags))
    main(command("CoLA", "--seed", "43", "--resume"))
    assert output(place, "CoLA").read_bytes() == whole


def test_what_a_model_may_lack_and_nobody_reads_does_not_count(place, stopped_after):
    """Without a pooler: its place is filled with random numbers, others in each process."""
    weights = place / "models/bert-base-uncased" / WEIGHTS_NAME
    state = torch.load(weights, weights_only=True)
    save_weights({name: t for name, t in state.items() if "pooler" not in name}, weights)
    flags = command("CoLA", "--N", "5")
    main(flags)
    whole = output(place, "CoLA").read_bytes()
    for index in (1, 2):
        main([*flags, "--shard", f"{index}/2"])
    main([*flags, "--merge_shards", "2"])
    assert output(place, "CoLA").read_bytes() == whole
    assert stopped_after(3, lambda: main(flags))
    main([*flags, "--resume"])
    assert output(place, "CoLA").read_bytes() == whole


def test_a_finished_shard_of_another_job_is_not_written_over(place):
    main(command("CoLA", "--shard", "1/2", "--seed", "43"))
    shard = output(place, "CoLA").with_name("train_aug.tsv.shard-1-of-2")
    kept = shard.read_bytes()
    with pytest.raises(UserError, match=r"finished shard, made with seed 43, expected 42"):
        main(command("CoLA", "--shard", "1/2"))
    assert shard.read_bytes() == kept


def test_an_output_that_another_process_writes_is_refused(place):
    for index in (1, 2):
        main(command("CoLA", "--shard", f"{index}/2"))
    before = sorted(os.listdir(output(place, "CoLA").parent))
    with sole_writer(output(place, "CoLA")):
        for flags in (["--merge_shards", "2"], []):
            with pytest.raises(UserError, match=rf"process {os.getpid()} on .* is writing there"):
                main(command("CoLA", *flags))
    assert sorted(os.listdir(output(place, "CoLA").parent)) == before
    main(command("CoLA", "--merge_shards", "2"))
