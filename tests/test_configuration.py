"""config.json: what is read, what is written, and what no model can be made of."""

import json

import pytest

from files.errors import UserError
from transformer.configuration import BertConfig
from transformer.file_utils import CONFIG_NAME


def read(tmp_path, content):
    path = tmp_path / CONFIG_NAME
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return BertConfig.from_json_file(path)


def refused(tmp_path, content):
    """The one line that refuses a config; it names the file."""
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / CONFIG_NAME}: ")
    assert len(message.splitlines()) == 1
    return message


def test_google_config_is_read(tmp_path):
    config = read(
        tmp_path,
        {
            "attention_probs_dropout_prob": 0.1,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.2,
            "hidden_size": 312,
            "initializer_range": 0.02,
            "intermediate_size": 1200,
            "max_position_embeddings": 512,
            "num_attention_heads": 12,
            "num_hidden_layers": 4,
            "type_vocab_size": 2,
            "vocab_size": 21128,
            "pre_trained": "",
            "directionality": "bidi",
        },
    )
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (312, 4, 21128)
    assert (config.hidden_dropout_prob, config.layer_norm_eps) == (0.2, 1e-12)
    assert (config.classifier_head, config.id2label, config.num_labels) == ("tinybert", None, 2)


def test_what_is_written_is_read_back(tmp_path):
    config = BertConfig(
        hidden_size=96,
        num_attention_heads=3,
        classifier_head="hf",
        id2label=["no", "ja", "☃"],
        fit_size=768,
        fit_dense="per_layer",
    )
    config.to_json_file(tmp_path / CONFIG_NAME, "BertForSequenceClassification")
    assert BertConfig.from_json_file(tmp_path / CONFIG_NAME) == config


@pytest.mark.parametrize(
    "values, head",
    [
        ({"architectures": ["BertForSequenceClassification"]}, "hf"),
        ({"architectures": ["BertForSequenceClassification"], "classifier_head": "tinybert"}, "hf"),
        ({"architectures": ["TinyBertForSequenceClassification"]}, "tinybert"),
        ({"architectures": ["BertForPreTraining"]}, "tinybert"),
        ({}, "tinybert"),
    ],
)  # fmt: skip
def test_kind_of_head_follows_the_class_that_was_saved(tmp_path, values, head):
    assert read(tmp_path, values).classifier_head == head


@pytest.mark.parametrize(
    "values, labels",
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, ["a", "b", "c"]),
        ({"id2label": {"1": "b", "0": "a"}, "num_labels": 7}, ["a", "b"]),
        ({"id2label": ["x"]}, ["x"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"id2label": None}, None),
    ],
)
def test_label_names_come_in_logit_order(tmp_path, values, labels):
    assert read(tmp_path, values).id2label == labels


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "fit_size",
)


@pytest.mark.parametrize("value", [0, -1, 10**12, 1.5, 768.0, "768", True, [768], {}, float("nan")])
@pytest.mark.parametrize("name", SIZES)
def test_impossible_sizes_are_refused_by_name(tmp_path, name, value):
    message = refused(tmp_path, {name: value})
    least = 2 if name == "type_vocab_size" else 1
    assert f"{name} is " in message and f"expected a whole number from {least} to " in message


@pytest.mark.parametrize("name", SIZES[:-1])
def test_a_size_may_not_be_null(tmp_path, name):
    assert f"{name} is None" in refused(tmp_path, {name: None})


@pytest.mark.parametrize(
    "value", [-0.1, 1, 1.0, 5, float("nan"), float("inf"), "0.1", None, True, []]
)
@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_impossible_dropout_is_refused(tmp_path, name, value):
    assert f"{name} is " in refused(tmp_path, {name: value})


@pytest.mark.parametrize("value", [0, -1e-12, 1.0, float("nan"), float("-inf"), "1e-12", None])
@pytest.mark.parametrize("name", ["initializer_range", "layer_norm_eps"])
def test_impossible_scales_are_refused(tmp_path, name, value):
    assert f"{name} is " in refused(tmp_path, {name: value})


@pytest.mark.parametrize("name", ["hidden_act", "classifier_head", "fit_dense"])
@pytest.mark.parametrize("value", ["swish", None, 3, ["gelu"], {}])
def test_unknown_choices_are_refused_with_those_there_are(tmp_path, name, value):
    assert f"{name} is {value!r}; expected '" in refused(tmp_path, {name: value})


def test_there_are_two_segments_to_number(tmp_path):
    assert "type_vocab_size is 1; expected a whole number from 2" in refused(
        tmp_path, {"type_vocab_size": 1}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("position_embedding_type", "relative_key"), ("is_decoder", True), ("is_decoder", [])],
)
def test_what_is_computed_otherwise_is_refused(tmp_path, name, value):
    assert f"{name} is {value!r}; expected " in refused(tmp_path, {name: value})


def test_sizes_that_are_possible_one_by_one_are_refused_together(tmp_path):
    sizes = {"hidden_size": 12_288, "intermediate_size": 65_536, "num_hidden_layers": 96}
    message = refused(tmp_path, sizes)
    assert "hidden_size 12288" in message and "parameters; expected at most" in message


def test_heads_must_divide_the_width(tmp_path):
    message = refused(tmp_path, {"hidden_size": 312, "num_attention_heads": 7})
    assert "hidden_size 312 is not a multiple of num_attention_heads 7" in message


@pytest.mark.parametrize(
    "labels",
    [
        {},
        [],
        {"0": 1},
        {"1": "a"},
        {"0": "a", "2": "b"},
        "abc",
        3,
        [None],
        {"x": "y"},
        ["a", "b\n"],
        ["a\r1"],
        ["a\tb"],
        ["a\u2028b"],
    ],
)
def test_broken_label_tables_are_refused(tmp_path, labels):
    assert "id2label" in refused(tmp_path, {"id2label": labels})


@pytest.mark.parametrize("count", [0, -2, 2.0, "2", True, 10**9])
def test_impossible_numbers_of_labels_are_refused(tmp_path, count):
    assert "num_labels" in refused(tmp_path, {"num_labels": count})


@pytest.mark.parametrize("kind", ["albert", None, [], 1])
def test_another_kind_of_model_is_refused(tmp_path, kind):
    expected = f"model_type is {kind!r}; expected 'bert' or 'roberta' or 'distilbert'"
    assert expected in refused(tmp_path, {"model_type": kind})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"{'vocab_size': 3}",
        b'{"vocab_size": 30522',
        b"[" * 100_000,
        b'{"vocab_size": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "bytes", "byte-order-mark", "quotes", "torn", "nested", "digits"],
)
def test_what_is_no_json_is_refused(tmp_path, content):
    assert "not JSON" in refused(tmp_path, content)


@pytest.mark.parametrize("content", [[], None, 3, "bert"])
def test_json_of_another_kind_is_refused(tmp_path, content):
    assert "expected a JSON object" in refused(tmp_path, content)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere/config.json: no such file"):
        BertConfig.from_json_file(tmp_path / "nowhere" / CONFIG_NAME)
