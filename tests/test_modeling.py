"""The models: equal to `transformers`' BERT on the same weights, both ways, and TinyBERT's own parts."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
import transformers
from torch.testing import assert_close as close

from transformer import modeling
from transformer.encoder import Collect
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.modeling import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)

REAL_MODEL = os.environ.get("TINYBERT_REAL_MODEL", "")
SIZES = {
    "vocab_size": 200,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
    "num_labels": 3,
}


def assert_close(actual, expected):
    close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def theirs(tmp_path, randomised):
    """A function making a random model of theirs and the folder it was saved to by them."""

    def make(name, **fields):
        config = transformers.BertConfig(**{**SIZES, **fields}, attn_implementation="eager")
        model = randomised(getattr(transformers, name)(config))
        model.save_pretrained(tmp_path / name)
        return model, tmp_path / name

    return make


def everything(model):
    """A `Collect` of all of every layer."""
    return Collect.everything(model.config.num_hidden_layers)


def all_of(model, batch):
    with torch.no_grad():
        return model(**batch, output_hidden_states=True, output_attentions=True)


def check_encoder(ours, theirs, batch):
    """Hidden states, pooled vector and attention scores of two encoders with the same weights."""
    expected = all_of(theirs, batch)
    with torch.no_grad():
        actual = ours(**batch, collect=everything(ours))
    assert len(actual.hidden) == len(expected.hidden_states)
    assert_close(actual.hidden, expected.hidden_states)
    if expected.pooler_output is not None:
        assert_close(actual.output, expected.pooler_output)
    heads = theirs.config.num_attention_heads
    mask = (1 - batch["attention_mask"][:, None, None, :]) * -10000.0
    for i, layer in enumerate(theirs.encoder.layer):
        attention = layer.attention.self
        query, key, value = (
            linear(expected.hidden_states[i]).unflatten(-1, (heads, -1)).transpose(1, 2)
            for linear in (attention.query, attention.key, attention.value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask
        assert_close(actual.scores[i], scores)
        assert_close(actual.probs[i], expected.attentions[i])
        assert_close(actual.qkv[i], (query, key, value))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_encoder_equals_theirs(theirs, tiny_batch, activation):
    model, folder = theirs("BertModel", hidden_act=activation)
    check_encoder(BertModel.from_pretrained(folder), model, tiny_batch())


def test_a_model_of_one_layer_and_one_head_equals_theirs(theirs, tiny_batch):
    model, folder = theirs("BertModel", num_hidden_layers=1, num_attention_heads=1)
    check_encoder(BertModel.from_pretrained(folder), model, tiny_batch())


def test_masked_language_model_equals_theirs(theirs, tiny_batch):
    model, folder = theirs("BertForMaskedLM")
    ours = BertForMaskedLM.from_pretrained(folder)(**tiny_batch()).output
    assert_close(ours, all_of(model, tiny_batch()).logits)


def test_pretraining_heads_equal_theirs(theirs, tiny_batch):
    model, folder = theirs("BertForPreTraining")
    expected = all_of(model, tiny_batch())
    words, next_sentence = BertForPreTraining.from_pretrained(folder)(**tiny_batch())
    assert_close(words, expected.prediction_logits)
    assert_close(next_sentence, expected.seq_relationship_logits)
    # The same file serves the classes that have one of the two heads.
    assert_close(BertForMaskedLM.from_pretrained(folder)(**tiny_batch()).output, words)
    assert_close(
        BertForNextSentencePrediction.from_pretrained(folder)(**tiny_batch()), next_sentence
    )


def test_next_sentence_head_equals_theirs(theirs, tiny_batch):
    model, folder = theirs("BertForNextSentencePrediction")
    ours = BertForNextSentencePrediction.from_pretrained(folder)
    assert_close(ours(**tiny_batch()), all_of(model, tiny_batch()).logits)


def test_their_classifier_is_taken_for_one_without_relu(theirs, tiny_batch):
    model, folder = theirs("BertForSequenceClassification")
    ours = TinyBertForSequenceClassification.from_pretrained(folder)
    assert ours.config.classifier_head == "hf"
    assert ours.config.num_labels == 3
    assert_close(ours(**tiny_batch()).output, all_of(model, tiny_batch()).logits)


def test_tinybert_classifier_reads_the_positive_part_of_the_pooled_vector(theirs, tiny_batch):
    model, folder = theirs("BertForSequenceClassification")
    ours = TinyBertForSequenceClassification.from_pretrained(folder, classifier_head="tinybert")
    pooled = all_of(model.bert, tiny_batch()).pooler_output
    expected = model.classifier(pooled.clamp(min=0))
    assert_close(ours(**tiny_batch()).output, expected)
    assert not torch.allclose(expected, model.classifier(pooled), atol=1e-2)


def test_only_the_hf_head_drops_out_parts_of_the_pooled_vector(tiny_config, tiny_batch):
    for head, same in (("hf", False), ("tinybert", True)):
        config = tiny_config(classifier_head=head)
        model = TinyBertForSequenceClassification(config).train()
        model.dropout.p = 0.5
        first, second = model(**tiny_batch()).output, model(**tiny_batch()).output
        assert torch.equal(first, second) == same


@pytest.mark.skipif(
    not Path(REAL_MODEL, CONFIG_NAME).is_file(),
    reason="TINYBERT_REAL_MODEL names no folder with a real BERT model",
)
def test_real_weights_give_what_theirs_give(tiny_batch):
    theirs = transformers.AutoModel.from_pretrained(REAL_MODEL, attn_implementation="eager").eval()
    ours = BertModel.from_pretrained(REAL_MODEL)
    batch = tiny_batch(vocab_size=ours.config.vocab_size, length=40)
    check_encoder(ours, theirs, batch)
    fused = ours(**batch, collect=Collect(hidden=(ours.config.num_hidden_layers,)))
    assert_close(fused.hidden[0], all_of(theirs, batch).hidden_states[-1])


# What we save, read by them


def test_saved_encoder_loads_in_their_auto_class(tiny_model_dir, tiny_batch):
    folder = tiny_model_dir("model")
    check_encoder(
        BertModel.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval(),
        tiny_batch(),
    )


@pytest.mark.parametrize(
    "model_class", [BertForMaskedLM, TinyBertForPreTraining, TinyBertForSequenceClassification]
)
def test_encoder_inside_any_saved_model_loads_in_their_auto_class(
    tiny_model_dir, tiny_batch, model_class
):
    folder = tiny_model_dir("model", model_class, id2label=["no", "yes"])
    their_model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    own = model_class.from_pretrained(folder)
    with torch.no_grad():
        last = own.bert(**tiny_batch(), collect=everything(own)).hidden[-1]
    assert_close(last, all_of(their_model.eval(), tiny_batch()).last_hidden_state)


def test_saved_masked_language_model_loads_in_their_auto_class(tiny_model_dir, tiny_batch):
    folder = tiny_model_dir("model", BertForMaskedLM)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    ours = BertForMaskedLM.from_pretrained(folder)
    assert_close(ours(**tiny_batch()).output, all_of(theirs, tiny_batch()).logits)


def test_saved_classifier_with_their_head_loads_in_their_auto_class(tiny_model_dir, tiny_batch):
    fields = {"classifier_head": "hf", "id2label": ["entailment", "not_entailment", "unclear"]}
    folder = tiny_model_dir("model", TinyBertForSequenceClassification, **fields)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = TinyBertForSequenceClassification.from_pretrained(folder)
    assert_close(ours(**tiny_batch()).output, all_of(theirs, tiny_batch()).logits)
    assert theirs.config.id2label == dict(enumerate(fields["id2label"]))
    assert theirs.config.label2id["unclear"] == 2


@pytest.mark.parametrize(
    "name, fields, recorded",
    [
        ("BertModel", {}, "BertModel"),
        ("BertForMaskedLM", {}, "BertForMaskedLM"),
        ("TinyBertForPreTraining", {}, "TinyBertForPreTraining"),
        ("TinyBertForSequenceClassification", {}, "TinyBertForSequenceClassification"),
        (
            "TinyBertForSequenceClassification",
            {"classifier_head": "hf"},
            "BertForSequenceClassification",
        ),
    ],
)
def test_saved_config_says_what_the_model_is(tiny_model_dir, name, fields, recorded):
    labels = {"id2label": ["bad", "good"]} if "Classification" in name else {}
    folder = tiny_model_dir("model", getattr(modeling, name), **labels, **fields)
    config = json.loads((folder / CONFIG_NAME).read_text())
    assert config["model_type"] == "bert"
    assert config["architectures"] == [recorded]
    if labels:
        assert config["id2label"] == {"0": "bad", "1": "good"}
        assert config["label2id"] == {"bad": 0, "good": 1}
        assert config["classifier_head"] == fields.get("classifier_head", "tinybert")


@pytest.mark.parametrize(
    "name",
    [
        "BertModel",
        "BertForMaskedLM",
        "BertForPreTraining",
        "BertForNextSentencePrediction",
        "TinyBertForPreTraining",
        "TinyBertForSequenceClassification",
    ],
)
def test_a_saved_model_comes_back_bit_for_bit(tiny_model_dir, name):
    model_class = getattr(modeling, name)
    folder = tiny_model_dir("model", model_class, fit_size=32)
    model = model_class.from_pretrained(folder)
    assert not model.training
    again = folder.parent / "again"
    model.save_pretrained(again)
    first, second = (torch.load(f / WEIGHTS_NAME) for f in (folder, again))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (folder / CONFIG_NAME).read_text() == (again / CONFIG_NAME).read_text()


# Layers asked for


@pytest.mark.parametrize(
    "collect",
    [
        Collect(),
        Collect(hidden=(3, 0), scores=(1,)),
        Collect(hidden=(1,), scores=(2, 0), probs=(0,)),
        Collect(scores=(0, 1, 2)),
        Collect(hidden=(3,), qkv=(2, 1)),
        Collect(probs=(1,), qkv=(0,)),
    ],
)
def test_collected_layers_come_back_in_the_order_wanted(
    tiny_config, randomised, tiny_batch, collect
):
    model = randomised(BertModel(tiny_config(num_hidden_layers=3)))
    every = model(**tiny_batch(), collect=everything(model))
    some = model(**tiny_batch(), collect=collect)
    for kind, layers in collect._asdict().items():
        expected = tuple(getattr(every, kind)[i] for i in layers)
        assert len(getattr(some, kind)) == len(layers)
        assert_close(getattr(some, kind), expected)
    assert_close(some.output, every.output)


def test_what_several_readers_collect_is_united(tiny_config):
    first, second = Collect((2, 0), (1,)), Collect((0, 1), (), (1,))
    assert first | second == Collect((2, 0, 1), (1,), (1,), ())
    assert Collect().depth() == 0 and Collect((2,), qkv=(3,)).depth() == 4


def test_masked_word_logits_and_layers_come_from_one_call(tiny_config, randomised, tiny_batch):
    model, batch = randomised(BertForMaskedLM(tiny_config())), tiny_batch()
    positions = torch.tensor([0, 0, 2, 3]), torch.tensor([4, 1, 0, 7])
    wanted = Collect(hidden=(2, 0), probs=(1,))
    out = model(**batch, masked_positions=positions, collect=wanted)
    alone = model.bert(**batch, collect=wanted)
    assert_close(out.output, model(**batch).output[positions])
    assert_close((out.hidden, out.probs), (alone.hidden, alone.probs))


def test_layers_above_the_last_one_asked_for_do_not_run(tiny_config, tiny_batch):
    model = BertModel(tiny_config(num_hidden_layers=4))
    ran = []
    for i, layer in enumerate(model.bert.encoder.layer):
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
    out = model(**tiny_batch(), collect=Collect(hidden=(2, 0), scores=(0,)), pool=False)
    assert out.output is None
    assert ran == [0, 1]


def test_only_layers_whose_scores_are_wanted_leave_the_fused_path(
    tiny_config, tiny_batch, monkeypatch
):
    fused = []
    original = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        modeling.F,
        "scaled_dot_product_attention",
        lambda *args, **kw: fused.append(1) or original(*args, **kw),
    )
    BertModel(tiny_config(num_hidden_layers=3))(
        **tiny_batch(), collect=Collect((0, 1, 2, 3), scores=(1,), qkv=(0, 1, 2))
    )
    assert len(fused) == 2


def test_without_mask_and_segments_all_is_text_of_the_first_segment(
    tiny_config, randomised, tiny_batch
):
    model, ids = randomised(BertModel(tiny_config())), tiny_batch()["input_ids"]
    every = everything(model)
    explicit = model(ids, torch.zeros_like(ids), torch.ones_like(ids), every)
    assert_close(model(ids, collect=every).hidden, explicit.hidden)


def test_padding_changes_nothing_for_the_tokens(tiny_config, randomised, tiny_batch):
    model, batch = randomised(BertModel(tiny_config())), tiny_batch()
    row = {name: tensor[3:4, :8] for name, tensor in batch.items()}
    assert row["attention_mask"].all()
    alone, padded = (model(**rows, collect=Collect(hidden=(2,))) for rows in (row, batch))
    assert_close(alone.hidden[0], padded.hidden[0][3:4, :8])
    assert_close(alone.output, padded.output[3:4])


def test_masked_positions_select_rows_of_the_full_logits(tiny_config, randomised, tiny_batch):
    model, batch = randomised(BertForMaskedLM(tiny_config())), tiny_batch()
    places = torch.tensor([0, 0, 2, 3]), torch.tensor([4, 1, 0, 7])
    assert_close(model(**batch, masked_positions=places).output, model(**batch).output[places])


def test_one_place_of_each_sequence_may_be_asked_alone(tiny_config, randomised, tiny_batch):
    """The last layer then computes nothing else."""
    model = randomised(BertForMaskedLM(tiny_config(num_hidden_layers=3)))
    batch, columns = tiny_batch(), torch.tensor([16, 0, 3, 7, 1])
    sizes = []
    model.bert.encoder.layer[2].intermediate.register_forward_hook(
        lambda module, inputs, out: sizes.append(out.shape[:2])
    )
    alone = model(**batch, columns=columns).output
    assert_close(alone, model(**batch).output[torch.arange(5), columns])
    assert sizes == [(5, 1), (5, 17)]


# The projection of the student


@pytest.mark.parametrize("model_class", [TinyBertForPreTraining, TinyBertForSequenceClassification])
def test_fit_dense_maps_hidden_states_to_the_teachers_width(
    tiny_config, randomised, tiny_batch, model_class
):
    model = randomised(model_class(tiny_config(fit_size=36)))
    student = {} if model_class is TinyBertForPreTraining else {"is_student": True}
    out = model(**tiny_batch(), collect=everything(model), **student)
    plain = model.bert(**tiny_batch(), collect=everything(model))
    assert_close(out.hidden, tuple(model.fit_dense(h) for h in plain.hidden))
    assert_close(out.scores, plain.scores)
    assert out.hidden[0].shape[-1] == 36


def test_per_layer_projections_go_with_the_layers_asked_for(tiny_config, randomised, tiny_batch):
    config = tiny_config(fit_size=36, fit_dense="per_layer")
    model = randomised(TinyBertForPreTraining(config))
    assert len(model.fit_denses) == 3
    plain = model.bert(**tiny_batch(), collect=everything(model)).hidden
    out = model(**tiny_batch(), collect=Collect(hidden=(2, 0)))
    expected = model.fit_denses[2](plain[2]), model.fit_denses[0](plain[0])
    assert_close(out.hidden, expected)


def test_classifier_without_is_student_returns_its_own_hidden_states(
    tiny_config, randomised, tiny_batch
):
    model = randomised(TinyBertForSequenceClassification(tiny_config(fit_size=36)))
    every = everything(model)
    own, plain = (part(**tiny_batch(), collect=every) for part in (model, model.bert))
    assert_close(own.hidden, plain.hidden)


def test_pretraining_student_assumes_bert_base_as_teacher(tiny_config):
    assert TinyBertForPreTraining(tiny_config()).fit_dense.out_features == 768


@pytest.mark.parametrize(
    "folder, millions", [("tinybert_4l_config", 14.35), ("tinybert_6l_config", 66.96)]
)
def test_published_students_have_the_published_size(folder, millions):
    with torch.device("meta"):
        model = BertModel.from_scratch(Path(__file__).parents[1] / folder)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_from_scratch_takes_settings_and_draws_new_weights(tmp_path, tiny_config):
    tiny_config().to_json_file(tmp_path / CONFIG_NAME, "BertModel")
    torch.manual_seed(1)
    first = TinyBertForPreTraining.from_scratch(tmp_path, fit_size=30)
    second = TinyBertForPreTraining.from_scratch(tmp_path, fit_size=30)
    assert first.fit_dense.out_features == 30
    weight = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first.state_dict()[weight], second.state_dict()[weight])
    assert first.state_dict()[weight].std() == pytest.approx(0.02, rel=0.2)
    assert first.bert.encoder.layer[0].output.LayerNorm.weight.eq(1).all()
