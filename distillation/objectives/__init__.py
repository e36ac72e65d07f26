"""The objectives by name.

A new objective is a class (see distillation/objective.py) and a line of `OBJECTIVES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from distillation.objective import Objective, Objectives, Setup
from distillation.objectives.attention import (
    AttentionCosine,
    AttentionMSE,
    AttentionProbsCosine,
    AttentionProbsMSE,
)
from distillation.objectives.hidden import (
    EmbeddingCosine,
    EmbeddingMSE,
    FirstCosine,
    HiddenCosine,
    HiddenMSE,
)
from distillation.objectives.logits import (
    Labels,
    LogitMSE,
    MaskedWords,
    SoftCrossEntropy,
    SoftTargets,
)
from distillation.objectives.spans import SpanLabels, SpanSoftCrossEntropy
from files.errors import UserError

OBJECTIVES: dict[str, type[Objective]] = {
    "att_mse": AttentionMSE,
    "att_cosine": AttentionCosine,
    "att_probs_mse": AttentionProbsMSE,
    "att_probs_cosine": AttentionProbsCosine,
    "emb_mse": EmbeddingMSE,
    "emb_cosine": EmbeddingCosine,
    "hidden_mse": HiddenMSE,
    "hidden_cosine": HiddenCosine,
    "soft_ce": SoftCrossEntropy,
    "soft_kl": SoftTargets,
    "logit_mse": LogitMSE,
    "labels": Labels,
    "first_cosine": FirstCosine,
    "span_soft_ce": SpanSoftCrossEntropy,
    "span_labels": SpanLabels,
}


def make_objectives(weights: Mapping[str, float], setup: Setup) -> Objectives:
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


label_training = Objectives([(Labels(Setup()), 1.0)])
masked_language_modelling = Objectives([(MaskedWords(Setup()), 1.0)])
