"""A training run of a few steps, whole, killed or resumed, for the tests of the loop."""

import json

import numpy as np
import torch

from distillation.checkpoint import ModelKeeper
from distillation.distributed import Runtime
from distillation.loss_functions import label_training
from distillation.records import METRICS_NAME
from distillation.training import TrainingSettings, train
from tasks.batching import StoreBatches
from tasks.token_store import TokenStore

CPU = Runtime(torch.device("cpu"))
ROWS = 22


def make_source(batch_size=8, rows=ROWS, drop_last=False, classes=2):
    """Sentences of 4 to 12 pieces, labelled by whether the second piece is an even one."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 13, rows)
    tokens = generator.integers(5, 200, lengths.sum()).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    store = TokenStore(tokens, offsets, lengths.astype(np.uint16))
    labels = (tokens[offsets[:-1] + 1] % classes).astype(np.int64)
    return StoreBatches([store], batch_size, 42, {"labels": labels}, drop_last=drop_last)


def run(
    model, folder, source=None, losses=label_training, resume=False, keeper=None, told_by=None,
    **settings,
):  # fmt: skip
    """Train and return the facts; the folder is made."""
    folder.mkdir(exist_ok=True)
    settings = TrainingSettings(
        **{"epochs": 2, "learning_rate": 1e-3, "save_minutes": 9, **settings}
    )
    source = source or make_source()
    keeper = keeper or ModelKeeper(model, folder)
    return train(model, losses, source, settings, CPU, folder, keeper, resume, told_by or {})


def difference(model, other):
    mine, its = model.state_dict(), other.state_dict()
    return max((mine[name] - its[name]).abs().max().item() for name in mine)


def log_of(folder):
    return [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]


def without_speed(lines):
    return [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in lines]


class Killed(Exception):
    pass


def killing(losses, after):
    """The same losses until the call after `after` of them."""
    calls = 0

    def wrapped(model, batch):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return losses(model, batch)

    return wrapped
