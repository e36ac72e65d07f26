"""The files of a tokenizer, as `transformers` 4 and 5 write them: what they say, or why it is refused.

Read are vocab.txt or tokenizer.json, tokenizer_config.json, special_tokens_map.json, added_tokens.json and,
for the tokenizer's class, config.json. What WordPiece with BERT's splitting can do is done token for token
as `transformers` does it; anything else is refused, with the file and the key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.atomic import atomic_open
from files.errors import UserError
from transformer.added_tokens import add_special_tokens, added_tokens, named_tokens
from transformer.byte_bpe import BPE_VOCAB_NAME
from transformer.file_utils import CONFIG_NAME, VOCAB_NAME
from transformer.hub import find_model_file
from transformer.tokenizer_json import (
    ADDED_NAME,
    CONFIG_KEYS,
    SPECIAL_MAP_NAME,
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAME,
    Added,
    Backend,
    check_post_processor,
    check_unknown,
    read_backend,
    read_object,
)
from transformer.vocabulary import (
    SPECIAL_TOKENS,
    WHITE_SPACE,
    check_marks,
    number,
    read_tokens,
    say_once,
    write_vocabulary,
)

VOCABULARIES = (VOCAB_NAME, TOKENIZER_NAME)
SETTINGS = (TOKENIZER_CONFIG_NAME, SPECIAL_MAP_NAME, ADDED_NAME, CONFIG_NAME)
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
EXTRAS = ("additional_special_tokens", "extra_special_tokens", "bos_token", "eos_token")

# Classes whose tokens are those of BertTokenizer, and model types that take one of them by default.
_CLASSES = (
    "Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM", "Lxmert",
    "RetriBert", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader",
)  # fmt: skip
_GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")  # all is in tokenizer.json
_MODEL_TYPES = (
    "bert", "distilbert", "electra", "mobilebert", "squeezebert", "convbert", "layoutlm", "lxmert",
    "retribert", "dpr", "visual_bert", "megatron-bert", "nezha",
)  # fmt: skip
_DIFFERS = "versions of transformers read it in different ways"
# key: the value that is done here, and why no other is.
_EXPECTED: dict[str, tuple[Any, str]] = {
    "do_basic_tokenize": (True, _DIFFERS),
    "clean_text": (True, _DIFFERS),
    "split_special_tokens": (False, _DIFFERS),
    "wordpieces_prefix": ("##", _DIFFERS),
    "max_input_chars_per_word": (100, _DIFFERS),
    "truncation_side": ("right", "long texts are cut at their end here"),
    "word_tokenizer_type": ("basic", "words are split as BERT does it here"),
    "subword_tokenizer_type": ("wordpiece", "words are cut by WordPiece here"),
}
_DEFAULTS = dict(zip(CONFIG_KEYS, (True, None, True), strict=True))


@dataclass(frozen=True)
class TokenizerSettings:
    """What the files of a tokenizer say.

    Attributes:
        tokens: the tokens of the WordPiece vocabulary; a token's id is its place.
        names: role (`pad_token`, …) -> token.
        added: id -> token; ids beyond `tokens` follow it without a gap.
        do_lower_case, strip_accents, tokenize_chinese_chars: None where no file says it.
        casing_from: the name of the file that says the casing.
    """

    tokens: list[str]
    names: dict[str, str]
    added: dict[int, Added]
    do_lower_case: bool | None
    strip_accents: bool | None
    tokenize_chinese_chars: bool | None
    casing_from: str | None


def files_beside(vocabulary: str | os.PathLike) -> dict[str, Path]:
    """Return the files of the tokenizer whose vocabulary is `vocabulary`, by their names in a model folder.

    A file with a name of its own stands for vocab.txt; only a tokenizer_config.json beside it is read.
    """
    path = Path(vocabulary)
    own = path.name in VOCABULARIES
    names = (*VOCABULARIES, *SETTINGS) if own else (TOKENIZER_CONFIG_NAME,)
    found = {name: path.with_name(name) for name in names if path.with_name(name).is_file()}
    return found | {path.name if own else VOCAB_NAME: path}


def find_tokenizer(
    source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Return the files of a model's tokenizer; the model is a folder, a hub name or an address.

    Raises:
        UserError: it has neither vocab.txt nor tokenizer.json.
    """
    if Path(source).is_file():
        return files_beside(source)
    found = {name: _find(source, name, cache_dir) for name in VOCABULARIES}
    if not any(found.values()):
        if Path(source).is_dir():
            raise UserError(
                f"{Path(source) / VOCAB_NAME}: no such file, and no {TOKENIZER_NAME}; expected one of them "
                "in every model folder"
            )
        find_model_file(source, VOCAB_NAME, cache_dir)  # says what is wrong
    found |= {name: _find(source, name, cache_dir) for name in SETTINGS}
    return {name: path for name, path in found.items() if path is not None}


