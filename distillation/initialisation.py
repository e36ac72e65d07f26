"""Students made from their teacher's own layers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from transformer.errors import UserError

_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)")


def keep_layers(state: dict[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    """Build a shallower model's weights from a deeper one's.

    Args:
        state: weights under canonical names (`bert.encoder.layer.{i}.…`).
        layers: the layers to keep, 0-based, in their new order; a layer may be used once.

    Returns:
        The same tensors with layer `layers[j]` renamed to layer j; embeddings, pooler and heads stay.

    Raises:
        UserError: a layer is not there or is named twice, or there are none at all.
    """
    depth = 1 + max((int(m[1]) for name in state if (m := _LAYER.fullmatch(name))), default=-1)
    if depth == 0:
        raise UserError("the teacher's weights hold no encoder layers; expected a BERT checkpoint")
    if not layers or len(set(layers)) < len(layers) or not all(0 <= i < depth for i in layers):
        raise UserError(
            f"--keep_layers {','.join(map(str, layers))}: expected different layers from 0 to {depth - 1}"
        )
    new_number = {old: new for new, old in enumerate(layers)}
    kept = {}
    for name, tensor in state.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            kept[name] = tensor
        elif int(match[1]) in new_number:
            kept[f"bert.encoder.layer.{new_number[int(match[1])]}.{match[2]}"] = tensor
    return kept
