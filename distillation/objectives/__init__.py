"""The objectives by name, and the published combinations of them.

A new objective is a class (see distillation/objective.py) and a line of `OBJECTIVES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import nn

from distillation.mapping import LayerMapping
from distillation.objective import Objective, Objectives, Setup
from distillation.objectives.attention import AttentionMSE
from distillation.objectives.hidden import EmbeddingMSE, HiddenMSE
from distillation.objectives.logits import Labels, LogitMSE, MaskedWords, SoftCrossEntropy
from files.errors import UserError
from transformer.encoder import EncoderOutput

OBJECTIVES: dict[str, type[Objective]] = {
    "att_mse": AttentionMSE,
    "emb_mse": EmbeddingMSE,
    "hidden_mse": HiddenMSE,
    "soft_ce": SoftCrossEntropy,
    "logit_mse": LogitMSE,
    "labels": Labels,
    "mlm": MaskedWords,
}


def make_objectives(
    weights: Mapping[str, float],
    setup: Setup,
) -> Objectives:
    """The objectives of the names in `OBJECTIVES`, weighted; 0 leaves one out.

    Raises:
        UserError: a weight is negative or not finite, all are 0, or the models do not fit an objective.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"the weight {weight} of {name}: expected a number from 0")
    if not any(weights.values()):
        raise UserError(f"the weights of {', '.join(weights)} are all 0: nothing would be learned")
    weighted = [(OBJECTIVES[name](setup), w) for name, w in weights.items() if w]
    return Objectives(weighted)


class LayerWeights(NamedTuple):
    """Weights of the attention, hidden-state and embedding losses; 0: not computed."""

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


label_training = Objectives([(Labels(Setup()), 1.0)])
masked_language_modelling = Objectives([(MaskedWords(Setup()), 1.0)])
