"""The tokenizer against `transformers`' BERT tokenizer, and its own promises."""

import hashlib
import json
import pickle
import random

import numpy as np
import pytest

from files.errors import UserError
from transformer.known_words import KnownWords
from transformer.tokenization import (
    SPECIAL_TOKENS,
    BasicTokenizer,
    BertTokenizer,
    WordpieceTokenizer,
    is_uncased,
    load_vocab,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    "the cat sat on mat un want run ##able ##ed ##ing ##ning cafe strom don ' . , ! ? - 一 中 文"
)
UNCASED = [
    *SPECIAL_TOKENS,
    "[unused1]",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    *WORDS.split(),
    "##文",
]
UNCASED += [
    *"0123456789",
    *(f"##{c}" for c in "0123456789"),
    "é",
    "##é",
    "ß",
    "##ß",
    "😀",
    "\u2028",
]
CASED = [*UNCASED, *LETTERS.upper(), *(f"##{c}" for c in LETTERS.upper()), "É", "The", "Cat"]

REAL = """\
The cat sat on the mat. Unwanted running isn't un-want-able, is it?
In 1998, Café Ström moved its "main" office to 42–44 Rue d'Été (Paris).
中文和 English 混在一起，标点也有。３個全角数字！
Привет, мир! Ελληνικά: Οδυσσεύς. עברית العربية 한국어 ひらがな カタカナ
http://example.org/a?b=c&d=%20#x -- user@example.org; C++, $5.00, 50%, ~`^|<>=
"""
ADVERSARIAL = [
    "",
    " \t\n\r\u00a0\u3000\u2009",
    "[MASK]",
    "a [MASK] b[SEP]c [CLS]",
    "the[MASK]cat",
    "[mask] [ MASK ] [MASK",
    "[PAD][UNK][unused1]",
    "e\u0301 caf\u00e9 cafe\u0301 \u0130 I\u0307 \u0131 \u00df \ufb01 \u01c5 \u03a3\u03c2",
    "\u0301\u0301\u0301 a\u0301\u0327b",
    "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3fd ok\U0001f600ok",
    "a\x00b\x01c\x07d\x7fe\x85f\x1bg",
    "a\u200bb\u200cc\u200dd\ufeffe\u2060f\u00adg\ufffdh",
    "a" * 10_000,
    "a" * 100 + " " + "a" * 101,
    "中" * 300,
    "\u2028the\u2029cat\u2028",
    "##ing ing ## #",
    "\U0010ffff \ue000 \U00020000 \U0002f800 \u3400 \uf900",
    "don't ``quote'' \"q\" —–…“”‘’ ₤€ ¿¡ § ¶",
    "\u200f\u202eabc\u202c",
]


def random_texts(count):
    generator = random.Random(0)
    for _ in range(count):
        ranges = [0x80, 0x250, 0x3000, 0x10000, 0x110000]
        codes = [
            generator.randrange(generator.choice(ranges)) for _ in range(generator.randrange(40))
        ]
        yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def write_vocab(folder, tokens, name="vocab.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(
        "".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="\n"
    )
    return folder / name


@pytest.fixture
def uncased(tmp_path):
    return BertTokenizer(write_vocab(tmp_path, UNCASED))


def tokens_of(tokenizer, text):
    ids, _ = tokenizer.encode_flat([text])
    return tokenizer.convert_ids_to_tokens(ids)


@pytest.mark.parametrize("tokens", [UNCASED, CASED], ids=["uncased vocabulary", "cased vocabulary"])
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_tokens_equal_those_of_transformers(tmp_path, tokens, do_lower_case):
    reference = pytest.importorskip("transformers").BertTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=do_lower_case
    )
    ours = BertTokenizer(write_vocab(tmp_path, tokens), do_lower_case)
    texts = [*REAL.splitlines(), REAL, *ADVERSARIAL, *random_texts(1500)]
    ids, offsets = ours.encode_flat(texts)
    expected = reference(texts, add_special_tokens=False)["input_ids"]
    for i, text in enumerate(texts):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected[i], text
        assert ours.tokenize(text) == reference.convert_ids_to_tokens(expected[i]), text
    assert set(expected[0]) != {ours.unk_id}


