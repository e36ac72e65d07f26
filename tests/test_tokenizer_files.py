"""Tokenizers that others wrote: ids as `transformers` gives them, or one line that says why not."""

import json

import pytest

from files.errors import UserError
from tests.test_tokenization import ADVERSARIAL, CASED, REAL, UNCASED, random_texts, write_vocab
from transformer import vocabulary
from transformer.tokenization import BertTokenizer
from transformer.tokenizer_files import limit_max_length

TEXTS = [
    *REAL.splitlines(),
    *ADVERSARIAL,
    *random_texts(100),
    "The COVID covid COVIDs thecovid [NEW] [new] a[NEW]b, New York newyork <pad> <PAD> <m>the",
]
VOCABULARY = [*UNCASED, "<pad>", "<m>", "covid"]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(vocabulary, "_told", set())


def write(folder, tokens=VOCABULARY, **files):
    """Write vocab.txt (None: not) and JSON files by their stems."""
    folder.mkdir(parents=True, exist_ok=True)
    if tokens is not None:
        write_vocab(folder, tokens)
    for name, content in {"config": {"model_type": "bert"}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def token(content, special=False, **flags):
    no = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {"content": content, **no, "normalized": not special, "special": special, **flags}


def saved(folder, **changes):
    """A tokenizer.json, made by `transformers`, with some of it changed: path with __ -> value."""
    transformers = pytest.importorskip("transformers")
    write(folder, UNCASED, tokenizer_config={"do_lower_case": True})
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    content = json.loads((folder / "tokenizer.json").read_text())
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = content
        for part in parts:
            place = place[part]
        place[last] = value
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def check_equal(ours, theirs):
    ids, offsets = ours.encode_flat(TEXTS)
    expected = theirs(TEXTS, add_special_tokens=False)["input_ids"]
    for i, text in enumerate(TEXTS):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected[i], text
    assert (ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id) == (
        *(theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id, theirs.sep_token_id),
    )


N = len(VOCABULARY)
DONE = {
    "class": {"tokenizer_config": {"tokenizer_class": "ElectraTokenizerFast"}},
    "DistilBERT": {"tokenizer_config": {"tokenizer_class": "DistilBertTokenizer"}},
    "accents kept": {"tokenizer_config": {"do_lower_case": True, "strip_accents": False}},
    "accents stripped": {"tokenizer_config": {"do_lower_case": False, "strip_accents": True}},
    "Chinese characters together": {"tokenizer_config": {"tokenize_chinese_chars": False}},
    "cased": {"tokenizer_config": {"do_lower_case": False}},
    "other names": {"tokenizer_config": {"pad_token": "<pad>", "mask_token": "<m>"}},
    "other names in the map": {
        "special_tokens_map": {"pad_token": "<pad>", "mask_token": token("<m>", True, lstrip=True)}
    },
    "additional special tokens": {
        "tokenizer_config": {"additional_special_tokens": ["[unused1]", "covid"]}
    },
    "extra special tokens": {"tokenizer_config": {"extra_special_tokens": ["[unused1]"]}},
    "added_tokens.json": {
        "tokenizer_config": {"additional_special_tokens": ["[NEW]"]},
        "added_tokens": {"COVID": N, "[NEW]": N + 1},
    },
    "added_tokens_decoder": {
        "tokenizer_config": {
            "added_tokens_decoder": {
                str(N): token("COVID", single_word=True),
                str(N + 1): token("[NEW]", True),
                str(N + 2): token("New York"),
            }
        }
    },
    "pad added": {
        "tokenizer_config": {
            "pad_token": "[PAD2]",
            "added_tokens_decoder": {str(N): token("[PAD2]", True)},
        }
    },
}


@pytest.mark.parametrize("name", DONE)
def test_ids_are_those_of_transformers_as_read_and_as_written_again(tmp_path, name):
    auto = pytest.importorskip("transformers").AutoTokenizer
    folder = write(tmp_path / "a", **DONE[name])
    ours, theirs = BertTokenizer.from_pretrained(folder), auto.from_pretrained(folder)
    check_equal(ours, theirs)
    ours.save_pretrained(tmp_path / "b", 64)
    (tmp_path / "b" / "config.json").write_text('{"model_type": "bert"}')
    again = auto.from_pretrained(tmp_path / "b")
    check_equal(ours, again)
    assert again.model_max_length == 64
    assert BertTokenizer.from_pretrained(tmp_path / "b").describe() == ours.describe()
    theirs.save_pretrained(tmp_path / "c")  # tokenizer.json alone, as transformers 5 does
    (tmp_path / "c" / "vocab.txt").unlink(missing_ok=True)
    check_equal(BertTokenizer.from_pretrained(tmp_path / "c"), theirs)
    assert BertTokenizer.from_pretrained(tmp_path / "c").vocab_hash == ours.vocab_hash
    theirs.save_pretrained(tmp_path / "b")  # both, and they agree
    assert BertTokenizer.from_pretrained(tmp_path / "b").vocab_hash == ours.vocab_hash


LINES = {
    "empty lines": [*UNCASED, "", "zebra", "", "yak"],
    "blank lines at the end": [*UNCASED, "zebra", "", "", ""],
    "repeated tokens": [*UNCASED, "the", "zebra", "cat"],
    "spaces": [*UNCASED, " zebra", "dog ", "yak\u00a0", "\u3000", "  "],
    "separators": [*UNCASED, "\u2028", "zz\u2028", "\u0085", "red\x1c", "\x1c", "zebra"],
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ids_are_line_numbers_as_transformers_counts_them(tmp_path, capsys, name, end):
    auto = pytest.importorskip("transformers").AutoTokenizer
    folder = write(tmp_path / "a", tokenizer_config={"do_lower_case": True})
    (folder / "vocab.txt").write_bytes((end.join(LINES[name]) + end).encode())
    ours, theirs = BertTokenizer.from_pretrained(folder), auto.from_pretrained(folder)
    text = "zebra dog yak the cat red z a"
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.encode_flat([text])[0].tolist() == expected
    assert {word: ours.vocab.get(word) for word in text.split()} == {
        word: theirs.get_vocab().get(word) for word in text.split()
    }
    said = capsys.readouterr().err
    assert ("the last line gives the id" in said) == (name == "repeated tokens")
    assert (": empty line (" in said) == (name == "empty lines")
    assert len(ours) == len(ours.ids_to_tokens) > max(ours.vocab.values())
    ours.save_pretrained(tmp_path / "b", 64)
    (tmp_path / "b" / "tokenizer.json").unlink()
    assert BertTokenizer(tmp_path / "b" / "vocab.txt").vocab_hash == ours.vocab_hash
    theirs.save_pretrained(tmp_path / "c")
    assert BertTokenizer.from_pretrained(tmp_path / "c").vocab_hash == ours.vocab_hash
    assert BertTokenizer.from_pretrained(tmp_path / "c").encode_flat([text])[0].tolist() == expected


REFUSED = {
    "Japanese": (
        {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"},
        r"tokenizer_class is 'BertJapaneseTokenizer' \(mecab\).*BertTokenizer",
    ),
    "RoBERTa": ({"tokenizer_class": "RobertaTokenizer"}, "'RobertaTokenizer'"),
    "sentencepiece": ({"tokenizer_class": "AlbertTokenizerFast"}, "'AlbertTokenizerFast'"),
    "code": ({"auto_map": {"AutoTokenizer": ["t.T", None]}}, "auto_map"),
    "no basic tokenizer": (
        {"do_basic_tokenize": False},
        "do_basic_tokenize is false; expected true",
    ),
    "never split": ({"never_split": ["the"]}, r'never_split is \["the"\]'),
    "prefix": ({"wordpieces_prefix": "@@"}, 'wordpieces_prefix is "@@"; expected "##"'),
    "long words": (
        {"max_input_chars_per_word": 50},
        "max_input_chars_per_word is 50; expected 100",
    ),
    "special tokens split": ({"split_special_tokens": True}, "split_special_tokens"),
    "left": ({"truncation_side": "left"}, "truncation_side"),
    "sudachi": ({"word_tokenizer_type": "sudachi"}, "word_tokenizer_type"),
    "characters": ({"subword_tokenizer_type": "character"}, "subword_tokenizer_type"),
    "unknown special token": ({"additional_special_tokens": ["<e>"]}, "lacks '<e>'"),
    "unknown pad": ({"pad_token": "<none>"}, "lacks <none>"),
    "added far away": (
        {"added_tokens_decoder": {"500": token("x y")}},
        "'x y' is added as token 500",
    ),
    "added elsewhere": (
        {"added_tokens_decoder": {"7": token("the")}},
        "'the' is added as token 7, but in the vocabulary it is token",
    ),
    "id of none": ({"added_tokens_decoder": {"x": token("q")}}, "is not the id of a token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_wordpiece_does_not_do_is_refused_by_file_and_key(tmp_path, name):
    config, message = REFUSED[name]
    write(tmp_path, tokenizer_config=config)
    with pytest.raises(
        UserError, match=rf"(tokenizer_config\.json|vocab\.txt).*{message}"
    ) as error:
        BertTokenizer.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_the_class_may_stand_in_the_models_config(tmp_path):
    write(tmp_path, config={"model_type": "bert", "tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(UserError, match=r"/config\.json: tokenizer_class"):
        BertTokenizer.from_pretrained(tmp_path)
    write(tmp_path, config={"model_type": "roformer"})
    with pytest.raises(UserError, match=r"/config\.json: model_type is 'roformer'"):
        BertTokenizer.from_pretrained(tmp_path)
    write(
        tmp_path, config={"model_type": "x"}, tokenizer_config={"tokenizer_class": "BertTokenizer"}
    )
    assert BertTokenizer.from_pretrained(tmp_path).tokenize("the cat") == ["the", "cat"]


BACKENDS = {
    "BPE": {"model__type": "BPE"},
    "Unigram": {"model__type": "Unigram"},
    "prefix": {"model__continuing_subword_prefix": "@"},
    "long words": {"model__max_input_chars_per_word": 20},
    "unknown token": {"model__unk_token": "<unk>"},
    "normalizer": {"normalizer": {"type": "Lowercase"}},
    "no normalizer": {"normalizer": None},
    "control characters": {"normalizer__clean_text": False},
    "pre_tokenizer": {"pre_tokenizer": {"type": "Whitespace"}},
    "post_processor": {"post_processor": None},
    "RoBERTa's": {"post_processor": {"type": "RobertaProcessing", "cls": ["[CLS]", 2]}},
    "other ids": {
        "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 3], "sep": ["[SEP]", 2]}
    },
    "ids": {"model__vocab": {"[PAD]": 0, "[UNK]": 0}},
    "line breaks": {"model__vocab": {"[PAD]": 0, "a\nb": 1}},
    "far ids": {"model__vocab": {"[PAD]": 10**12}},
    "no vocabulary": {"model__vocab": []},
    "no tokens": {"added_tokens": [3]},
}


@pytest.mark.parametrize("name", BACKENDS)
def test_another_tokenizer_json_is_refused(tmp_path, name):
    saved(tmp_path, **BACKENDS[name])
    with pytest.raises(UserError, match=r"/tokenizer\.json: "):
        BertTokenizer.from_pretrained(tmp_path)


def test_a_tokenizer_json_of_the_tokenizers_library_is_read(tmp_path):
    write(tmp_path, None)
    from tokenizers import BertWordPieceTokenizer

    library = BertWordPieceTokenizer({t: i for i, t in enumerate(CASED)}, lowercase=False)
    library.save(str(tmp_path / "tokenizer.json"))
    ours = BertTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.tokenize(text) == library.encode(text, add_special_tokens=False).tokens
    assert not ours.do_lower_case
    assert BertTokenizer(tmp_path / "tokenizer.json").vocab == ours.vocab


@pytest.mark.parametrize("token", ["\u2581{}", "\u0120{}", "{}</w>", "{}@@"])
def test_a_vocabulary_marked_as_another_tokenizers_is_refused(tmp_path, token):
    words = [token.format(word) for word in ("the", "cat", "sat")]
    write(tmp_path, [*UNCASED[:5], *words, "a"])
    with pytest.raises(UserError, match=r"vocab\.txt: 3 of its 9 tokens are marked as .*BPE|Sente"):
        BertTokenizer.from_pretrained(tmp_path)
    write(tmp_path, [*UNCASED, *words])  # a few among WordPiece's say nothing
    assert BertTokenizer.from_pretrained(tmp_path).tokenize("the cat") == ["the", "cat"]


def test_vocabularies_that_contradict_each_other_are_refused(tmp_path):
    saved(tmp_path)
    write_vocab(tmp_path, [*UNCASED[:-2], UNCASED[-1], UNCASED[-2]])
    with pytest.raises(
        UserError, match=rf"vocab\.txt: token {len(UNCASED) - 2} is .*tokenizer\.json"
    ):
        BertTokenizer.from_pretrained(tmp_path)


def test_of_two_casings_the_configurations_is_used_and_said(tmp_path, capsys):
    auto = pytest.importorskip("transformers").AutoTokenizer
    saved(tmp_path, normalizer__lowercase=False)
    ours = BertTokenizer.from_pretrained(tmp_path)
    assert ours.tokenize("The") == auto.from_pretrained(tmp_path).tokenize("The") == ["the"]
    warning = capsys.readouterr().err
    assert "do_lower_case is true, in tokenizer.json false" in warning
    assert (
        "do_lower_case is true"
        not in (BertTokenizer(tmp_path / "tokenizer.json"), capsys.readouterr().err)[1]
    )


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_a_casing_that_the_vocabulary_contradicts_is_said(tmp_path, capsys, do_lower_case):
    tokens = CASED if do_lower_case else UNCASED
    write(tmp_path, tokens, tokenizer_config={"do_lower_case": do_lower_case})
    BertTokenizer.from_pretrained(tmp_path)
    line = capsys.readouterr().err
    assert line.startswith("warning: ") and line.count("\n") == 1 and "upper-case letter" in line


def test_a_vocabulary_without_letters_contradicts_no_casing(tmp_path, capsys):
    write(tmp_path, [*UNCASED[:5], "東京", "に"], tokenizer_config={"do_lower_case": False})
    BertTokenizer.from_pretrained(tmp_path)
    assert capsys.readouterr().err.startswith("note: ")


def test_a_mask_is_asked_for_only_where_words_are_masked(tmp_path):
    write(tmp_path, [token for token in UNCASED if token != "[MASK]"])
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("the cat") == ["the", "cat"]
    with pytest.raises(UserError, match=r"vocab\.txt: lacks \[MASK\]"):
        print(tokenizer.mask_id)


def test_the_maximum_length_is_lowered_to_the_positions_and_never_raised(tmp_path):
    path = (
        write(tmp_path, tokenizer_config={"a": 1, "model_max_length": 1e30})
        / "tokenizer_config.json"
    )
    assert limit_max_length(tmp_path, 32) and not limit_max_length(tmp_path, 64)
    assert json.loads(path.read_text()) == {
        "tokenizer_class": "BertTokenizer", "a": 1, "model_max_length": 32,
    }  # fmt: skip


def test_teacher_and_student_are_compared_by_tokens_and_settings(tmp_path):
    from cli.training import check_vocabulary
    from transformer.configuration import BertConfig

    config = BertConfig(vocab_size=len(UNCASED))
    write(tmp_path / "teacher", UNCASED, tokenizer_config={"do_lower_case": True})
    tokenizer = BertTokenizer.from_pretrained(tmp_path / "teacher")
    student = saved(tmp_path / "student")  # tokenizer.json alone
    check_vocabulary(tokenizer, config, student)
    settings = {"do_lower_case": True, "strip_accents": False}
    (student / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="another strip_accents"):
        check_vocabulary(tokenizer, config, student)
    write(tmp_path / "other", [*UNCASED[:-1], "zebra"])
    with pytest.raises(UserError, match=r"vocab\.txt: different tokens"):
        check_vocabulary(tokenizer, config, tmp_path / "other")


def test_augmentation_reads_added_and_renamed_tokens_and_never_proposes_them(tmp_path):
    from tasks.sentence_words import SentenceSplitter, replacement_tokens

    settings = {"pad_token": "<pad>", "additional_special_tokens": ["covid", "[NEW]"]}
    folder = write(tmp_path, tokenizer_config=settings, added_tokens={"[NEW]": N})
    tokenizer = BertTokenizer.from_pretrained(folder)
    splitter = SentenceSplitter(tokenizer, 64)
    for text in ("The cat <pad> [NEW] the covid cat", "cat[NEW]<pad>"):
        assert splitter(text).ids.tolist() == tokenizer.encode_flat([text])[0].tolist()
    allowed = replacement_tokens(tokenizer)
    assert allowed[tokenizer.vocab["cat"]]
    assert not any(allowed[tokenizer.vocab[name]] for name in ("<pad>", "covid", "[NEW]", "[PAD]"))
    repeated = BertTokenizer(write_vocab(tmp_path / "r", [*UNCASED, "cat"]))
    assert (
        replacement_tokens(repeated).sum()
        == replacement_tokens(BertTokenizer(write_vocab(tmp_path / "s", UNCASED))).sum()
    )
