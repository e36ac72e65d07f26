"""torch.compile, where it was asked for."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import nn

from files.errors import UserError, setting
from transformer.encoder import BertLayer


def compile_layers(model: nn.Module) -> None:
    """Have torch.compile fuse the operations of a model's layers, in place; the model's names stay.

    The layers of an encoder are alike, so what is compiled for one serves all of them; lengths of
    sequences are left open. The embeddings and the heads, which have little to fuse, stay as they are.
    """
    for module in model.modules():
        if isinstance(module, BertLayer):
            module.compile(dynamic=True)


def check_compiler(device: torch.device) -> None:
    """Look for what torch.compile works with, before it fails in the middle of a first step.

    Raises:
        UserError: it says what is missing.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UserError(
                f"{setting('compile')}: needs the package triton on a GPU: pip install triton"
            )
        return
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(map(shutil.which, compilers)):
        raise UserError(
            f"{setting('compile')}: no C++ compiler here, expected {' or '.join(compilers)}; install it, or "
            f"leave {setting('compile')} out"
        )