def has_tokenizer(source: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> bool:
    """Whether a model has a vocabulary of its own."""
    return any(_find(source, name, cache_dir) for name in (*VOCABULARIES, BPE_VOCAB_NAME))


def _find(source: str | os.PathLike, name: str, cache_dir: str | os.PathLike | None) -> Path | None:
    return find_model_file(source, name, cache_dir, required=False)


def read_settings(files: Mapping[str, Path]) -> TokenizerSettings:
    """Read a tokenizer's files (see `find_tokenizer`).

    Raises:
        UserError: a file is not valid, they contradict each other, or they ask for something else than
            BERT's WordPiece.
    """
    config = read_object(files.get(TOKENIZER_CONFIG_NAME))
    for key in CONFIG_KEYS:
        if not isinstance(config.get(key), bool | None):
            where = files[TOKENIZER_CONFIG_NAME]
            raise UserError(f"{where}: {key} is {config[key]!r}; expected true, false or null")
    is_generic = _check_class(config, files)
    special_map = read_object(files.get(SPECIAL_MAP_NAME))
    backend = read_backend(files[TOKENIZER_NAME]) if TOKENIZER_NAME in files else None
    named = {
        key: named_tokens(files, config.get(key), special_map.get(key)) for key in (*ROLES, *EXTRAS)
    }
    names = {
        role: named[role][0].content if named[role] else default
        for role, default in zip(ROLES, SPECIAL_TOKENS, strict=True)
    }
    _check_expected(files.get(TOKENIZER_CONFIG_NAME), config, names)
    if backend is not None:
        check_unknown(files[TOKENIZER_NAME], backend.unknown, names)
    tokens = _vocabulary(files, backend)
    check_marks(files.get(VOCAB_NAME) or files[TOKENIZER_NAME], tokens)
    added = added_tokens(
        files, tokens, config, backend, [token for key in named for token in named[key]]
    )
    add_special_tokens(files, tokens, added, named, names)
    known = number(tokens) | {token.content: i for i, token in added.items()}
    if backend is not None:
        ends = ((names[role], known[names[role]]) for role in ("cls_token", "sep_token"))
        check_post_processor(files[TOKENIZER_NAME], backend.template, *ends)
    try:
        "".join(known).encode("utf-8")
    except UnicodeEncodeError:
        where = files.get(TOKENIZER_NAME) or files[TOKENIZER_CONFIG_NAME]
        raise UserError(f"{where}: a token is not valid Unicode; fetch the file again") from None
    casing, casing_from = _casing(files, config, backend, is_generic)
    return TokenizerSettings(tokens, names, added, *casing, casing_from)


def _check_class(config: Mapping, files: Mapping[str, Path]) -> bool:
    """Refuse a tokenizer that is not BERT's; return whether tokenizer.json alone says what it does."""
    where, name = files.get(TOKENIZER_CONFIG_NAME), config.get("tokenizer_class")
    model: dict = {}
    if CONFIG_NAME in files:
        try:
            model = read_object(files[CONFIG_NAME])
        except UserError:  # said by whoever reads the model
            model = {}
    if name is None and model.get("tokenizer_class") is not None:
        where, name = files[CONFIG_NAME], model["tokenizer_class"]
    if isinstance(config.get("auto_map"), dict) and "AutoTokenizer" in config["auto_map"]:
        raise UserError(
            f"{where}: auto_map names a tokenizer of its own code, which is not run; expected BertTokenizer"
        )
    advice = "take a model whose tokenizer is BERT's WordPiece"
    if name is not None:
        known = {f"{kind}Tokenizer{fast}" for kind in _CLASSES for fast in ("", "Fast")}
        if not isinstance(name, str) or name not in {*known, *_GENERIC}:
            types = [
                config[key]
                for key in ("word_tokenizer_type", "subword_tokenizer_type")
                if config.get(key)
            ]
            told = f" ({', '.join(map(str, types))})" if types else ""
            raise UserError(
                f"{where}: tokenizer_class is {name!r}{told}, which gives other tokens; expected "
                f"BertTokenizer: {advice}"
            )
        return name in _GENERIC
    kind = model.get("model_type")
    if kind is not None and kind not in _MODEL_TYPES:
        raise UserError(
            f"{files[CONFIG_NAME]}: model_type is {kind!r}, whose tokenizer is not BERT's; if this one "
            f'is, say "tokenizer_class": "BertTokenizer" in {TOKENIZER_CONFIG_NAME}, else {advice}'
        )
    return False


def _check_expected(path: Path | None, config: Mapping, names: Mapping[str, str]) -> None:
    for key, (expected, why) in _EXPECTED.items():
        value = config.get(key)
        if value is not None and value != expected:
            raise UserError(
                f"{path}: {key} is {json.dumps(value)}; expected {json.dumps(expected)}, because {why}; "
                "correct it if the model was trained so, else take another model"
            )
    kept = config.get("never_split") or []
    if not isinstance(kept, list) or any(token not in names.values() for token in kept):
        raise UserError(
            f"{path}: never_split is {json.dumps(kept)}; expected no tokens but the special ones, because "
            "transformers does not obey it; remove it, or name them in additional_special_tokens"
        )


def _vocabulary(files: Mapping[str, Path], backend: Backend | None) -> list[str]:
    """The tokens of vocab.txt, or of tokenizer.json; where both are there they must agree."""
    if backend is None:
        return read_tokens(files[VOCAB_NAME])
    if VOCAB_NAME not in files:
        return backend.tokens
    tokens = read_tokens(files[VOCAB_NAME])
    beyond = [backend.added[i].content for i in sorted(backend.added) if i >= len(backend.tokens)]
    if _ids(tokens) == _ids(backend.tokens):
        return tokens
    if _ids(tokens) == _ids(
        [*backend.tokens, *beyond]
    ):  # vocab.txt with the added tokens at its end
        return tokens[: len(backend.tokens)]
    ours, theirs = (
        {i: token for token, i in _ids(each).items()} for each in (tokens, backend.tokens)
    )
    first = min(i for i in {*ours, *theirs} if ours.get(i) != theirs.get(i))
    raise UserError(
        f"{files[VOCAB_NAME]}: token {first} is {ours.get(first)!r}, in {files[TOKENIZER_NAME]} it is "
        f"{theirs.get(first)!r}; expected the same tokens: remove the file that is not the model's"
    )


def _ids(tokens: Iterable[str]) -> dict[str, int]:
    trimmed = [token.rstrip(WHITE_SPACE) for token in tokens]
    return {token: i for i, token in enumerate(trimmed) if token}


def _casing(
    files: Mapping[str, Path], config: Mapping, backend: Backend | None, is_generic: bool
) -> tuple[list[bool | None], str | None]:
    """do_lower_case, strip_accents and tokenize_chinese_chars, and the file that says the first."""
    theirs = backend.casing if backend else {}
    if is_generic and backend:
        return [theirs[key] for key in CONFIG_KEYS], TOKENIZER_NAME
    for key in CONFIG_KEYS:
        if config.get(key) is not None and theirs.get(key) not in (None, config[key]):
            say_once(
                f"warning: {files[TOKENIZER_CONFIG_NAME]}: {key} is {json.dumps(config[key])}, in "
                f"{TOKENIZER_NAME} {json.dumps(theirs[key])}; the former is used, as by transformers"
            )
        elif key not in config and theirs.get(key, _DEFAULTS[key]) != _DEFAULTS[key]:
            say_once(
                f"note: {files[TOKENIZER_NAME]}: {key} is {json.dumps(theirs[key])} there, and "
                f"{TOKENIZER_CONFIG_NAME} does not say it: it is used, though transformers' BertTokenizer "
                f"takes {json.dumps(_DEFAULTS[key])}; say it there too"
            )
    values = [config[key] if key in config else theirs.get(key) for key in CONFIG_KEYS]
    if values[0] is None:
        values[0] = theirs.get("do_lower_case")
    if values[0] is None:
        return values, None
    return values, TOKENIZER_NAME if config.get("do_lower_case") is None else TOKENIZER_CONFIG_NAME


def write_settings(
    folder: Path, settings: TokenizerSettings, backend: dict, positions: int
) -> None:
    """Write a tokenizer's files so that `transformers` 4 and 5 give the ids that are given here.

    Args:
        settings: with a casing.
        backend: the content of a tokenizer.json but for its vocabulary.
        positions: the most tokens that the model takes.
    """
    config: dict[str, Any] = {"tokenizer_class": "BertTokenizer"}
    config |= {key: getattr(settings, key) for key in CONFIG_KEYS}
    config["model_max_length"] = positions
    known = {*settings.tokens, *(token.content for token in settings.added.values())}
    for (role, name), default in zip(settings.names.items(), SPECIAL_TOKENS, strict=True):
        if name != default or name not in known:
            config[role] = name if name in known else None
    names = settings.names.values()
    others = {i: token for i, token in settings.added.items() if token.content not in names}
    if special := [token.content for token in others.values() if token.special]:
        config["additional_special_tokens"] = special
    if others or any(token != Added(token.content) for token in settings.added.values()):
        config["added_tokens_decoder"] = {
            str(i): token._asdict() for i, token in settings.added.items()
        }
    vocab = number(settings.tokens)
    backend = backend | {"model": backend["model"] | {"vocab": vocab}}
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / VOCAB_NAME, settings.tokens)
    _write_object(folder / TOKENIZER_NAME, backend)
    _write_object(folder / TOKENIZER_CONFIG_NAME, config)


def limit_max_length(folder: Path, positions: int) -> bool:
    """Have a model folder's tokenizer_config.json say no more tokens than the model has positions for.

    Returns:
        Whether it had to be written.
    """
    path = folder / TOKENIZER_CONFIG_NAME
    config = read_object(path if path.is_file() else None)
    told = config.get("model_max_length")
    if type(told) in (int, float) and 0 < told <= positions:
        return False
    _write_object(
        path, {"tokenizer_class": "BertTokenizer"} | config | {"model_max_length": positions}
    )
    return True


def _write_object(path: Path, content: dict) -> None:
    with atomic_open(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")
