"""Special and added tokens: which a tokenizer's files name, and the ids that they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.errors import UserError
from transformer.file_utils import VOCAB_NAME
from transformer.tokenizer_json import (
    ADDED_NAME,
    SPECIAL_MAP_NAME,
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAME,
    Added,
    Backend,
    read_object,
    read_token,
    token_id,
)
from transformer.vocabulary import SPECIAL_TOKENS, number, reachable


def named_tokens(files: Mapping[str, Path], told: Any, mapped: Any) -> list[Added]:
    """The special tokens that tokenizer_config.json or special_tokens_map.json names under one key."""
    found = []
    for name, value in ((TOKENIZER_CONFIG_NAME, told), (SPECIAL_MAP_NAME, mapped)):
        if isinstance(value, dict) and "content" not in value:  # extra_special_tokens by name
            value = list(value.values())
        entries = value if isinstance(value, list) else [value] if value else []
        found.append([read_token(files[name], entry)._replace(special=True) for entry in entries])
    if (
        all(found)
        and [{token.content for token in each} for each in found].count(
            {token.content for token in found[0]}
        )
        != 2
    ):
        contents = [" ".join(token.content for token in each) for each in found]
        raise UserError(
            f"{files[SPECIAL_MAP_NAME]}: names {contents[1]} where {TOKENIZER_CONFIG_NAME} names "
            f"{contents[0]}; expected the same special tokens"
        )
    return found[0] or found[1]


def added_tokens(
    files: Mapping[str, Path],
    tokens: list[str],
    config: Mapping,
    backend: Backend | None,
    special: list[Added],
) -> dict[int, Added]:
    """The added tokens of all files by id, each with one id, those beyond the vocabulary right behind it."""
    where, found = files.get(TOKENIZER_NAME), dict(backend.added) if backend else {}
    contents = {token.content for token in special}
    legacy = read_object(files.get(ADDED_NAME))
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise UserError(f"{files[TOKENIZER_CONFIG_NAME]}: added_tokens_decoder is not an object")
    told = [(ADDED_NAME, value, content) for content, value in legacy.items()]
    told += [
        (TOKENIZER_CONFIG_NAME, int(i) if re.fullmatch("[0-9]{1,9}", i) else i, entry)
        for i, entry in decoder.items()
    ]
    for name, value, entry in told:
        where, i = files[name], token_id(files[name], value)
        is_special = entry in contents if isinstance(entry, str) else False
        token = read_token(where, entry, special=is_special, normalized=not is_special)
        if found.get(i, token).content != token.content:
            raise UserError(
                f"{where}: token {i} is {token.content!r}, elsewhere {found[i].content!r}; expected the same"
            )
        if name == TOKENIZER_CONFIG_NAME or i not in found:
            found[i] = token
    if len({token.content for token in found.values()}) < len(found):
        raise UserError(f"{where}: an added token has two ids; expected one")
    _check_added(where, tokens, found)
    return dict(sorted(found.items()))


def _check_added(where: Path | None, tokens: list[str], added: Mapping[int, Added]) -> None:
    vocab = number(tokens)
    beyond = sorted(i for i in added if i >= len(tokens))
    for i, token in added.items():
        told = vocab.get(token.content, i)
        if told != i or (i < len(tokens) and tokens[i] != token.content):
            raise UserError(
                f"{where}: {token.content!r} is added as token {i}, but in the vocabulary "
                f"{f'it is token {told}' if told != i else f'that is {tokens[i]!r}'}"
            )
    # One blank line counts as a token in every version; what appears twice counts once.
    gaps = reachable(tokens).count("") > 1 or len(vocab) < len(tokens)
    if beyond != list(range(len(tokens), len(tokens) + len(beyond))) or (beyond and gaps):
        token = added[beyond[0]].content
        raise UserError(
            f"{where}: {token!r} is added as token {beyond[0]} to a vocabulary of {len(tokens)} lines"
            f"{' with blank or repeated ones' if gaps else ''}; expected added tokens to follow it without a "
            "gap: versions of transformers give them different ids"
        )


def add_special_tokens(
    files: Mapping[str, Path],
    tokens: list[str],
    added: dict[int, Added],
    named: Mapping[str, list[Added]],
    names: Mapping[str, str],
) -> None:
    """Let the special tokens be found in the text too, which all of them must have an id for."""
    vocab = number(tokens) | {token.content: i for i, token in added.items()}
    where = files.get(VOCAB_NAME) or files[TOKENIZER_NAME]
    lacks = [name for role, name in names.items() if name not in vocab and role != "mask_token"]
    if names["unk_token"] not in number(tokens) and names["unk_token"] not in lacks:
        lacks.append(names["unk_token"])
    if lacks:
        raise UserError(
            f"{where}: lacks {' '.join(lacks)}; expected a BERT vocabulary, which holds "
            f"{' '.join(SPECIAL_TOKENS)}, or other names for them in {TOKENIZER_CONFIG_NAME}"
        )
    defaults = [Added(name) for name in names.values()]
    for token in [*(token for each in named.values() for token in each), *defaults]:
        i = vocab.get(token.content)
        if i is None:
            if token.content == names["mask_token"]:
                continue
            raise UserError(
                f"{where}: lacks {token.content!r}, which {TOKENIZER_CONFIG_NAME} or {SPECIAL_MAP_NAME} "
                "names as a special token; expected it in the vocabulary: add it there if the model "
                "knows it, else remove it from that file"
            )
        added[i] = added.get(i, token)._replace(special=True)