def test_basic_and_wordpiece_in_turn_give_the_same_tokens(uncased):
    basic, wordpiece = BasicTokenizer(do_lower_case=True), WordpieceTokenizer(uncased.vocab)
    for text in [*REAL.splitlines(), *ADVERSARIAL, *random_texts(200)]:
        tokens = []
        for word in basic.tokenize(text):
            tokens += [word] if word in SPECIAL_TOKENS else wordpiece.tokenize(word)
        assert tokens == uncased.tokenize(text), text


def test_encode_flat_gives_flat_arrays(uncased):
    ids, offsets = uncased.encode_flat(["the cat", "", "running", "[MASK]"])
    assert ids.dtype == np.int32 and offsets.dtype == np.int64
    assert offsets.tolist() == [0, 2, 2, 4, 5]
    assert uncased.convert_ids_to_tokens(ids) == ["the", "cat", "run", "##ning", "[MASK]"]
    ids, offsets = uncased.encode_flat([])
    assert len(ids) == 0 and offsets.tolist() == [0]


@pytest.mark.parametrize("has_separator", [True, False])
@pytest.mark.parametrize("kept", [0, 3, 1 << 18])
def test_words_that_are_known_have_the_tokens_they_have_in_their_text(uncased, kept, has_separator):
    """Each text alone, by the library, against all together, twice, in one known by its words."""
    generator = random.Random(1)
    ascii_texts = [
        "".join(
            generator.choice(" the.cat[MASK]'#Run\x07,9") for _ in range(generator.randrange(60))
        )
        for _ in range(200)
    ]
    texts = [*ADVERSARIAL, *REAL.splitlines(), *ascii_texts, *random_texts(100), *ADVERSARIAL]
    alone = [uncased._encode_texts([text])[0] for text in texts]
    vocab = {token: id for token, id in uncased.vocab.items() if has_separator or token.isascii()}
    words = KnownWords(uncased._encode_texts, vocab, kept)
    assert (words._separator is not None) == has_separator
    for _ in range(2):
        ids, lengths = words.encode(texts)
        np.testing.assert_array_equal(ids, np.concatenate(alone))
        assert lengths.tolist() == list(map(len, alone))


def test_a_kept_string_with_a_space_in_it_is_found(tmp_path):
    path = write_vocab(tmp_path, [*UNCASED, "the cat"])
    tokenizer = BertTokenizer(path, never_split=(*SPECIAL_TOKENS, "the cat"))
    ids, _ = tokenizer.encode_flat(["the cat sat"])
    assert ids.tolist() == tokenizer.convert_tokens_to_ids(tokenizer.tokenize("the cat sat"))
    assert len(ids) == 2


def test_encode_flat_does_not_depend_on_its_blocks(uncased, monkeypatch):
    texts = [*REAL.splitlines(), *ADVERSARIAL]
    ids, offsets = uncased.encode_flat(texts)
    monkeypatch.setattr("transformer.tokenization.TEXTS_PER_BLOCK", 3)
    again, offsets_again = uncased.encode_flat(tuple(texts))
    assert np.array_equal(ids, again) and np.array_equal(offsets, offsets_again)


def test_surrogates_are_no_text(uncased):
    assert uncased.tokenize("a\ud800 b \ud83d\ude00") == ["a", "b", "😀"]
    assert tokens_of(uncased, "a\ud800 b \ud83d\ude00") == ["a", "b", "😀"]
    assert BasicTokenizer().tokenize("A\udfff b") == ["a", "b"]


def test_words_longer_than_100_characters_are_unknown(uncased):
    assert uncased.tokenize("a" * 101) == ["[UNK]"]
    assert len(uncased.tokenize("a" * 100)) == 100


def test_special_tokens_in_text_are_found_unless_told_otherwise(tmp_path, uncased):
    assert uncased.tokenize("the[MASK]cat") == ["the", "[MASK]", "cat"]
    plain = BertTokenizer(tmp_path / "vocab.txt", never_split=())
    assert "[MASK]" not in plain.tokenize("the [MASK] cat")
    assert BasicTokenizer(never_split=()).tokenize("[MASK]") == ["[", "mask", "]"]
    assert BasicTokenizer().tokenize("Cat[MASK]Cat") == ["cat", "[MASK]", "cat"]


