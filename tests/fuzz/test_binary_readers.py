"""Numbers from outside, mutated: pregenerated shards, weights, checkpoints, archives, records."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

import pregenerate_training_data
from corpus.batches import StoreBatches
from corpus.epochs import available_epochs, check_corpus, open_epoch
from corpus.text_files import read_blocks
from distillation.checkpoint import load_checkpoint
from files.archives import unpack_zip
from files.errors import UserError
from tests.fuzz.harness import fuzz, obeys
from tests.fuzz.mutations import json_mutants, mutants
from tests.integration.workspace import write_bert, write_corpus
from transformer.modeling import TinyBertForPreTraining
from transformer.tokenization import BertTokenizer

SHAPE = {"num_hidden_layers": 1, "max_position_embeddings": 32, "hidden_size": 8}
NUMBERS = (-(2**40), -1, 0, 1, 2, 7, 200, 65_535, 2**40)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """A small model, and one epoch of it in each of the two formats."""
    root = tmp_path_factory.mktemp("seeds")
    write_bert(root / "bert", **SHAPE)
    write_corpus(root / "corpus.txt", 4)
    for kind in ("flat", "json"):
        obeys(lambda kind=kind: pregenerate(root, kind), "-")
    return root


def pregenerate(root: Path, kind: str) -> int:
    return pregenerate_training_data.main(
        ["--train_corpus", str(root / "corpus.txt"), "--bert_model", str(root / "bert")]
        + ["--output_dir", str(root / kind), "--format", kind, "--max_seq_len", "24"]
        + ["--epochs_to_generate", "1", "--masked_lm_prob", "0.15", "--num_workers", "1"]
    )


@pytest.fixture(scope="module")
def tokenizer(seeds) -> BertTokenizer:
    return BertTokenizer(seeds / "bert" / "vocab.txt")


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path


def train_on(folder: Path, tokenizer: BertTokenizer, longest: int = 32) -> None:
    """Draw every batch of every epoch, as a training run does, and look the tokens up."""
    epochs = [open_epoch(folder, i, tokenizer) for i in range(available_epochs(folder))]
    if (
        max(epoch.max_seq_len for epoch in epochs) > longest
    ):  # the scripts compare it with the model
        raise UserError(f"{folder}: sequences of up to {epochs[0].max_seq_len} tokens")
    check_corpus(folder, epochs)
    source = StoreBatches([epoch.store for epoch in epochs], batch_size=4, seed=1)
    words = torch.nn.Embedding(len(tokenizer), 2)
    positions = torch.nn.Embedding(longest, 2)
    for number in range(len(epochs)):
        for rows in source.plan(number):
            width = source.width(number, rows)
            batch = source.collate(number, rows, width)
            words(batch["input_ids"])
            positions(torch.arange(width))


_PLACE = st.integers(0, 1 << 30)
_CHANGES = st.lists(st.tuples(_PLACE, st.sampled_from(NUMBERS)), min_size=1, max_size=3)


@fuzz(
    st.tuples(
        st.sampled_from(("offsets", "tokens", "boundaries", "is_random_next", "masked_offsets")),
        st.one_of(st.just(None), st.sampled_from(("shorter", "wider", "square", "float"))),
        _CHANGES,
    )
)
def test_arrays_of_flat_shards(seeds, tokenizer, place, mutant):
    name, shape, changes = mutant
    shutil.copytree(seeds / "flat", place / "flat", dirs_exist_ok=True)
    path = place / "flat" / f"epoch_0.{name}.npy"
    array = np.load(path)
    for at, number in changes:
        array[at % len(array)] = np.int64(number).astype(array.dtype)
    if shape == "shorter":
        array = array[: changes[0][0] % len(array)]
    elif shape == "wider":
        array = array.astype(np.int64)
    elif shape == "square":
        array = array[:, None]
    elif shape == "float":
        array = array.astype(np.float64)
    np.save(path, array)
    obeys(lambda: train_on(place / "flat", tokenizer), r"/flat/epoch_0")


@st.composite
def damaged_files(draw, files: dict[str, bytes]):
    """One of some files, and its bytes, mutated."""
    name = draw(st.sampled_from(sorted(files)))
    return name, draw(mutants(files[name]))


def file_contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@fuzz(st.data())
def test_bytes_of_flat_shards(seeds, tokenizer, place, mutant):
    name, content = mutant.draw(damaged_files(file_contents(seeds / "flat")))
    shutil.copytree(seeds / "flat", place / "flat", dirs_exist_ok=True)
    (place / "flat" / name).write_bytes(content)
    obeys(lambda: train_on(place / "flat", tokenizer), r"/flat")


@fuzz(st.data())
def test_published_shards(seeds, tokenizer, place, mutant):
    files = file_contents(seeds / "json")
    lines = files["epoch_0.json"].split(b"\n")
    if mutant.draw(st.booleans()):
        name, content = mutant.draw(damaged_files(files))
    elif mutant.draw(st.booleans()):
        name, kept = "epoch_0.json", mutant.draw(json_mutants(json.loads(lines[0])))
        content = b"\n".join([kept, *lines[1:]])
    else:
        name = "epoch_0_metrics.json"
        content = mutant.draw(json_mutants(json.loads(files[name])))
    shutil.rmtree(place / "json", ignore_errors=True)
    shutil.copytree(seeds / "json", place / "json")
    (place / "json" / name).write_bytes(content)
    if not obeys(lambda: train_on(place / "json", tokenizer), r"/json"):
        finished = list((place / "json" / ".flat").glob("*_metrics.json"))
        assert not finished or name == "epoch_0_metrics.json"
        assert not list((place / "json").rglob("*.part"))


def load_student(folder: Path) -> None:
    model = TinyBertForPreTraining.from_pretrained(folder)
    ids = torch.tensor([[2, 7, 3]])
    model.bert(ids, torch.zeros_like(ids), torch.ones_like(ids))


WEIRD = (
    torch.zeros(0),
    torch.zeros(3),
    torch.ones(2, 2, dtype=torch.int64),
    torch.zeros(4, dtype=torch.complex64),
    torch.zeros(1).expand(8, 8),
    torch.full((8,), float("nan")),
    torch.zeros(5, dtype=torch.bool),
)


@fuzz(st.data())
def test_weights(seeds, place, mutant):
    kind = mutant.draw(st.sampled_from(("pytorch_model.bin", "model.safetensors")))
    folder = place / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in ("config.json", "vocab.txt"):
        shutil.copy(seeds / "bert" / name, folder / name)
    state = torch.load(seeds / "bert" / "pytorch_model.bin", weights_only=True)
    if mutant.draw(st.booleans()):
        key = mutant.draw(st.sampled_from(sorted(state)))
        if mutant.draw(st.booleans()):
            state[key] = mutant.draw(st.sampled_from(WEIRD)).clone()
        else:
            state[mutant.draw(st.sampled_from(("", "module." + key, "x", key + ".y")))] = state.pop(
                key
            )
    if kind == "model.safetensors":
        save_file(state, folder / kind)
    else:
        torch.save(state, folder / kind)
    if mutant.draw(st.booleans()):
        (folder / kind).write_bytes(mutant.draw(mutants((folder / kind).read_bytes())))
    obeys(lambda: load_student(folder), r"/model/(pytorch_model\.bin|model\.safetensors)")


@fuzz(st.data())
def test_checkpoints(place, mutant):
    buffer = io.BytesIO()
    torch.save({"step": 3, "model": {"w": torch.ones(3)}, "log": {"sums": {}}}, buffer)
    (place / "checkpoint.pt").write_bytes(mutant.draw(mutants(buffer.getvalue())))
    obeys(lambda: load_checkpoint(place / "checkpoint.pt"), r"/checkpoint\.pt")


def make_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"RTE/{number}.tsv", f"row {number}\n" * 50)
    return buffer.getvalue()


@fuzz(mutants(make_zip()))
def test_archives(place, mutant):
    (place / "archive.zip").write_bytes(mutant)
    with tempfile.TemporaryDirectory(dir=place) as work:
        inside = Path(work) / "inside"
        obeys(
            lambda: unpack_zip(place / "archive.zip", inside, "archive.zip", 10_000), "archive.zip"
        )
        assert {path.name for path in Path(work).iterdir()} <= {"inside"}
        assert sum(path.stat().st_size for path in inside.rglob("*") if path.is_file()) <= 10_000
    assert {path.name for path in place.iterdir()} == {"archive.zip"}


TEXT = b"one line of text\n" * 300
COMPRESSED = {
    "bz2": bz2.compress(TEXT),
    "gz": gzip.compress(TEXT, mtime=0),
    "two": bz2.compress(TEXT) * 2,
}


@fuzz(damaged_files(COMPRESSED))
def test_compressed_text(place, mutant):
    _, content = mutant
    (place / "text").write_bytes(content)

    def read() -> None:
        for block in read_blocks(place / "text", 1000):
            block.lines()

    obeys(read, r"/text")
