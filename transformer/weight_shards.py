"""Weights that lie in several files: the index that says which is where, and the shards it names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.errors import UserError
from transformer.file_utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformer.hub import find_model_file

if TYPE_CHECKING:
    from torch import Tensor

INDEX_ENDING = ".index.json"
# In the order in which `transformers` looks for them.
WEIGHTS_FILES = (
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_NAME + INDEX_ENDING,
    WEIGHTS_NAME,
    WEIGHTS_NAME + INDEX_ENDING,
)
_MOST_SHARDS = 10_000


def shard_names(index: Path) -> dict[str, str]:
    """Which shard holds which weight, by an index such as model.safetensors.index.json.

    Raises:
        UserError: it is not such an index, or names a file outside the folder.
    """
    return _read_index(index)["weight_map"]


def _read_index(index: Path) -> dict[str, Any]:
    """The parsed index, once its `weight_map` has been checked."""
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{index}: not JSON ({error})") from None
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(shards, dict)
        or not shards
        or not all(isinstance(name, str) for name in shards.values())
        or len({*shards.values()}) > _MOST_SHARDS
    ):
        raise UserError(
            f'{index}: expected {{"weight_map": {{NAME: FILE, …}}}}, the file of every weight'
        )
    for name in shards.values():
        parts = re.split(r"[/\\]", name)
        odd = ".." in parts or "" in parts or ":" in name or not name.isprintable()
        if odd or not name.endswith((".safetensors", ".bin")):
            raise UserError(
                f"{index}: names the file {name!r}; expected the name of a .safetensors or .bin file in "
                "the same folder"
            )
    return content


def find_shards(
    index: Path, source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Where each shard is, in order of its name; those of a remote model are fetched.

    Args:
        source: the model's folder, address, or name on the hub.

    Raises:
        UserError: see `shard_names`; or a shard is not there.
    """
    shards, found = shard_names(index), {}
    for name in sorted({*shards.values()}):
        path = find_model_file(source, name, cache_dir, required=False)
        if path is None:
            held = sum(shard == name for shard in shards.values())
            raise UserError(
                f"{Path(source) / name}: no such file; {index.name} says that {held} weights are in it. "
                "Copy it there, or fetch the model again"
            )
        found[name] = path
    return found


def read_shards(
    index: Path,
    source: str | os.PathLike,
    cache_dir: str | os.PathLike | None,
    read_file: Callable[[Path], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Read every shard with `read_file`; they must hold exactly what the index says.

    Raises:
        UserError: see `find_shards`; or weights are missing, too many, or not of the recorded size.
    """
    content = _read_index(index)
    shards = content["weight_map"]
    state: dict[str, Tensor] = {}
    for name, path in find_shards(index, source, cache_dir).items():
        part = read_file(path)
        wanted = {weight for weight, shard in shards.items() if shard == name}
        for weights, what in (
            (wanted - part.keys(), "lacks"),
            (part.keys() - wanted, "also holds"),
        ):
            if weights:
                raise UserError(
                    f"{path}: {what} {min(weights)}, which is not what {index.name} says; expected the "
                    "shards and the index of one model: fetch them again"
                )
        state |= part
    metadata = content.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if type(total) in (int, float) and total not in (sizes := _total_sizes(state)):
        raise UserError(
            f"{index}: its shards hold {max(sizes):,} bytes, it says {total:,}; a shard is of another "
            "model, or was converted: fetch them again"
        )
    return state


def _total_sizes(state: Mapping[str, Tensor]) -> set[int]:
    """Bytes of all tensors; those that share memory (tied weights) counted each, or once."""
    once = {(t.untyped_storage().data_ptr(), t.shape): t.nbytes for t in state.values()}
    return {sum(t.nbytes for t in state.values()), sum(once.values())}