def test_basic_tokenization_can_be_left_out(tmp_path):
    tokenizer = BertTokenizer(write_vocab(tmp_path, UNCASED), do_basic_tokenize=False)
    assert tokenizer.tokenize("the cat. The") == ["the", "[UNK]", "[UNK]"]


WORDPIECE_EXAMPLE = ["[UNK]", "want", "##want", "##ed", "wa", "un", "runn", "##ing"]


def test_published_wordpiece_examples():
    vocab = {t: i for i, t in enumerate(WORDPIECE_EXAMPLE)}
    tokenizer = WordpieceTokenizer(vocab)
    assert tokenizer.tokenize("") == []
    assert tokenizer.tokenize("unwanted running") == ["un", "##want", "##ed", "runn", "##ing"]
    assert tokenizer.tokenize("unwantedX running") == ["[UNK]", "runn", "##ing"]
    assert WordpieceTokenizer(vocab, max_input_chars_per_word=3).tokenize("want un") == [
        "[UNK]",
        "un",
    ]


def test_published_basic_examples():
    assert BasicTokenizer().tokenize(" \tHeLLo!how  \n Are yoU?  ") == [
        *("hello", "!", "how", "are", "you", "?")
    ]
    assert BasicTokenizer().tokenize("H\u00e9llo") == ["hello"]
    assert BasicTokenizer().tokenize("ah\u535a\u63a8zz") == ["ah", "\u535a", "\u63a8", "zz"]
    cased = BasicTokenizer(do_lower_case=False)
    assert cased.tokenize(" HäLLo! ") == ["HäLLo", "!"]


def test_ids_and_tokens_convert_both_ways(uncased):
    tokens = ["[CLS]", "the", "##ing", "[SEP]"]
    ids = uncased.convert_tokens_to_ids(tokens)
    assert ids == [UNCASED.index(token) for token in tokens]
    assert uncased.convert_ids_to_tokens(np.array(ids)) == tokens
    assert (uncased.pad_id, uncased.unk_id, uncased.cls_id, uncased.sep_id, uncased.mask_id) == (
        *range(5),
    )
    assert len(uncased) == len(UNCASED) and uncased.ids_to_tokens == UNCASED
    with pytest.raises(KeyError):
        uncased.convert_tokens_to_ids(["nonsense"])
    for wrong in (-1, len(UNCASED)):
        with pytest.raises(IndexError):
            uncased.convert_ids_to_tokens([wrong])


def test_more_ids_than_positions_are_warned_of(tmp_path, caplog):
    tokenizer = BertTokenizer(write_vocab(tmp_path, UNCASED), max_len=2)
    assert len(tokenizer.convert_tokens_to_ids(["a", "b", "c"])) == 3
    assert "3 ids" in caplog.text


def test_vocab_hash_tells_vocabularies_apart(tmp_path, uncased):
    tokens = [token if token.strip() else "" for token in UNCASED]  # no text gives the others
    assert uncased.vocab_hash == hashlib.sha256("\n".join(tokens).rstrip("\n").encode()).hexdigest()
    other = BertTokenizer(write_vocab(tmp_path / "other", UNCASED[::-1]))
    assert other.vocab_hash != uncased.vocab_hash


@pytest.mark.parametrize("tokens", [UNCASED, CASED], ids=["uncased", "cased"])
def test_a_saved_tokenizer_is_loaded_alike_here_and_by_transformers(tmp_path, tokens):
    tokenizer = BertTokenizer(write_vocab(tmp_path / "a", tokens), tokenize_chinese_chars=False)
    tokenizer.save_pretrained(tmp_path / "b", 32)
    again = BertTokenizer.from_pretrained(tmp_path / "b")
    assert again.vocab == tokenizer.vocab
    assert (tmp_path / "b" / "vocab.txt").read_bytes() == (
        tmp_path / "a" / "vocab.txt"
    ).read_bytes()
    reference = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path / "b")
    for text in [*REAL.splitlines(), *ADVERSARIAL]:
        assert again.tokenize(text) == tokenizer.tokenize(text)
        assert reference.tokenize(text) == tokenizer.tokenize(text), text
    assert reference.model_max_length == 32


