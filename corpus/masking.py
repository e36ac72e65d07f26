"""Masked language modelling: batches whose tokens are masked again each time they are drawn."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpus.batches import StoreBatches

if TYPE_CHECKING:
    import torch

    from transformer.tokenization import BertTokenizer

_PURPOSE = zlib.crc32(b"masking")


@dataclass(frozen=True)
class MaskedBatches(StoreBatches):
    """Batches with a share of the tokens hidden, as in BERT's pre-training.

    Of the chosen places 80 % become [MASK], 10 % a random token, 10 % stay. Which places those are depends
    on seed, epoch and row alone.

    Attributes:
        tokenizer: knows [MASK], [CLS], [SEP] and how many tokens there are.
        probability: share of the tokens chosen.
        packed: whether [SEP] may stand anywhere, as in windows of several documents; none is chosen.
    """

    tokenizer: BertTokenizer | None = None
    probability: float = 0.15
    packed: bool = False

    def weights(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """What each row counts in a batch's mean loss, int64 [B]: its masked places."""
        return self._choose(epoch, rows, self.width(epoch, rows))[0].sum(axis=1)

    def collate(self, epoch: int, rows: np.ndarray, width: int) -> dict[str, torch.Tensor]:
        """Make a batch: the store's three tensors, and of the K chosen places

        masked_rows, masked_columns (int64 [K]) and masked_labels, what stood there (int64 [K]).
        """
        import torch

        batch = super().collate(epoch, rows, width)
        ids = batch["input_ids"].numpy()
        chosen, how = self._choose(epoch, rows, width)
        masked_rows, masked_columns = chosen.nonzero()
        labels = ids[masked_rows, masked_columns].copy()
        how = how[masked_rows, masked_columns]
        random_token = ((how - 0.8) / 0.1 * len(self.tokenizer)).astype(np.int64)
        shown = np.where(
            how < 0.8, self.tokenizer.mask_id, np.where(how < 0.9, random_token, labels)
        )
        ids[masked_rows, masked_columns] = shown
        return batch | {
            "masked_rows": torch.from_numpy(masked_rows),
            "masked_columns": torch.from_numpy(masked_columns),
            "masked_labels": torch.from_numpy(labels),
        }

    def _choose(self, epoch: int, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Which places are masked, bool [B, width], and the draws that say how, float64 [B, width].

        Lengths and boundaries decide; unless the sequences are `packed`, no token is read.
        """
        store = self.store(epoch)
        columns = np.arange(width)
        last = (store.spans(rows)[1] - 1)[:, None]
        separator = store.boundaries[rows].astype(np.int64)[:, None] - 1
        free = (columns > 0) & (columns < last) & (columns != separator)
        if self.packed:
            free &= store.collate(rows, width)["input_ids"].numpy() != self.tokenizer.sep_id
        draws = np.stack([self._draws(epoch, row, width) for row in rows])  # [B, width, 2]
        chosen = free & (draws[..., 0] < self.probability)
        # A sequence in which nothing was chosen shows its smallest draw: every row must teach something.
        none = ~chosen.any(axis=1) & free.any(axis=1)
        smallest = np.where(free, draws[..., 0], 2.0).argmin(axis=1)
        chosen[none, smallest[none]] = True
        return chosen, draws[..., 1]

    def _draws(self, epoch: int, row: int, width: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed % 2**64, _PURPOSE, epoch, int(row)))
        return generator.random((width, 2))  # a wider batch appends: what came before stays


@dataclass(frozen=True)
class CountedBatches(MaskedBatches):
    """Masked batches for losses at chosen positions (see distillation/objectives/words.py).

    Attributes:
        counted: which positions the losses are taken at: "tokens" leaves padding out, "masked" takes the
            masked ones alone, "all" takes padding too.
    """

    counted: str = "tokens"

    def weights(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """What each row counts in a batch's mean losses, int64 [B]: its positions."""
        if self.counted == "masked":
            return super().weights(epoch, rows)
        if self.counted == "all":
            return np.full(len(rows), self.width(epoch, rows))
        return self.store(epoch).spans(rows)[1]

    def totals(self, epoch: int, rows: np.ndarray) -> dict[str, float]:
        """Of a global batch: how many positions count, and how many are masked."""
        return {
            "counted_total": float(self.weights(epoch, rows).sum()),
            "masked_total": float(super().weights(epoch, rows).sum()),
        }

    def collate(self, epoch: int, rows: np.ndarray, width: int) -> dict[str, torch.Tensor]:
        """Make a batch: counted_rows, counted_columns (int64 [N], masked ones first), masked_labels."""
        import torch

        batch = super().collate(epoch, rows, width)
        masked = batch.pop("masked_rows"), batch.pop("masked_columns")
        others = torch.zeros_like(batch["attention_mask"])
        if self.counted != "masked":
            others = (
                torch.ones_like(others)
                if self.counted == "all"
                else batch["attention_mask"].clone()
            )
            others[masked] = 0
        found = zip(masked, others.nonzero(as_tuple=True), strict=True)
        rows_of, columns_of = (torch.cat(pair) for pair in found)
        return batch | {"counted_rows": rows_of, "counted_columns": columns_of}
