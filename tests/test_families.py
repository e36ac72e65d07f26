"""RoBERTa and DistilBERT beside `transformers`: the same weights give the same numbers, both ways."""

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from torch.testing import assert_close

from tests.test_round_trips import FORMS, write_weights
from transformer.configuration import EncoderConfig
from transformer.encoder import Collect
from transformer.file_utils import CONFIG_NAME
from transformer.modeling import (
    BertForMaskedLM,
    BertModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)
from transformer.weights import WeightsMismatch

ROOT = Path(__file__).resolve().parent.parent
LAYERS, PAD = 3, {"roberta": 1, "distilbert": 0}
SIZES = {
    "roberta": {
        "vocab_size": 200, "hidden_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 40, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1,
    },
    "distilbert": {
        "vocab_size": 200, "dim": 24, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 40,
        "max_position_embeddings": 40, "seq_classif_dropout": 0.1,
    },
}  # fmt: skip
PREFIX = {"roberta": "Roberta", "distilbert": "DistilBert"}
FAMILIES = sorted(SIZES)
KINDS = {
    "Model": BertModel,
    "ForMaskedLM": BertForMaskedLM,
    "ForSequenceClassification": TinyBertForSequenceClassification,
}


@pytest.fixture
def theirs(randomised):
    """A function giving a model of theirs with random weights."""

    def make(family, kind, **fields):
        config = getattr(transformers, f"{PREFIX[family]}Config")(
            **SIZES[family] | fields, attn_implementation="eager"
        )
        return randomised(getattr(transformers, f"{PREFIX[family]}{kind}")(config), 1)

    return make


