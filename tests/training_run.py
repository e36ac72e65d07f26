"""A training run of a few steps, whole, killed or resumed, for the tests of the loop.

Under torchrun, `training_run.py START OUTPUT DEVICE` trains the model in START in such a way that its
steps can be recorded.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from corpus.batches import StoreBatches
from corpus.token_store import TokenStore
from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime
from distillation.gradients import Gradients
from distillation.mapping import LayerMapping
from distillation.objective import Objective, Objectives, Setup
from distillation.objectives import label_training, make_objectives
from distillation.objectives.logits import Labels
from distillation.records import METRICS_NAME
from distillation.state import TrainingSettings, TrainState
from distillation.training import number_of_steps, train
from transformer.encoder import Collect, EncoderOutput
from transformer.modeling import TinyBertForSequenceClassification

CPU = Runtime(torch.device("cpu"))
ROWS = 22


class LayerWeights(NamedTuple):
    """Weights of the published layer losses; 0: not computed."""

    attention: float = 1.0
    hidden: float = 1.0
    embedding: float = 1.0

    def by_objective(self) -> dict[str, float]:
        """The same by the objectives' names."""
        return {"att_mse": self.attention, "emb_mse": self.embedding, "hidden_mse": self.hidden}


def layer_distillation(
    teacher: Callable[..., EncoderOutput],
    mapping: LayerMapping,
    weights: LayerWeights,
    compiled: bool = False,
    **student_options: object,
) -> Objectives:
    """TinyBERT's Transformer distillation: attention, embeddings and hidden states of mapped layers."""
    setup = Setup(mapping=mapping, compiled=compiled)
    return make_objectives(weights.by_objective(), setup).attach(teacher, **student_options)


def prediction_distillation(
    teacher: nn.Module, regression: bool, temperature: float = 1.0, reduction: str = "mean"
) -> Objectives:
    """TinyBERT's prediction-layer distillation: soft cross-entropy, or MSE for a regression task."""
    name = "logit_mse" if regression else "soft_ce"
    setup = Setup(temperature=temperature, reduction=reduction)
    return make_objectives({name: 1.0}, setup).attach(teacher)


def make_source(batch_size=8, rows=ROWS, drop_last=False, classes=2):
    """Sentences of 4 to 12 tokens, labelled by whether the second token is an even one."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 13, rows)
    tokens = generator.integers(5, 200, lengths.sum()).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    store = TokenStore(tokens, offsets, lengths.astype(np.uint16))
    labels = (tokens[offsets[:-1] + 1] % classes).astype(np.int64)
    return StoreBatches([store], batch_size, 42, {"labels": labels}, drop_last=drop_last)


def run(
    model, folder, source=None, losses=label_training, resume=False, keeper=None, identity=None,
    runtime=CPU, **settings,
):  # fmt: skip
    """Train and return the facts; the folder is made, and a function stands for its losses."""
    losses = losses if isinstance(losses, Objectives) else Computed(losses)
    folder.mkdir(exist_ok=True)
    settings = TrainingSettings(
        **{"epochs": 2, "learning_rate": 1e-3, "save_minutes": 9, **settings}
    )
    source = source or make_source()
    keeper = keeper or ModelSaver(model, folder)
    total = number_of_steps(source, settings)
    state = TrainState(model, losses, keeper, settings, runtime, total, identity or {})
    return train(state, source, folder, resume)


def difference(model, other):
    mine, its = model.state_dict(), other.state_dict()
    return max((mine[name] - its[name]).abs().max().item() for name in mine)


def log_of(folder):
    return [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]


def without_speed(lines):
    return [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in lines]


class Killed(Exception):
    pass


class Computed(Objectives):
    """Losses by a function of (model, batch)."""

    def __init__(self, function):
        super().__init__([])
        self.__dict__["function"] = function

    def forward(self, student, batch):
        return self.function(student, batch)


def killing(losses, after):
    """The same losses until the call after `after` of them."""
    calls = 0

    def wrapped(model, batch):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return losses(model, batch)

    return Computed(wrapped)


class ProbeObjective(Objective):
    """Names the label from the first layer's mean state, by a projection of its own."""

    log_name = "probe_loss"

    def __init__(self, setup):
        super().__init__(setup)
        self.probe = torch.nn.Linear(setup.student.hidden_size, 2)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def needs(self, side):
        return Collect(hidden=(1,)) if side == "student" else Collect()

    def forward(self, student, teacher, batch):
        self.seen += len(batch["labels"])
        logits = self.probe(student.hidden[0].mean(1))
        return [torch.nn.functional.cross_entropy(logits, batch["labels"])]


def probing(config):
    """Labels, and a probe whose weights are the same each time."""
    torch.manual_seed(7)
    setup = Setup(config)
    return Objectives([(Labels(setup), 1.0), (ProbeObjective(setup), 0.5)])


def run_as_recorded(start, output, device):
    """One of several processes; by gloo, so that they may share a card."""
    dist.init_process_group("gloo")
    model = TinyBertForSequenceClassification.from_pretrained(start).to(device)
    runtime = Runtime(torch.device(device), dist.get_rank(), dist.get_world_size(), dist.get_rank())

    def recorded(*arguments):
        return Gradients(*arguments[:-1], recorded=True)

    losses = probing(model.config).to(device)
    with mock.patch("distillation.training.Gradients", recorded):
        run(model, Path(output), make_source(rows=41), losses, runtime=runtime, accumulation=2)
    if runtime.is_main:
        torch.save(losses.state_dict(), Path(output) / "probe.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    run_as_recorded(*sys.argv[1:])
