"""A corpus, tokenised once into flat arrays on disk, so that it need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.text_files import read_blocks
from tasks.token_store import token_dtype
from transformer.errors import UserError

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer

BLOCK_TOKENS = 1 << 18  # work is handed out in runs of documents of about this size
_READ_BYTES = 1 << 21


@dataclass(frozen=True)
class Documents:
    """A tokenised corpus on disk.

    `folder` holds three raw arrays: `tokens` (all sentences, end to end, then the placeholder "."),
    `sentences` int64 [S + 1] (where each begins among the tokens) and `documents` int64 [D + 1]
    (where each begins among the sentences). No sentence and no document is empty. `blocks` cuts the
    documents into runs of about BLOCK_TOKENS: block i is documents blocks[i] to blocks[i + 1].
    """

    folder: Path
    dtype: np.dtype
    num_documents: int
    num_sentences: int
    num_tokens: int
    blocks: tuple[int, ...]

    def read(self, name: str) -> np.ndarray:
        """Map one of the three arrays; its pages leave memory with the last reference to it."""
        dtype = self.dtype if name == "tokens" else np.int64
        return np.asarray(np.memmap(self.folder / name, dtype=dtype, mode="r"))


def tokenize_corpus(
    corpus: str | os.PathLike,
    tokenizer: BertTokenizer,
    folder: str | os.PathLike,
    on_progress: Callable[[int], object] = lambda num_bytes: None,
) -> Documents:
    """Tokenise a corpus (one sentence a line, a blank line between documents) into `folder`.

    Sentences of which no token is left are dropped. Memory stays bounded whatever the corpus.

    Raises:
        UserError: the file is missing, empty or not UTF-8 (with the line).
    """
    folder, dtype = Path(folder), token_dtype(len(tokenizer))
    num_sentences = num_tokens = 0
    num_documents = block_start = last_end = 0
    blocks = [0]

    with (
        open(folder / "tokens", "wb") as tokens,
        open(folder / "sentences", "wb") as sentences,
        open(folder / "documents", "wb") as documents,
    ):
        sentences.write(np.zeros(1, np.int64))
        documents.write(np.zeros(1, np.int64))

        def end_document(sentence: int, token: int) -> None:
            nonlocal num_documents, block_start, last_end
            if sentence == last_end:
                return
            last_end = sentence
            num_documents += 1
            documents.write(np.int64(sentence))
            if token - block_start >= BLOCK_TOKENS:
                block_start = token
                blocks.append(num_documents)

        for block in read_blocks(corpus, _READ_BYTES):
            texts: list[str] = []
            breaks: list[int] = []
            for line in map(str.strip, block.lines()):
                if line:
                    texts.append(line)
                else:
                    breaks.append(len(texts))
            ids, offsets = tokenizer.encode_flat(texts)
            filled = np.diff(offsets) > 0
            tokens.write(ids.astype(dtype))
            sentences.write(num_tokens + offsets[1:][filled])
            kept_before = np.concatenate([[0], np.cumsum(filled)])
            for place in breaks:
                end_document(
                    num_sentences + int(kept_before[place]), num_tokens + int(offsets[place])
                )
            num_sentences += int(kept_before[-1])
            num_tokens += len(ids)
            on_progress(len(block.data))
        end_document(num_sentences, num_tokens)
        tokens.write(np.array([tokenizer.vocab.get(".", tokenizer.unk_id)], dtype))
    if num_documents == 0:
        raise UserError(
            f"{corpus}: holds no text; expected one sentence a line and a blank line between "
            "documents (prepare_data.py writes it)"
        )
    if blocks[-1] != num_documents:
        blocks.append(num_documents)
    return Documents(folder, dtype, num_documents, num_sentences, num_tokens, tuple(blocks))
