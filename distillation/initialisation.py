"""Models made from the layers of another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor, nn

from files.errors import UserError, setting

_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)")


def keep_layers(
    state: dict[str, Tensor], layers: Sequence[int], name: str = "keep_layers"
) -> dict[str, Tensor]:
    """Build a model's weights from the layers of another.

    Fewer layers than there are make a student of its teacher ("smart" initialisation). Naming layers
    again makes a deeper model: `0,1,2,0,1,2` doubles a 3-layer BERT, a start from which pre-training goes
    on faster than from scratch (progressive stacking, Gong et al., 2019).

    Args:
        state: weights under canonical names (`bert.encoder.layer.{i}.…`).
        layers: the layers to keep, 0-based, in their new order.
        name: of the setting that names them.

    Returns:
        The same tensors with layer `layers[j]` as layer j; embeddings, pooler and heads stay.

    Raises:
        UserError: a layer is not there, or there are none at all.
    """
    by_layer: dict[int, dict[str, Tensor]] = defaultdict(dict)
    kept = {}
    for key, tensor in state.items():
        match = _LAYER.fullmatch(key)
        if match is None:
            kept[key] = tensor
        else:
            by_layer[int(match[1])][match[2]] = tensor
    if not by_layer:
        raise UserError("the teacher's weights hold no encoder layers; expected a BERT checkpoint")
    if not layers or not all(old in by_layer for old in layers):
        raise UserError(
            f"{setting(name)} {','.join(map(str, layers))}: expected layers among those there: "
            f"{','.join(map(str, sorted(by_layer)))}"
        )
    for new, old in enumerate(layers):
        for part, tensor in by_layer[old].items():
            kept[f"bert.encoder.layer.{new}.{part}"] = tensor
    return kept


def spread_layers(student: int, teacher: int) -> tuple[int, ...]:
    """`student` of `teacher` layers, evenly spread from the first to the last: 0,2,4,7,9,11 of 12 for 6."""
    if student == 1:
        return (0,)
    return tuple(round(i * (teacher - 1) / (student - 1)) for i in range(student))


def take_layers(
    student: nn.Module, teacher: nn.Module, layers: Sequence[int], without: Sequence[str] = ()
) -> None:
    """Give a model the embeddings, some layers and the heads of another.

    Weights that the student does not have, such as a DistilBERT's segments, are left out.

    Args:
        layers: the teacher's layer for each of the student's, from 0.
        without: beginnings of names to leave out as well.

    Raises:
        UserError: another number of layers, no such layer, or weights of other shapes.
    """
    own = student.state_dict()
    if len(layers) != student.config.num_hidden_layers:
        raise UserError(
            f"{setting('layers')} {','.join(map(str, layers))}: {len(layers)} layers, expected "
            f"{student.config.num_hidden_layers}"
        )
    taken = {
        name: tensor
        for name, tensor in keep_layers(teacher.state_dict(), layers, "layers").items()
        if name in own and not name.startswith(tuple(without))
    }
    places = "bert.embeddings.position_embeddings.weight"
    if places in taken:  # of a student of shorter sequences the first ones
        taken[places] = taken[places][: len(own[places])]
    for name, tensor in taken.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{name}: the teacher's is {list(tensor.shape)}, the student's {list(own[name].shape)}; "
                "expected the same widths to start from the teacher"
            )
    student.load_state_dict(own | taken)
