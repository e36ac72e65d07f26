"""TinyBERT's headline: how much smaller and faster than BERT-base its students are.

python -m benchmarks --only inference
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.bench import Bench
from benchmarks.lengths import load_lengths, spread
from benchmarks.measure import alternate
from benchmarks.shapes import classifier_macs, encoder_parameters
from transformer.configuration import BertConfig
from transformer.modeling import TinyBertForSequenceClassification

BATCHES = (1, 32)
FIXED = 128


@dataclass(frozen=True)
class Published:
    """The paper's table 1: parameters, floating-point operations, speed-up on a K80."""

    parameters: float
    flops: float
    speedup: float


PAPER = {
    "BERT-base": Published(109e6, 22.5e9, 1.0),
    "4 layers of 312": Published(14.5e6, 1.2e9, 9.4),
    "6 layers of 768": Published(67e6, 11.3e9, 2.0),
}


def measure_inference(bench: Bench) -> dict[str, Any]:
    """Parameters, arithmetic and latency of the three models.

    Returns:
        `models`: for each the counts and the paper's; `latency`: for each batch and length
        the seconds of a batch by model; `ceiling`.
    """
    configs = dict(
        zip(PAPER, (bench.sizes.teacher, bench.sizes.student, bench.sizes.student_6l), strict=True)
    )
    models = {
        name: TinyBertForSequenceClassification(config).to(bench.device).eval()
        for name, config in configs.items()
    }
    ceiling, latency = bench.ceiling(), []
    for batch in BATCHES:
        for kind, batches in (("128", _fixed(bench, batch)), ("SST-2's own", _real(bench, batch))):
            jobs = {name: _Forward(model, batches, bench.device) for name, model in models.items()}
            seconds = alternate(jobs, ceiling, bench.sizes.repeats + 2)
            latency.append(
                {
                    "batch": batch,
                    "length": kind,
                    "seconds": {
                        name: statistics.median(taken) / len(batches)
                        for name, taken in seconds.items()
                    },
                }
            )
    return {
        "models": {name: _counts(config, PAPER[name]) for name, config in configs.items()},
        "latency": latency,
        "ceiling": ceiling.rates(),
    }


def _counts(config: BertConfig, paper: Published) -> dict[str, Any]:
    return {
        "parameters": encoder_parameters(config),
        "gflop": 2e-9 * classifier_macs(config, FIXED, training=True),  # as the paper counts
        "paper": vars(paper),
    }


class _Forward:
    """One pass over some batches."""

    def __init__(self, model: torch.nn.Module, batches: list[dict], device: torch.device) -> None:
        self.model = model
        self.batches = [{k: v.to(device) for k, v in batch.items()} for batch in batches]

    def __call__(self) -> None:
        with torch.inference_mode():
            for batch in self.batches:
                self.model(**batch)


def _fixed(bench: Bench, batch: int) -> list[dict]:
    return [_inputs(bench, np.full(batch, FIXED))]


def _real(bench: Bench, batch: int) -> list[dict]:
    """Rows as long as those of SST-2's dev set, special tokens included, in random order."""
    (histogram,) = load_lengths("SST-2")["dev_sides"]
    lengths = np.random.default_rng(0).permutation(
        spread(histogram, 8 if batch == 1 else 2 * batch)
    )
    return [_inputs(bench, part + 2) for part in lengths.reshape(-1, batch)]


def _inputs(bench: Bench, lengths: np.ndarray) -> dict[str, torch.Tensor]:
    inside = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]
    ids = torch.randint(5, bench.sizes.teacher.vocab_size, inside.shape) * inside
    return {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "attention_mask": inside.long(),
    }
