"""The tokenizer.json of a tokenizer: that it holds BERT's WordPiece, and what it says besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from files.errors import UserError
from transformer.file_utils import VOCAB_NAME

TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
SPECIAL_MAP_NAME = "special_tokens_map.json"
ADDED_NAME = "added_tokens.json"
CONFIG_KEYS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Added(NamedTuple):
    """A token that is looked for in the text before it is split, as `tokenizers.AddedToken` says how."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True


class Backend(NamedTuple):
    """What a tokenizer.json says."""

    tokens: list[str]
    unknown: Any
    added: dict[int, Added]
    casing: dict[str, bool | None]
    template: Any


def read_object(path: Path | None) -> dict:
    """Return the JSON object in a file, {} where there is none."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}); correct or remove it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_backend(path: Path) -> Backend:
    content = read_object(path)
    model, normalizer, splitter = (
        content.get(key) if isinstance(content.get(key), dict) else {}
        for key in ("model", "normalizer", "pre_tokenizer")
    )
    told = {
        "its model": (
            model.get("type", "WordPiece" if "continuing_subword_prefix" in model else None),
            "WordPiece",
        ),
        "its model's continuing_subword_prefix": (model.get("continuing_subword_prefix"), "##"),
        "its model's max_input_chars_per_word": (model.get("max_input_chars_per_word"), 100),
        "its normalizer": (normalizer.get("type"), "BertNormalizer"),
        "its normalizer's clean_text": (normalizer.get("clean_text"), True),
        "its pre_tokenizer": (splitter.get("type"), "BertPreTokenizer"),
    }
    for what, (value, expected) in told.items():
        if value != expected:
            raise UserError(
                f"{path}: {what} is {json.dumps(value)[:80]}; expected {json.dumps(expected)}, as in "
                "every BERT: take a model whose tokenizer is BERT's WordPiece"
            )
    casing = dict(
        zip(
            CONFIG_KEYS,
            map(normalizer.get, ("lowercase", "strip_accents", "handle_chinese_chars")),
            strict=True,
        )
    )
    if not all(isinstance(value, bool | None) for value in casing.values()):
        raise UserError(f"{path}: its normalizer's settings are not true, false or null")
    entries = content.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: added_tokens is not a list of tokens")
    added = {token_id(path, entry.get("id")): read_token(path, entry) for entry in entries}
    tokens = _numbered(path, model.get("vocab"))
    while len(tokens) > 1 and not tokens[-1] and max(added, default=0) < len(tokens):
        tokens.pop()  # empty lines at the end of the vocab.txt that it was made from
    return Backend(
        tokens,
        model.get("unk_token"),
        added,
        casing,
        content.get("post_processor"),
    )


def read_token(path: Path | None, entry: Any, **defaults: bool) -> Added:
    """Read a token: a string, or an object with `content` and flags."""
    if isinstance(entry, str):
        entry = {"content": entry}
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("content"), str)
        or not entry["content"]
    ):
        raise UserError(f"{path}: {json.dumps(entry)[:80]} is not a token; expected a string")
    flags = {name: entry.get(name, defaults.get(name, name == "special")) for name in _FLAGS}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise UserError(f"{path}: the flags of {entry['content']!r} are not true or false")
    return Added(entry["content"], **flags)


def token_id(path: Path | None, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise UserError(f"{path}: {json.dumps(value)[:80]} is not the id of a token")
    return value


def _numbered(path: Path, vocab: Any) -> list[str]:
    """The tokens of a tokenizer.json by id; an id that none has is an empty string."""
    if not isinstance(vocab, dict) or not vocab:
        raise UserError(f"{path}: its model has no vocabulary; expected an object, token to id")
    ids = [token_id(path, value) for value in vocab.values()]
    if len(set(ids)) != len(ids) or max(ids) >= 2 * len(ids) + 1000:
        raise UserError(f"{path}: the ids of its vocabulary are not those of {len(ids)} lines")
    tokens = [""] * (max(ids) + 1)
    for token, i in vocab.items():
        if "\n" in token or "\r" in token:
            raise UserError(f"{path}: token {i} holds a line break, so no {VOCAB_NAME} can hold it")
        tokens[i] = token
    return tokens


def check_post_processor(
    path: Path, template: Any, cls: tuple[str, int], sep: tuple[str, int]
) -> None:
    """Refuse a tokenizer that does not put [CLS] A [SEP] B [SEP] together, with segments 0 and 1.

    Args:
        cls, sep: the tokens that do it here, and their ids.
    """

    def token(name: str, segment: int) -> dict:
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name: str, segment: int) -> dict:
        return {"Sequence": {"id": name, "type_id": segment}}

    told = template if isinstance(template, dict) else {}
    if told.get("type") == "BertProcessing":
        fits = [told.get("cls"), told.get("sep")] == [[*cls], [*sep]]
    else:
        single = [token(cls[0], 0), text("A", 0), token(sep[0], 0)]
        pair = [*single, text("B", 1), token(sep[0], 1)]
        known = told.get("special_tokens") if isinstance(told.get("special_tokens"), dict) else {}
        ids = [
            known[name].get("ids") if isinstance(known.get(name), dict) else None
            for name, _ in (cls, sep)
        ]
        fits = (told.get("single"), told.get("pair"), ids) == (single, pair, [[cls[1]], [sep[1]]])
    if not fits:
        (first, first_id), (last, last_id) = cls, sep
        raise UserError(
            f"{path}: its post_processor ({told.get('type')}) does not make {first} A {last} B {last} (ids "
            f"{first_id} and {last_id}, segments 0 and 1); expected BERT's, as texts are put together here"
        )


def check_unknown(path: Path, unknown: Any, names: Mapping[str, str]) -> None:
    if unknown != names["unk_token"]:
        raise UserError(
            f"{path}: its model's unk_token is {json.dumps(unknown)[:80]}, the tokenizer's "
            f"{names['unk_token']!r}; expected the same: name it in {TOKENIZER_CONFIG_NAME}"
        )
