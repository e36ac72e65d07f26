"""Text from outside, mutated: TSV, configurations, vocabularies, word vectors, articles, corpora."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nltk  # noqa: F401 (its first import takes longer than any input may)
import pytest
from hypothesis import strategies as st

import prepare_data
from corpus.documents import tokenize_corpus
from tasks.glue import TASKS
from tasks.mrpc import make_mrpc
from tasks.task import read_split
from tasks.word_vectors import nearest_words, read_word_vectors
from tests.fuzz.harness import fuzz, obeys
from tests.fuzz.mutations import json_mutants, mutants
from tests.integration.workspace import (
    VOCABULARY,
    articles,
    write_corpus,
    write_glove,
    write_task,
)
from transformer.configuration import BertConfig
from transformer.tokenization import BertTokenizer

_SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
for _task in ("RTE", "CoLA", "QQP", "STS-B", "MRPC"):
    write_task(_SCRATCH / _task, _task)
write_glove(_SCRATCH / "glove.txt")
write_corpus(_SCRATCH / "corpus.txt", 3)
CONFIG = BertConfig(id2label=["no", "yes"], fit_size=768).to_dict()
TOKENIZER_CONFIG = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
WIKI = "".join(
    json.dumps({"id": str(i), "url": "u", "title": f"Article {i}", "text": "\n".join(text)}) + "\n"
    for i, text in enumerate(articles(4))
).encode()
MSR = (
    b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    b"1\t3\t103\tA cat .\tThe cat .\r\n0\t4\t104\tA dog .\tThe cat .\r\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder that every example writes its file into again."""
    return tmp_path_factory.mktemp("fuzz")


def splits() -> st.SearchStrategy:
    """A task, one of its splits, and that file's bytes, mutated."""
    known = [
        (TASKS[key], split, (_SCRATCH / TASKS[key].folder / f"{split}.tsv").read_bytes())
        for key in ("rte", "cola", "qqp", "stsb", "mrpc")
        for split in ("train", "dev", "test")
    ]
    return st.sampled_from(known).flatmap(
        lambda seed: st.tuples(st.just(seed[0]), st.just(seed[1]), mutants(seed[2]))
    )


@fuzz(splits())
def test_tsv(place, mutant):
    task, split, content = mutant
    (place / f"{split}.tsv").write_bytes(content)

    def read() -> None:
        rows = read_split(task, place, split)
        assert len(rows) == len(rows.ids) == len(rows.text_a) > 0
        assert all("\t" not in text and "\n" not in text for text in rows.text_a)

    obeys(read, rf"/{split}\.tsv")


@fuzz(st.tuples(mutants(MSR), mutants(MSR), mutants(b"3\t103\n")))
def test_microsofts_files(place, mutant):
    names = ("train.txt", "test.txt", "ids.tsv")
    for name, content in zip(names, (mutant[0], MSR, mutant[2]), strict=True):
        (place / name).write_bytes(content)
    with tempfile.TemporaryDirectory(dir=place) as work:
        obeys(
            lambda: make_mrpc(*(place / name for name in names), Path(work) / "MRPC"),
            r"/(train\.txt|test\.txt|ids\.tsv)",
        )


@fuzz(st.one_of(json_mutants(CONFIG), mutants(json.dumps(CONFIG).encode())))
def test_model_configuration(place, mutant):
    (place / "config.json").write_bytes(mutant)
    obeys(lambda: BertConfig.from_json_file(place / "config.json").to_dict(), r"/config\.json")


def use_tokenizer(vocabulary: Path) -> None:
    tokenizer = BertTokenizer(vocabulary)
    ids, offsets = tokenizer.encode_flat(["the cat walked, [MASK] caf\xe9 中", ""])
    assert offsets[-1] == len(ids) and (len(ids) == 0 or ids.max() < len(tokenizer))
    assert len(tokenizer.vocab_hash) == 64


@fuzz(mutants(("\n".join(VOCABULARY) + "\n").encode()))
def test_vocabulary(place, mutant):
    (place / "vocab.txt").write_bytes(mutant)
    obeys(lambda: use_tokenizer(place / "vocab.txt"), r"/vocab\.txt")


@fuzz(st.one_of(json_mutants(TOKENIZER_CONFIG), mutants(json.dumps(TOKENIZER_CONFIG).encode())))
def test_tokenizer_configuration(place, mutant):
    (place / "cased").mkdir(exist_ok=True)
    (place / "cased" / "vocab.txt").write_text("\n".join(VOCABULARY))
    (place / "cased" / "tokenizer_config.json").write_bytes(mutant)
    obeys(lambda: use_tokenizer(place / "cased" / "vocab.txt"), r"/tokenizer_config\.json")


@fuzz(st.tuples(mutants((_SCRATCH / "glove.txt").read_bytes()), st.sampled_from((3, 100_000))))
def test_word_vectors(place, mutant):
    content, limit = mutant
    (place / "glove.txt").write_bytes(content)

    def read() -> None:
        vectors = read_word_vectors(place / "glove.txt", limit)
        assert len(vectors.words) == len(vectors.matrix) <= limit
        found = nearest_words(vectors, vectors.words, 4)
        assert all(word not in near for word, near in found.items())

    obeys(read, r"/glove\.txt")


@fuzz(st.one_of(mutants(WIKI), json_mutants(json.loads(WIKI.split(b"\n")[0]))))
def test_wikiextractors_articles(place, mutant):
    source, output = place / "wiki" / "AA" / "wiki_00", place / "out" / "wiki.txt"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(mutant)
    argv = ["--input", str(place / "wiki"), "--output", str(output), "--num_workers", "1"]
    if obeys(lambda: prepare_data.main(argv), r"/wiki"):
        assert output.read_bytes().decode("utf-8").strip()
        output.unlink()
    assert list(output.parent.iterdir()) == []


@fuzz(mutants((_SCRATCH / "corpus.txt").read_bytes()))
def test_plain_text_to_prepare(place, mutant):
    source, output = place / "text.txt", place / "plain" / "wiki.txt"
    source.write_bytes(mutant)
    argv = ["--input", str(source), "--output", str(output), "--num_workers", "1"]
    if obeys(lambda: prepare_data.main(argv), r"/text\.txt"):
        output.unlink()
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


@fuzz(mutants((_SCRATCH / "corpus.txt").read_bytes()))
def test_corpus_to_tokenise(place, mutant):
    (place / "vocab.txt").write_text("\n".join(VOCABULARY))
    (place / "corpus.txt").write_bytes(mutant)
    tokenizer = BertTokenizer(place / "vocab.txt")

    def read() -> None:
        with tempfile.TemporaryDirectory(dir=place) as work:
            documents = tokenize_corpus(place / "corpus.txt", tokenizer, work)
            assert documents.num_sentences >= documents.num_documents > 0

    obeys(read, r"/corpus\.txt")