def test_the_vocabulary_is_saved_where_asked(tmp_path, uncased):
    assert uncased.save_vocabulary(tmp_path) == str(tmp_path / "vocab.txt")
    assert uncased.save_vocabulary(tmp_path / "v.txt") == str(tmp_path / "v.txt")
    assert list(load_vocab(tmp_path / "v.txt")) == UNCASED


def test_a_tokenizer_can_be_sent_to_a_worker(uncased):
    again = pickle.loads(pickle.dumps(uncased))
    assert again.tokenize("The cat") == ["the", "cat"] and again.vocab_hash == uncased.vocab_hash


def test_casing_is_inferred_from_the_vocabulary_and_said(tmp_path, capsys):
    assert is_uncased(UNCASED) and not is_uncased(CASED)
    for name, tokens in {"uncased": UNCASED, "cased": CASED}.items():
        write_vocab(tmp_path / name, tokens)
        tokenizer = BertTokenizer.from_pretrained(tmp_path / name)
        assert tokenizer.do_lower_case is (name == "uncased")
        assert f"{name}: {name}, as its vocabulary says" in capsys.readouterr().err


def test_the_tokenizers_own_configuration_wins_over_the_vocabulary(tmp_path, capsys):
    write_vocab(tmp_path, UNCASED)
    config = {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.do_lower_case is False
    assert tokenizer.tokenize("中文") == ["中", "##文"]
    error = capsys.readouterr().err
    assert "cased, as tokenizer_config.json says, but no token" in error, (
        "and lower-case tokens only"
    )
    assert BertTokenizer(tmp_path / "vocab.txt").do_lower_case is False


@pytest.mark.parametrize("from_config", [True, False])
def test_a_contradicting_flag_is_obeyed_with_one_warning(tmp_path, capsys, from_config):
    write_vocab(tmp_path, UNCASED)
    if from_config:
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert BertTokenizer.from_pretrained(tmp_path, do_lower_case=True).do_lower_case is True
    assert capsys.readouterr().err == ""
    assert BertTokenizer.from_pretrained(tmp_path, do_lower_case=False).do_lower_case is False
    error = capsys.readouterr().err
    assert error.startswith("warning: ") and error.count("\n") == 1


def test_a_vocabulary_file_can_be_named_itself(tmp_path):
    path = write_vocab(tmp_path, UNCASED, "my-vocabulary.txt")
    assert BertTokenizer.from_pretrained(path).vocab["the"] == UNCASED.index("the")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"[PAD]\n\xff\xfe\n", ":2: is not UTF-8"),
        (
            "\n".join([*UNCASED, "a\rb", "c"]).encode(),
            rf":{len(UNCASED) + 1}: has a carriage return",
        ),
        ("\n".join(UNCASED[2:]).encode(), r"lacks \[PAD\] \[UNK\]"),
    ],
    ids=["empty", "blank", "encoding", "carriage return", "special tokens"],
)
def test_a_bad_vocabulary_is_one_clear_line(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"vocab\.txt.*{message}"):
        BertTokenizer.from_pretrained(tmp_path)


def test_line_ends_and_byte_order_mark_are_not_part_of_the_tokens(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(UNCASED).encode())
    assert list(load_vocab(tmp_path / "vocab.txt")) == UNCASED


@pytest.mark.parametrize("config", ["", "[1]", '{"do_lower_case": "yes"}', "\xff", "[" * 100_000])
def test_a_bad_configuration_is_one_clear_line(tmp_path, config):
    write_vocab(tmp_path, UNCASED)
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(UserError, match=r"tokenizer_config\.json"):
        BertTokenizer.from_pretrained(tmp_path)


def test_a_missing_vocabulary_is_one_clear_line(tmp_path):
    for wrong in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"no such f"):
            BertTokenizer.from_pretrained(wrong)
    with pytest.raises(UserError, match="is a folder"):
        BertTokenizer(tmp_path)
