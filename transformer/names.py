"""The names that weights go by in checkpoints: of each family, and of other programs, brought to one form."""

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


# Of each family but BERT: its name for a part, and ours, which is BERT's. The longer of ours come first.
FAMILY_NAMES = {
    "roberta": (
        ("lm_head.dense.", "cls.predictions.transform.dense."),
        ("lm_head.layer_norm.", "cls.predictions.transform.LayerNorm."),
        ("lm_head.decoder.", "cls.predictions.decoder."),
        ("lm_head.bias", "cls.predictions.bias"),
        ("classifier.dense.", "bert.pooler.dense."),  # of a classifier; else it has BERT's pooler
        ("classifier.out_proj.", "classifier."),
        ("roberta.", "bert."),
    ),
    "distilbert": (
        ("vocab_transform.", "cls.predictions.transform.dense."),
        ("vocab_layer_norm.", "cls.predictions.transform.LayerNorm."),
        ("vocab_projector.weight", "cls.predictions.decoder.weight"),
        ("vocab_projector.bias", "cls.predictions.bias"),
        ("pre_classifier.", "bert.pooler.dense."),
        ("distilbert.transformer.layer.", "bert.encoder.layer."),
        ("distilbert.", "bert."),
        (".attention.q_lin.", ".attention.self.query."),
        (".attention.k_lin.", ".attention.self.key."),
        (".attention.v_lin.", ".attention.self.value."),
        (".attention.out_lin.", ".attention.output.dense."),
        (".sa_layer_norm.", ".attention.output.LayerNorm."),
        (".ffn.lin1.", ".intermediate.dense."),
        (".ffn.lin2.", ".output.dense."),
        (".output_layer_norm.", ".output.LayerNorm."),
    ),
}
# Of encoders that were saved by themselves, without the prefix of their family.
_BARE = {"transformer.layer.": "distilbert.transformer.layer."}


def family_names(state: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """Weights under canonical names, renamed as a family's checkpoints have them."""
    if family not in FAMILY_NAMES:
        return dict(state)
    classifies = "classifier.weight" in state
    return {_family_name(name, family, classifies): value for name, value in state.items()}


def _family_name(name: str, family: str, classifies: bool) -> str:
    found = False
    for theirs, ours in FAMILY_NAMES[family]:
        if ours.startswith("."):
            name = name.replace(ours, theirs)
        elif name.startswith(ours) and not found and (classifies or "pooler" not in ours):
            name, found = theirs + name[len(ours) :], True
    return name


def canonical_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename parameters to `bert.…`, `cls.…`, `classifier.…`, `fit_dense.…` with `weight`/`bias`.

    Undoes what wrappers and holders add (`module.`, `_orig_mod.`, `model.`, `0.auto_model.`), a missing
    or doubled `bert.`, and `gamma`/`beta` (TensorFlow's LayerNorm). Leaves out position-id buffers and a
    decoder that equals the word embeddings.

    Raises:
        UserError: two weights would go by one name, or the file holds an adapter.
    """
    renamed: dict[str, Tensor] = {}
    if any(
        "classifier.dense." in name for name in state
    ):  # RoBERTa's classifier has no other pooler
        state = {name: value for name, value in state.items() if "roberta.pooler." not in name}
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
    for bare, whole in _BARE.items():
        if name.startswith(bare):
            name = whole + name[len(bare) :]
    for pairs in FAMILY_NAMES.values():
        if name.startswith(tuple(theirs for theirs, _ in pairs)):
            for theirs, ours in pairs:
                if theirs.startswith("."):
                    name = name.replace(theirs, ours)
                elif name.startswith(theirs):
                    name = ours + name[len(theirs) :]
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
