"""The names that wrappers and other programs give to BERT's weights."""

import pytest
import torch

from files.errors import UserError
from transformer.names import canonical_name, canonical_names

QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    "prefix",
    [
        "", "bert.", "bert.bert.", "module.", "module.bert.", "_orig_mod.bert.", "module._orig_mod.",
        "_orig_mod.module.bert.", "model.", "model.bert.", "model.model.bert.", "0.auto_model.",
        "auto_model.", "module.0.auto_model.", "bert.module.", "bert._orig_mod.", "model.module.bert.bert.",
        "_fsdp_wrapped_module.bert.", "bert._checkpoint_wrapped_module.",
    ],
)  # fmt: skip
def test_what_holds_a_model_leaves_its_names(prefix):
    assert canonical_name(prefix + QUERY) == f"bert.{QUERY}"


@pytest.mark.parametrize(
    "given, ours",
    [
        ("module.classifier.weight", "classifier.weight"),
        ("bert.classifier.bias", "classifier.bias"),
        ("model.cls.predictions.bias", "cls.predictions.bias"),
        ("_orig_mod.fit_dense.weight", "fit_dense.weight"),
        ("fit_denses.0._orig_mod.weight", "fit_denses.0.weight"),
        ("pooler.dense.bias", "bert.pooler.dense.bias"),
        ("bert.encoder._orig_mod.LayerNorm.gamma", "bert.encoder.LayerNorm.weight"),
        ("bert.embeddings.LayerNorm.beta", "bert.embeddings.LayerNorm.bias"),
        ("roberta.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
        ("transformer.layer.0.ffn.lin2.bias", "bert.encoder.layer.0.output.dense.bias"),
        ("vit.model.weight", "vit.model.weight"),
    ],
)  # fmt: skip
def test_heads_and_strangers(given, ours):
    assert canonical_name(given) == ours


def test_two_names_for_one_weight_are_refused():
    with pytest.raises(UserError, match="appears twice"):
        canonical_names({f"model.{QUERY}": torch.ones(1), f"bert.{QUERY}": torch.ones(1)})


@pytest.mark.parametrize("part", ["lora_A.default.weight", "base_layer.weight"])
def test_an_adapter_is_no_model(part):
    name = f"base_model.model.bert.encoder.layer.0.attention.self.query.{part}"
    with pytest.raises(UserError, match="adapter"):
        canonical_names({name: torch.ones(1)})
