"""Byte-level BPE and character offsets, token for token beside `transformers`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from corpus.token_store import encode_pairs
from files.errors import UserError
from transformer.byte_bpe import SPECIAL_TOKENS, ByteBPETokenizer, find_byte_bpe
from transformer.tokenization import BertTokenizer, open_tokenizer

# A folder with RoBERTa's own vocab.json and merges.txt, and files of text to compare on.
REAL = Path(os.environ.get("TINYBERT_REAL_BPE", "no such folder"))
TEXTS = os.environ.get("TINYBERT_REAL_TEXTS", "").split(os.pathsep)
ADVERSARIAL = [
    "", " ", "   ", "\n\n", "\t a\tb ", "a  b   c", " leading", "trailing ", "don't I'll we've",
    "naïve café Ünïcödé", "中文字符 混合 text", "日本語テキスト", "العربية עברית", "😀👩‍👩‍👧 emoji 🏳️‍🌈",
    "e\u0301 combining", "\u200b\u200d zero width", "\x00\x01\x7f control", "\ufeffBOM", "¼ ½ ﬁ ﬂ",
    "<s> and </s> and <mask> here", "a<mask>b", " <mask> ", "<pad><unk>", "http://x.y/z?a=b&c=d#e",
    "1,234.56 $99 100% 3.14e-10", "UPPER lower MiXeD", "a" * 300, "\ud800 lone surrogate",
    "line\r\nbreaks\rhere", "\u2028\u2029 separators", "\xa0nbsp\u3000wide",
]  # fmt: skip
SOUND = [text for text in ADVERSARIAL if "\ud800" not in text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small byte-level BPE, trained here, in RoBERTa's two files."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    text = [Path(__file__).read_text(encoding="utf-8"), *SOUND]
    library.train_from_iterator(text, trainer)
    model = json.loads(library.to_str())["model"]
    vocab = model["vocab"] | {"<mask>": len(model["vocab"])}
    made = tmp_path_factory.mktemp("bpe")
    (made / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
    (made / "merges.txt").write_text(merges + "\n", encoding="utf-8")
    return made


def theirs_of(folder):
    return transformers.RobertaTokenizer.from_pretrained(folder)


def their_tokens(theirs, text):
    found = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
    return found["input_ids"], [list(span) for span in found["offset_mapping"]]


def check_equal(ours, theirs, texts):
    ids, offsets, spans = ours.encode_spans(texts)
    flat, same = ours.encode_flat(texts)
    assert np.array_equal(ids, flat) and np.array_equal(offsets, same)
    for i, text in enumerate(texts):
        part = slice(offsets[i], offsets[i + 1])
        expected, places = their_tokens(theirs, text)
        assert ids[part].tolist() == expected, text
        assert spans[part].tolist() == places, text


def test_tokens_and_offsets_are_theirs_on_adversarial_text(folder):
    ours = open_tokenizer(folder)
    assert isinstance(ours, ByteBPETokenizer)
    check_equal(ours, transformers.RobertaTokenizer.from_pretrained(folder), SOUND)


def test_a_lone_surrogate_is_no_fault(folder):
    ours = open_tokenizer(folder)
    ids, offsets = ours.encode_flat(ADVERSARIAL)
    assert len(offsets) == len(ADVERSARIAL) + 1 and offsets[-1] == len(ids)
    assert ours.tokenize("\ud800 lone") == ours.tokenize("\ufffd lone")


@pytest.mark.parametrize("cased", [True, False])
def test_offsets_of_word_pieces_are_theirs(tiny_vocab, cased):
    ours = BertTokenizer(tiny_vocab, do_lower_case=not cased)
    theirs = transformers.BertTokenizer(str(tiny_vocab), do_lower_case=not cased)
    texts = [text for text in SOUND if "<" not in text] + ["The Cat, it's [MASK] good!"]
    check_equal(ours, theirs, texts)


ROWS = [
    ("a good one", "it is"),
    ("short", "a much longer second text, it goes on and on"),
    ("another text that is long enough to be cut somewhere", "no"),
    ("only one", ""),
]


def test_pairs_are_put_together_as_theirs(folder):
    ours, theirs = open_tokenizer(folder), theirs_of(folder)
    store = encode_pairs(ours, *map(list, zip(*ROWS, strict=True)), 128)
    for row, (a, b) in enumerate(ROWS):
        ids = store.tokens[store.offsets[row] : store.offsets[row + 1]].tolist()
        assert ids == theirs(*filter(None, (a, b)))["input_ids"], (a, b)  # no empty second text


@pytest.mark.parametrize("length", [6, 7, 9, 20])
def test_a_pair_that_is_too_long_loses_the_ends_of_its_longer_text(folder, length):
    ours = open_tokenizer(folder)
    store = encode_pairs(ours, *map(list, zip(*ROWS[:3], strict=True)), length)
    for row, texts in enumerate(ROWS[:3]):
        ids = store.tokens[store.offsets[row] : store.offsets[row + 1]].tolist()
        a, b = (ours.convert_tokens_to_ids(ours.tokenize(text)) for text in texts)
        while len(a) + len(b) + 4 > length:
            (a if len(a) > len(b) else b).pop()
        assert ids == [ours.cls_id, *a, ours.sep_id, *([ours.sep_id, *b, ours.sep_id] if b else [])]


def test_what_is_saved_is_read_by_both(folder, tmp_path):
    ours = open_tokenizer(folder)
    ours.save_pretrained(tmp_path, 38)
    again = open_tokenizer(tmp_path)
    assert again.vocab_hash == ours.vocab_hash and again.describe() == ours.describe()
    check_equal(again, transformers.AutoTokenizer.from_pretrained(tmp_path), SOUND)
    for name in ("vocab.json", "merges.txt"):  # tokenizer.json alone holds all
        (tmp_path / name).unlink()
    assert list(find_byte_bpe(tmp_path)) == ["tokenizer.json"]
    check_equal(open_tokenizer(tmp_path), theirs_of(folder), SOUND)


def test_special_tokens_have_the_ids_of_the_vocabulary(folder):
    ours = open_tokenizer(folder)
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    ids = [ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id]
    assert ids == [vocab[name] for name in SPECIAL_TOKENS]
    assert len(ours) == len(vocab) and ours.convert_ids_to_tokens(ids) == list(SPECIAL_TOKENS)


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("vocab.json", "{", "vocab.json: not JSON"),
        ("vocab.json", "[]", "vocab.json: expected an object of tokens"),
        ("vocab.json", '{"a": 0, "b": 2}', "vocab.json: expected an object of tokens"),
        ("vocab.json", '{"a": 0, "b": "1"}', "vocab.json: expected an object of tokens"),
        ("vocab.json", '{"a": 0, "b": [1]}', "vocab.json: expected an object of tokens"),
        ("vocab.json", '{"a": 0}', "lacks <pad>|merges.txt:2"),
        ("merges.txt", "#version: 0.2\na b c\n", "merges.txt:2: expected two tokens"),
        ("merges.txt", "zz zz\n", "merges.txt:1: expected two tokens"),
    ],
)
def test_a_damaged_file_is_named(folder, tmp_path, name, content, told):
    for kept in ("vocab.json", "merges.txt"):
        (tmp_path / kept).write_bytes((folder / kept).read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=told):
        open_tokenizer(tmp_path)


def test_lowering_letters_is_refused(folder):
    with pytest.raises(UserError, match="byte-level BPE, which lowers no letters"):
        open_tokenizer(folder, do_lower_case=True)


@pytest.mark.skipif(not REAL.is_dir(), reason="TINYBERT_REAL_BPE names no folder")
@pytest.mark.parametrize("path", TEXTS)
def test_real_text_gives_their_tokens(path):
    theirs = transformers.RobertaTokenizer.from_pretrained(REAL)
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    check_equal(open_tokenizer(REAL), theirs, [*lines, *SOUND])
