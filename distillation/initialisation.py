"""Models made from the layers of another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from files.errors import UserError, setting

_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)")


def keep_layers(state: dict[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    """Build a model's weights from the layers of another.

    Fewer layers than there are make a student of its teacher ("smart" initialisation). Naming layers
    again makes a deeper model: `0,1,2,0,1,2` doubles a 3-layer BERT, a start from which pre-training goes
    on faster than from scratch (progressive stacking, Gong et al., 2019).

    Args:
        state: weights under canonical names (`bert.encoder.layer.{i}.…`).
        layers: the layers to keep, 0-based, in their new order.

    Returns:
        The same tensors with layer `layers[j]` as layer j; embeddings, pooler and heads stay.

    Raises:
        UserError: a layer is not there, or there are none at all.
    """
    by_layer: dict[int, dict[str, Tensor]] = defaultdict(dict)
    kept = {}
    for name, tensor in state.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            kept[name] = tensor
        else:
            by_layer[int(match[1])][match[2]] = tensor
    if not by_layer:
        raise UserError("the teacher's weights hold no encoder layers; expected a BERT checkpoint")
    if not layers or not all(old in by_layer for old in layers):
        raise UserError(
            f"{setting('keep_layers')} {','.join(map(str, layers))}: expected layers among those there: "
            f"{','.join(map(str, sorted(by_layer)))}"
        )
    for new, old in enumerate(layers):
        for part, tensor in by_layer[old].items():
            kept[f"bert.encoder.layer.{new}.{part}"] = tensor
    return kept
