"""Checkpoints on disk: reading them safely, the names parameters go by, and what must be there."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from files.atomic import atomic_open
from files.errors import UserError
from transformer.file_utils import WEIGHTS_NAME
from transformer.hub import find_model_file
from transformer.names import BIAS, DECODER, DECODER_BIAS, WORDS, canonical_names
from transformer.weight_shards import INDEX_ENDING, WEIGHTS_FILES, find_shards, read_shards

# Heads that other classes keep in the same file: not ours to load, nothing to complain of.
_HEADS = ("cls.", "classifier.", "fit_dense.", "fit_denses.", "qa_outputs.", "bert.pooler.")
# Copies that carry nothing as long as they equal what they are tied to.
_TIED = {DECODER: WORDS, DECODER_BIAS: BIAS}


class WeightsMismatch(UserError):
    """A weight that is missing or of another shape; `name` is its canonical name."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def weights_checksum(state: Mapping[str, Tensor], unread: tuple[str, ...] = ()) -> str:
    """SHA-256, in hexadecimal, over the names and bytes of tensors on the CPU.

    Args:
        unread: prefixes of names that do not count: weights that the caller never reads, which a
            checkpoint may lack and which are random then.
    """
    digest = hashlib.sha256()
    for name, tensor in state.items():
        if name.startswith(unread):
            continue
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def find_weights(source: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> Path:
    """Return a model's file of weights, or the index of its shards.

    Args:
        source: the model's folder, address, or name on the hub.

    Raises:
        UserError: there is no such model, or it holds no weights.
    """
    for name in WEIGHTS_FILES:
        if (path := find_model_file(source, name, cache_dir, required=False)) is not None:
            return path
    adapter = "adapter_config.json"
    if find_model_file(source, adapter, cache_dir, required=False) is not None:
        raise UserError(
            f"{source}: holds an adapter ({adapter}) and no model; merge it into its model and save that"
        )
    return find_model_file(source, WEIGHTS_NAME, cache_dir)  # which says what is missing


def weights_files(
    source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> list[Path]:
    """The files that hold a model's weights: one, or an index and its shards.

    Raises:
        UserError: see `find_weights` and `read_weights`.
    """
    path = find_weights(source, cache_dir)
    if not path.name.endswith(INDEX_ENDING):
        return [path]
    return [path, *find_shards(path, source, cache_dir).values()]


def read_weights(
    path: str | os.PathLike,
    source: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> dict[str, Tensor]:
    """Read a `.safetensors` or a `torch.save` file of tensors, or shards by their index.

    Args:
        source: where the shards of an index are; by default in its folder.

    Returns:
        The tensors on the CPU, under canonical names.

    Raises:
        UserError: a file is torn, is of another kind, or holds anything but tensors; a shard is missing,
            lies outside the folder, or lacks what the index says it holds.
    """
    path = Path(path)
    if path.name.endswith(INDEX_ENDING):
        state = read_shards(path, path.parent if source is None else source, cache_dir, _read_file)
    else:
        state = _read_file(path)
    try:
        return canonical_names(state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_file(path: Path) -> dict[str, Tensor]:
    """Read one file of tensors under the names it gives them."""
    try:
        path.open("rb").close()  # safetensors says "no such file" of one that may not be read
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_tensors(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a model's weights") from None
    except pickle.UnpicklingError as error:
        reason = "it is torn or holds more than tensors, and code from a file is never run"
        raise UserError(f"{path}: cannot be read as weights: {reason}") from error
    except (
        Exception
    ) as error:  # the readers raise many kinds on a torn file; each is the file's fault
        raise UserError(
            f"{path}: cannot be read as weights ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"{path}: expected a plain table of named tensors (a state dict)")
    return state


def read_tensors(path: str | os.PathLike) -> Any:
    """Read what `torch.save` wrote, on the CPU, after its checksums have been compared.

    It is read weights-only: a file that carries code is refused, not run. torch writes a checksum for
    every tensor and compares none; files of before torch 1.6 have none.

    Raises:
        zipfile.BadZipFile: a checksum differs, or a part is compressed, which torch never does.
        Exception: of many kinds, where the file is torn, or holds more than tensors and plain values.
    """
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                    raise zipfile.BadZipFile("compressed")
                if (torn := archive.testzip()) is not None:
                    raise zipfile.BadZipFile(f"the checksum of {torn} differs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever torch says of a bad file, our error says it
        return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(
    model: nn.Module, state: dict[str, Tensor], source: str | os.PathLike, may_init: Iterable[str]
) -> list[str]:
    """Copy a state dict into `model`, and say what was not there.

    Args:
        state: tensors under canonical names.
        source: the file named in errors.
        may_init: name prefixes that may be missing and then keep their fresh values.

    Returns:
        The names that kept their fresh values.

    Raises:
        UserError: a parameter is missing that may not be, the file holds encoder weights the model has
            no place for, two shapes differ, or a number is not finite; the message names the key, both
            shapes and the file.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    forbidden = [name for name in missing if not name.startswith(tuple(may_init))]
    if forbidden:
        raise WeightsMismatch(
            f"{source}: {forbidden[0]} is missing ({len(forbidden)} weights in all); it would be filled "
            f"with random numbers. Expected {_expected(forbidden[0])}",
            forbidden[0],
        )
    unexpected = [name for name in state if name not in own and not name.startswith(_HEADS)]
    if unexpected:
        raise UserError(
            f"{source}: {unexpected[0]} has no place in this model ({len(unexpected)} weights in all); "
            f"config.json describes another model than the weights"
        )
    untied = [name for name in _TIED if name in state]
    if untied and any(name.startswith("cls.predictions.") for name in own):
        raise UserError(
            f"{source}: {untied[0]} differs from {_TIED[untied[0]]}; expected a language-model head that "
            f"shares the word embeddings, as BERT's does; train one with pretrain_mlm.py"
        )
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            raise WeightsMismatch(
                f"{source}: {name} has shape {list(state[name].shape)}, the model expects "
                f"{list(value.shape)}; config.json or the command asks for another size",
                name,
            )
        if name in state and not state[name].isfinite().all():
            raise UserError(
                f"{source}: {name} holds numbers that are not finite: the file is damaged, or its training "
                f"went wrong; expected a file as it was written, or another model"
            )
    model.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return missing


def _expected(missing: str) -> str:
    """What kind of checkpoint would hold a missing weight, and which program makes one."""
    if missing.startswith("classifier."):
        return "a classifier fine-tuned on the task; finetune_teacher.py makes one"
    if missing.startswith("cls.predictions."):
        return "a masked language model with its head; pretrain_mlm.py makes one"
    return "a checkpoint that holds it"


def write_tensors(state: Any, file: IO[bytes]) -> None:
    """Write tensors and plain values with `torch.save`, and have them on disk.

    Raises:
        OSError: the disk is full (torch itself would raise an error of its own instead).
    """
    trouble: list[OSError] = []

    class Stream:
        def write(self, data) -> int:
            try:
                return file.write(data)
            except OSError as error:
                trouble.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(state, Stream())
    except Exception:
        if trouble:
            raise trouble[0] from None
        raise
    file.flush()
    os.fsync(file.fileno())


def save_weights(state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Write tensors under `path` in `torch.save`'s format, complete or not at all."""
    with atomic_open(path, "wb") as file:
        write_tensors(
            {name: value.detach().cpu().contiguous() for name, value in state.items()}, file
        )


def report_fresh(
    names: list[str], source: str | os.PathLike, left_out: Collection[str] = ()
) -> None:
    """Say on standard error which weights start from fresh values, and why.

    Args:
        left_out: of all names those that the file holds and that were not to be read.
    """
    for group, why in (
        ([name for name in names if name not in left_out], "has no {}"),
        ([name for name in names if name in left_out], "holds {}, left out as asked"),
    ):
        if group:
            parts = ", ".join(sorted({name.rsplit(".", 1)[0] for name in group}))
            told = why.format(parts)
            print(f"note: {source} {told}: starting from fresh values", file=sys.stderr)
