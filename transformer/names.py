"""The names that weights go by in other programs' checkpoints, brought to one form."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from files.errors import UserError

# Parts that wrappers put into a name, anywhere: DataParallel and DDP, torch.compile, FSDP, checkpointing.
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
}
# What holds a model under a name of its own, at the head of a name: sentence-transformers, Lightning, users.
_HOLDERS = ("0.", "auto_model.", "model.")
_PARTS = ("embeddings.", "encoder.", "pooler.")  # of an encoder saved by itself
_OUTSIDE = (
    "bert.",
    "cls.",
    "classifier.",
    "fit_dense.",
    "fit_denses.",
    "qa_outputs.",
)  # of `bert.`
# Buffers that carry nothing a model does not already hold.
_REDUNDANT = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
WORDS = "bert.embeddings.word_embeddings.weight"
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
BIAS = "cls.predictions.bias"


def canonical_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename parameters to `bert.…`, `cls.…`, `classifier.…`, `fit_dense.…` with `weight`/`bias`.

    Undoes what wrappers and holders add (`module.`, `_orig_mod.`, `model.`, `0.auto_model.`), a missing
    or doubled `bert.`, and `gamma`/`beta` (TensorFlow's LayerNorm). Leaves out position-id buffers and a
    decoder that equals the word embeddings.

    Raises:
        UserError: two weights would go by one name, or the file holds an adapter.
    """
    renamed: dict[str, Tensor] = {}
    for given, value in state.items():
        if ".lora_" in given or ".base_layer." in given:
            raise UserError(
                f"{given} belongs to an adapter (LoRA); expected a whole model: merge the adapter into "
                "its model and save that"
            )
        name = canonical_name(given)
        if name in renamed:
            raise UserError(f"{name} appears twice, under two names; expected one")
        if name not in _REDUNDANT:
            renamed[name] = value
    _untie(renamed)
    return renamed


def canonical_name(name: str) -> str:
    """The name by which we know one weight; a name of no BERT stays as it is."""
    name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    shorter = True
    while shorter:
        shorter = False
        for holder in _HOLDERS:
            if name.startswith(holder):
                name, shorter = name[len(holder) :], True
        if name.startswith("bert.") and name[len("bert.") :].startswith(_OUTSIDE):
            name, shorter = name.removeprefix("bert."), True
    if name.startswith(_PARTS):
        name = "bert." + name
    if name.endswith("LayerNorm.gamma"):
        name = name.removesuffix("gamma") + "weight"
    elif name.endswith("LayerNorm.beta"):
        name = name.removesuffix("beta") + "bias"
    return name


def _untie(state: dict[str, Tensor]) -> None:
    """Leave out, in place, what repeats the word embeddings or the bias of the language-model head.

    A vocabulary that was padded in one place and not in the other counts as the same: rows beyond the
    embeddings belong to no token, and `transformers` pads a bias that is too short with zeros.
    """
    if DECODER_BIAS in state:
        if BIAS not in state:
            state[BIAS] = state[DECODER_BIAS]
        if state[DECODER_BIAS].equal(state[BIAS]):
            del state[DECODER_BIAS]
    if WORDS not in state or state[WORDS].dim() != 2:
        return
    rows = len(state[WORDS])
    if DECODER in state and state[DECODER][:rows].equal(state[WORDS]):
        longer = len(state.pop(DECODER)) > rows
        if longer and BIAS in state:
            state[BIAS] = state[BIAS][:rows]
    if BIAS in state and state[BIAS].dim() == 1 and len(state[BIAS]) < rows:
        state[BIAS] = F.pad(state[BIAS], (0, rows - len(state[BIAS])))
