"""RoBERTa's tokenizer: byte-level BPE, with the work done by the `tokenizers` library.

Every text is bytes, so that there is no unknown token; a word keeps the space before it ("Ġ").
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from files.atomic import atomic_open
from files.errors import UserError
from transformer.basic_tokenizer import encode_spans, without_surrogates
from transformer.file_utils import VOCAB_NAME
from transformer.hub import find_model_file
from transformer.tokenizer_json import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, read_object
from transformer.vocabulary import fingerprint

BPE_VOCAB_NAME, MERGES_NAME = "vocab.json", "merges.txt"
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")


class ByteBPETokenizer:
    """Text to tokens to ids, as `transformers`' RoBERTa tokenizer; a pair is `<s> a </s></s> b </s>`.

    Args:
        files: those of `find_byte_bpe`.

    Raises:
        UserError: the files are not valid, or are those of another kind of tokenizer.
    """

    separators = 2  # between the two texts of a pair
    do_lower_case = False
    told_casing: bool | None = None
    casing_from: str | None = None

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.vocab_file = files.get(BPE_VOCAB_NAME) or files[TOKENIZER_NAME]
        if TOKENIZER_NAME in files:  # which also says how special tokens are found in a text
            self._tokenizer = _from_json(files[TOKENIZER_NAME])
        else:
            self._tokenizer = _from_merges(files[BPE_VOCAB_NAME], files[MERGES_NAME])
        self.vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        missing = [name for name in SPECIAL_TOKENS if name not in self.vocab]
        if missing:
            raise UserError(
                f"{self.vocab_file}: lacks {missing[0]}; expected RoBERTa's special tokens"
            )
        size = 1 + max(self.vocab.values())
        self.ids_to_tokens = [""] * size
        for token, index in self.vocab.items():
            self.ids_to_tokens[index] = token
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.vocab[name] for name in SPECIAL_TOKENS
        )
        # What of the encoding only offsets need: the space before a word is not part of it.
        self._tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", self.sep_id), ("<s>", self.cls_id), trim_offsets=True, add_prefix_space=False
        )

    def __len__(self) -> int:
        return len(self.ids_to_tokens)

    @property
    def vocab_hash(self) -> str:
        """SHA-256, in hexadecimal, of the tokens in the order of their ids."""
        return fingerprint(self.ids_to_tokens)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        return SPECIAL_TOKENS

    def require_mask(self) -> int:
        """The id of <mask>."""
        return self.mask_id

    def describe(self) -> dict[str, Any]:
        """What besides the vocabulary decides the ids of a text, as JSON holds it."""
        merges = json.loads(self._tokenizer.to_str())["model"]["merges"]
        return {"byte_bpe": fingerprint([str(merge) for merge in merges])}

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of `text`, without `<s>` and `</s>`."""
        return self._tokenizer.encode(without_surrogates(text), add_special_tokens=False).tokens

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode many texts on all cores; see `BertTokenizer.encode_flat`."""
        ids, offsets, _ = encode_spans(self._tokenizer, texts, spans=False)
        return ids, offsets

    def encode_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `encode_spans`."""
        return encode_spans(self._tokenizer, texts)

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token; `KeyError` for one that the vocabulary lacks."""
        return [self.vocab[token] for token in tokens]

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the token of each id; `IndexError` for one outside the vocabulary."""
        return [self.ids_to_tokens[index] for index in ids]

    def save_pretrained(self, folder: str | os.PathLike, positions: int) -> None:
        """Write vocab.json, merges.txt, tokenizer.json and tokenizer_config.json for `transformers`.

        Args:
            positions: the most tokens of a text.
        """
        folder, backend = Path(folder), json.loads(self._tokenizer.to_str())
        merges = [" ".join(merge) for merge in backend["model"]["merges"]]
        config = {"tokenizer_class": "RobertaTokenizer", "model_max_length": positions}
        config |= {"add_prefix_space": False, "trim_offsets": True}
        for name, text in (
            (BPE_VOCAB_NAME, json.dumps(self.vocab, ensure_ascii=False)),
            (MERGES_NAME, "\n".join(["#version: 0.2", *merges])),
            (TOKENIZER_NAME, json.dumps(backend, ensure_ascii=False, indent=2)),
            (TOKENIZER_CONFIG_NAME, json.dumps(config, indent=2)),
        ):
            with atomic_open(folder / name) as file:
                file.write(f"{text}\n")


def find_byte_bpe(
    source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> dict[str, Path] | None:
    """The files of a model's byte-level BPE, by name; None if it has another tokenizer, or none."""
    if find_model_file(source, VOCAB_NAME, cache_dir, required=False) is not None:
        return None  # WordPiece's, whatever else is there
    found = {
        name: find_model_file(source, name, cache_dir, required=False)
        for name in (BPE_VOCAB_NAME, MERGES_NAME, TOKENIZER_NAME)
    }
    files = {name: path for name, path in found.items() if path is not None}
    if TOKENIZER_NAME in files and _kind(files[TOKENIZER_NAME]) == "BPE":
        return files
    files.pop(TOKENIZER_NAME, None)
    return files if BPE_VOCAB_NAME in files and MERGES_NAME in files else None


def _kind(path: Path) -> str | None:
    """Which model a tokenizer.json is of; None if that cannot be told."""
    try:
        return json.loads(path.read_bytes())["model"]["type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _from_merges(vocab: Path, merges: Path) -> Tokenizer:
    try:
        table = json.loads(vocab.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{vocab}: not JSON ({error})") from None
    ids = list(table.values()) if isinstance(table, dict) else []
    if not ids or any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(ids))):
        raise UserError(f"{vocab}: expected an object of tokens and their ids, 0 to its size - 1")
    pairs = []
    try:
        lines = merges.read_text(encoding="utf-8").split("\n")
    except ValueError:
        raise UserError(f"{merges}: not UTF-8; expected the merges of a byte-level BPE") from None
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split(" "))
        if len(pair) != 2 or not {*pair, "".join(pair)} <= table.keys():
            raise UserError(
                f"{merges}:{number}: expected two tokens of {vocab.name} that make a third"
            )
        pairs.append(pair)
    library = Tokenizer(models.BPE(table, pairs))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(name) for name in SPECIAL_TOKENS if name in table])
    return library


def _from_json(path: Path) -> Tokenizer:
    values = read_object(path)
    before = values.get("pre_tokenizer")
    kind = before.get("type") if isinstance(before, dict) else before
    if kind != "ByteLevel" or values.get("normalizer") is not None:
        raise UserError(
            f"{path}: is not RoBERTa's byte-level BPE; expected the pre_tokenizer ByteLevel alone"
        )
    try:
        library = Tokenizer.from_file(os.fspath(path))
    except Exception as error:  # of one kind for all that may be wrong
        raise UserError(f"{path}: cannot be read as a tokenizer ({error})") from None
    library.no_padding()
    library.no_truncation()
    return library