def batch_of(family):
    """Five rows of 17 tokens, all but one padded."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 200, (5, 17), generator=generator)
    mask = (torch.arange(17) < torch.tensor([[17], [9], [3], [12], [2]])).long()
    return {"input_ids": ids.masked_fill(mask == 0, PAD[family]), "attention_mask": mask}


def numbers_of(model, batch):
    """Hidden states, attention probabilities and what else a model of theirs answers with."""
    with torch.no_grad():
        out = model(**batch, output_hidden_states=True, output_attentions=True)
    answer = out.logits if "logits" in out else out.get("pooler_output")
    return out.hidden_states, out.attentions, answer


def check_equal(ours, model, batch):
    wanted = Collect(hidden=tuple(range(LAYERS + 1)), probs=tuple(range(LAYERS)))
    states, attentions, answer = numbers_of(model, batch)
    with torch.no_grad():
        out = ours(**batch, collect=wanted)
    close = {"rtol": 0, "atol": 1e-5}
    assert_close(out.hidden, states, **close)
    assert_close(out.probs, attentions, **close)
    assert (answer is None) == (out.output is None)
    if answer is not None:
        assert_close(out.output, answer, **close)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_equals_theirs_there_and_back(family, kind, form, theirs, tmp_path):
    fields = {"num_labels": 3} if "Classification" in kind else {}
    model, batch = theirs(family, kind, **fields), batch_of(family)
    model.save_pretrained(tmp_path / "theirs")
    write_weights(model.state_dict(), tmp_path / "theirs", form)
    ours = KINDS[kind].from_pretrained(tmp_path / "theirs")
    check_equal(ours, model, batch)

    ours.save_pretrained(tmp_path / "ours")
    again, told = type(model).from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not told["missing_keys"] and not told["mismatched_keys"], told
    check_equal(ours, again.eval(), batch)
    check_equal(KINDS[kind].from_pretrained(tmp_path / "ours"), model, batch)
    if kind != "Model":
        auto = getattr(transformers, f"AutoModel{kind}").from_pretrained(tmp_path / "ours")
        assert type(auto) is type(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_word_logits_are_those_of_the_positions(family, theirs, tmp_path):
    model, batch = theirs(family, "ForMaskedLM"), batch_of(family)
    model.save_pretrained(tmp_path)
    ours = BertForMaskedLM.from_pretrained(tmp_path)
    positions = torch.tensor([0, 1, 3]), torch.tensor([4, 8, 0])
    with torch.no_grad():
        out = ours(**batch, masked_positions=positions, collect=Collect(hidden=(LAYERS,)))
    states, _, logits = numbers_of(model, batch)
    assert_close(out.output, logits[positions], rtol=0, atol=1e-5)
    assert_close(out.hidden[0], states[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_alone_gets_a_new_classifier(family, theirs, tmp_path, capsys):
    theirs(family, "Model").save_pretrained(tmp_path)
    with pytest.raises(WeightsMismatch, match="is missing"):
        TinyBertForSequenceClassification.from_pretrained(tmp_path)
    fresh = ("classifier.", "bert.pooler.")
    model = TinyBertForSequenceClassification.from_pretrained(tmp_path, fresh, labels=["a", "b"])
    assert model(**batch_of(family)).output.shape == (5, 2)
    assert "classifier" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_a_students_file_is_read_by_their_encoder(family, theirs, tmp_path):
    theirs(family, "ForMaskedLM").save_pretrained(tmp_path / "start")
    student = TinyBertForPreTraining.from_pretrained(tmp_path / "start", fit_size=36)
    student.save_pretrained(tmp_path / "student")
    encoder = transformers.AutoModel.from_pretrained(
        tmp_path / "student", attn_implementation="eager"
    ).eval()
    batch, wanted = batch_of(family), Collect(hidden=(LAYERS,))
    with torch.no_grad():
        own = student.bert(**batch, collect=wanted).hidden[0]
        assert_close(own, encoder(**batch).last_hidden_state, rtol=0, atol=1e-5)
    again = TinyBertForPreTraining.from_pretrained(tmp_path / "student")
    assert_close(again.fit_dense.weight, student.fit_dense.weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_keeps_the_names_of_its_family(family, theirs, tmp_path):
    model = theirs(family, "ForSequenceClassification")
    model.save_pretrained(tmp_path)
    ours = EncoderConfig.from_json_file(tmp_path / CONFIG_NAME)
    ours.to_json_file(tmp_path / "again.json", "X")
    written = json.loads((tmp_path / "again.json").read_text())
    assert {key: written[key] for key in SIZES[family]} == SIZES[family]
    assert written["model_type"] == family and written["pad_token_id"] == PAD[family]
    assert EncoderConfig.from_dict(written) == ours


def test_roberta_counts_positions_from_behind_padding():
    config = EncoderConfig.from_dict({"model_type": "roberta", **SIZES["roberta"]})
    assert config.max_length == 38
    assert EncoderConfig(max_position_embeddings=40).max_length == 40


def test_roberta_has_one_segment(theirs, tmp_path):
    model, batch = theirs("roberta", "Model"), batch_of("roberta")
    model.save_pretrained(tmp_path)
    ours = BertModel.from_pretrained(tmp_path)
    second = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        assert_close(ours(**batch, token_type_ids=second).output, ours(**batch).output)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_parts_drop_out_in_training(family, theirs, tmp_path):
    model = theirs(family, "ForSequenceClassification")
    model.save_pretrained(tmp_path)
    ours = TinyBertForSequenceClassification.from_pretrained(tmp_path)

    def rates(module, kind):
        return sorted(m.p for m in module.modules() if type(m).__name__ == kind and m.p > 0)

    expected = rates(model, "Dropout")
    if family == "roberta":  # whose classifier applies one module twice
        expected.append(model.classifier.dropout.p)
    assert rates(ours, "Dropout") == sorted(expected)


# The re-implementation of DistilBERT that distilbert/ follows


def test_the_seeds_student_has_as_many_parameters_as_its_own():
    config = EncoderConfig.from_json_file(ROOT / "distilbert/config_seed/config.json")
    with torch.device("meta"):
        model = BertForMaskedLM(config)
    assert sum(p.numel() for p in model.parameters()) == 65_968_128


def test_the_seeds_student_is_sinusoids_and_torchs_own_layers(tmp_path, randomised):
    """E[ids] + PE, then post-LN layers with ReLU as `nn.TransformerEncoderLayer` has them; tied scores."""
    config = EncoderConfig(
        model_type="distilbert-seed", vocab_size=50, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, max_position_embeddings=20, hidden_act="relu",
        layer_norm_eps=1e-5,
    )  # fmt: skip
    model = randomised(BertForMaskedLM(config))
    model.save_pretrained(tmp_path)
    model = BertForMaskedLM.from_pretrained(tmp_path)
    words = model.bert.embeddings.word_embeddings.weight
    ids = torch.randint(0, 50, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    hidden = words[ids].clone()
    for place in range(7):
        for i in range(0, 24, 2):
            angle = place / 10_000 ** (i / 24)
            hidden[:, place, i] += math.sin(angle)
            hidden[:, place, i + 1] += math.cos(angle)
    for layer in model.bert.encoder.layer:
        theirs = torch.nn.TransformerEncoderLayer(24, 4, 40, activation="relu", batch_first=True)
        attention = layer.attention
        three = [getattr(attention.self, name) for name in ("query", "key", "value")]
        theirs.load_state_dict(
            {
                "self_attn.in_proj_weight": torch.cat([part.weight for part in three]),
                "self_attn.in_proj_bias": torch.cat([part.bias for part in three]),
                **_named("self_attn.out_proj", attention.output.dense),
                **_named("norm1", attention.output.LayerNorm),
                **_named("linear1", layer.intermediate.dense),
                **_named("linear2", layer.output.dense),
                **_named("norm2", layer.output.LayerNorm),
            }
        )
        hidden = theirs.eval()(hidden, src_key_padding_mask=mask == 0)
    with torch.no_grad():
        out = model(ids, attention_mask=mask, collect=Collect(hidden=(2,)))
    rows = mask.bool()
    assert_close(out.hidden[0][rows], hidden[rows], rtol=0, atol=1e-5)
    assert_close(out.output[rows], (hidden @ words.t())[rows], rtol=0, atol=1e-4)


def test_the_seeds_classifier_reads_the_first_state_alone(tmp_path, randomised):
    config = EncoderConfig(
        model_type="distilbert-seed", vocab_size=50, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=40, id2label=["no", "yes"],
    )  # fmt: skip
    model = randomised(TinyBertForSequenceClassification(config))
    ids = torch.randint(0, 50, (3, 7))
    with torch.no_grad():
        out = model(ids, collect=Collect(hidden=(2,)))
    first = out.hidden[0][:, 0]
    assert_close(out.output, first @ model.classifier.weight.t() + model.classifier.bias)


def _named(name, module):
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
