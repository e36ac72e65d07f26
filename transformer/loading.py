"""A model on disk: its config.json and its weights, read together, before a model is made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from files.errors import UserError
from transformer.configuration import EncoderConfig, read_config_file
from transformer.file_utils import CONFIG_NAME
from transformer.head_kind import Head, check_classifier, find_head
from transformer.hub import find_model_file
from transformer.weights import find_weights, read_weights

CLASSIFIER = ("classifier.weight", "classifier.bias")


class Checkpoint(NamedTuple):
    """A model on disk: what its config.json holds, and its weights under canonical names."""

    values: dict[str, Any]
    state: dict[str, Tensor]
    config_file: Path
    weights: Path
    left_out: frozenset[str] = frozenset()  # names that are in the file and were not to be read

    def config(self) -> EncoderConfig:
        """The configuration that file and weights describe together.

        Raises:
            UserError: see `EncoderConfig.from_dict`.
        """
        try:
            return EncoderConfig.from_dict(self.values, self.state)
        except UserError as error:
            raise UserError(f"{self.config_file}: {error}") from None

    def head(self) -> Head:
        """The head of the classifier, or of the one that it would get."""
        return find_head(self.values, self.state)

    def check_classifier(self) -> None:
        """Refuse a classifier that is not one of whole texts, or half of one.

        Raises:
            UserError: see `configuration.check_classifier`; or its weight or its bias is missing.
        """
        found = [name for name in CLASSIFIER if name in self.state]
        if not found:
            return
        if len(found) == 1:
            raise UserError(
                f"{self.weights}: holds {found[0]} only; expected {' and '.join(CLASSIFIER)}"
            )
        try:
            check_classifier(self.values)
        except UserError as error:
            raise UserError(f"{self.config_file}: {error}") from None


def read_checkpoint(
    source: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    drop: Sequence[str] = (),
) -> Checkpoint:
    """Read a model's config.json and weights, in one file or in shards.

    Args:
        source: folder, hub name, or address of a folder.
        drop: prefixes of canonical names to leave out.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    config_file = find_model_file(source, CONFIG_NAME, cache_dir)
    try:
        values = read_config_file(config_file)
    except UserError as error:
        raise UserError(f"{config_file}: {error}") from None
    weights = find_weights(source, cache_dir)
    state = read_weights(weights, source, cache_dir)
    kept = {name: value for name, value in state.items() if not name.startswith(tuple(drop))}
    return Checkpoint(values, kept, config_file, weights, frozenset(state.keys() - kept.keys()))


def answers_questions(
    source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> bool:
    """Whether a model finds spans, by the class that its config.json names."""
    path = find_model_file(source, CONFIG_NAME, cache_dir)
    try:
        classes = read_config_file(path).get("architectures") or ()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return any(str(name).endswith("ForQuestionAnswering") for name in classes)


def read_config(
    source: str | os.PathLike, cache_dir: str | os.PathLike | None = None
) -> EncoderConfig:
    """Read a model's `config.json` without its weights."""
    return EncoderConfig.from_json_file(find_model_file(source, CONFIG_NAME, cache_dir))
