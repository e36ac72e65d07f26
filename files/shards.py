"""Shares of a job for an array of machines, and what shows that they belong together.

Share i of n writes OUTPUT.shard-i-of-n and, when it is finished, OUTPUT.shard-i-of-n.json beside it,
which says what it was made from. Merging takes n finished shards of one job and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from files.atomic import atomic_open
from files.errors import UserError, setting
from files.kept_work import differences

_BLOCK = 1 << 22


class Shard(NamedTuple):
    """Share `index` (from 1) of `count`."""

    index: int
    count: int

    def part(self, size: int) -> range:
        """The numbers of 0 … size - 1 that are this shard's."""
        return range(size * (self.index - 1) // self.count, size * self.index // self.count)

    def path(self, output: str | os.PathLike) -> Path:
        """Where the shard of `output` is written."""
        return Path(f"{output}.shard-{self.index}-of-{self.count}")


def finish_shard(
    output: str | os.PathLike, shard: Shard, job: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Say that a shard is complete.

    Args:
        job: what all shards must have in common; plain values.
        facts: what merging needs to know of this one.
    """
    path = shard.path(output)
    with atomic_open(f"{path}.json") as file:
        json.dump({"job": job, "bytes": path.stat().st_size, **facts}, file, indent=1)
        file.write("\n")


def check_shard(output: str | os.PathLike, shard: Shard, job: Mapping[str, Any]) -> None:
    """Refuse to write a shard where a finished one of another job is.

    Raises:
        UserError: it names what differs.
    """
    path = shard.path(output)
    try:
        kept = json.loads(Path(f"{path}.json").read_bytes())["job"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    if isinstance(kept, dict) and (what := differences(kept, job)):
        raise UserError(
            f"{path}: is a finished shard, made with {what}; merge it with the shards of its own job, or "
            "remove it and its .json to start over"
        )


def finished_shards(
    output: str | os.PathLike, count: int, job: Mapping[str, Any]
) -> list[tuple[Path, dict[str, Any]]]:
    """Return path and facts of each of `count` shards, in order.

    Args:
        job: entries of the shards' common `job` that this command knows.

    Raises:
        UserError: a shard is missing, unfinished, of another job or not as long as it was.
    """
    found = []
    for shard in (Shard(i, count) for i in range(1, count + 1)):
        path = shard.path(output)
        facts = _read_facts(path, shard)
        first = found[0][1]["job"] if found else facts["job"]
        expected = {**first, **job}
        if what := differences({name: facts["job"].get(name) for name in expected}, expected):
            raise UserError(
                f"{path}: was made with {what}; make all shards with the same flags and files"
            )
        found.append((path, facts))
    return found


def _read_facts(path: Path, shard: Shard) -> dict[str, Any]:
    again = f"run this program with {setting('shard')} {shard.index}/{shard.count}"
    try:
        facts = json.loads(Path(f"{path}.json").read_bytes())
        size = path.stat().st_size
    except FileNotFoundError:
        state = "is not finished" if path.exists() else "is missing"
        name = path.name.rpartition(".shard-")[0]
        others = {
            int(other.name.rpartition("-")[2].removesuffix(".json"))
            for other in path.parent.glob(f"{name}.shard-*-of-*.json")
        } - {shard.count}
        hint = f" (there are shards of {sorted(others)[0]})" if others else ""
        raise UserError(f"{path}: {state}{hint}; {again}") from None
    except (ValueError, RecursionError):
        facts, size = {}, None
    if not isinstance(facts, dict) or facts.get("bytes") != size or "job" not in facts:
        raise UserError(f"{path}: does not match its .json; {again}")
    return facts


def merge_files(
    output: str | os.PathLike, count: int, job: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Write the shards' files end to end, remove them, and return their facts.

    Raises:
        UserError: as `finished_shards`.
    """
    shards = finished_shards(output, count, job)
    with atomic_open(output, "wb") as whole:
        for path, _ in shards:
            with open(path, "rb") as part:
                shutil.copyfileobj(part, whole, _BLOCK)
    remove_shards(output, count)
    return [facts for _, facts in shards]


def remove_shards(output: str | os.PathLike, count: int) -> None:
    """Remove shards that were merged, so that none is left without its like."""
    for path in (Shard(i, count).path(output) for i in range(1, count + 1)):
        Path(f"{path}.json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
