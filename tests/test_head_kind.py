"""One place decides which head a classifier has: what wrote the file last, else what speaks for one."""

import json

import pytest
import torch

from files.errors import UserError
from tasks.classifiers import read_classifier
from transformer.configuration import MODELING_FILE
from transformer.file_utils import CONFIG_NAME
from transformer.head_kind import check_classifier, find_head
from transformer.modeling import BertModel, TinyBertForSequenceClassification

OURS, THEIRS = "TinyBertForSequenceClassification", "BertForSequenceClassification"
CLASSIFIER = {"classifier.weight": torch.ones(2, 4), "classifier.bias": torch.ones(2)}
MAP = {"AutoModelForSequenceClassification": f"{MODELING_FILE.stem}.{OURS}"}


@pytest.mark.parametrize(
    "values, kind",
    [
        ({"architectures": [THEIRS]}, "hf"),
        ({"architectures": [OURS]}, "tinybert"),
        ({"architectures": [OURS], "auto_map": MAP, "transformers_version": "5.23.0"}, "tinybert"),
        ({"architectures": [THEIRS], "classifier_head": "tinybert"}, "hf"),
        ({"architectures": [THEIRS], "classifier_head": "tinybert", "auto_map": MAP}, "hf"),
        ({"architectures": [OURS], "classifier_head": "hf"}, "tinybert"),
        ({"architectures": THEIRS}, "hf"),
        ({"architectures": ["TFBertForSequenceClassification"]}, "hf"),
        ({"architectures": ["FlaxBertForSequenceClassification"]}, "hf"),
        ({"architectures": ["BertForMaskedLM", THEIRS]}, "hf"),
        ({"architectures": [OURS, "BertModel"]}, "tinybert"),
        ({"architectures": ["BertForMaskedLM"], "classifier_head": "hf"}, "hf"),
        ({"classifier_head": "tinybert"}, "tinybert"),
    ],
)
def test_what_wrote_the_file_last_is_known_and_decides(values, kind):
    head = find_head(values, CLASSIFIER)
    assert (head.kind, head.guessed) == (kind, False)


@pytest.mark.parametrize(
    "values, kind",
    [
        ({}, "hf"),
        ({"architectures": None}, "hf"),
        ({"architectures": []}, "hf"),
        ({"architectures": [3, {}]}, "hf"),
        ({"architectures": ["MyOwnBert"]}, "hf"),
        ({"architectures": ["BertForMaskedLM"], "finetuning_task": "sst-2", "pruned_heads": {}}, "hf"),
        ({"finetuning_task": None, "emb_size": 312, "pre_trained": ""}, "hf"),
        ({"architectures": ["BertModel"], "transformers_version": "4.6.1"}, "hf"),
        ({"emb_size": 312, "structure": [], "pre_trained": ""}, "tinybert"),
        ({"auto_map": MAP}, "tinybert"),
        ({"architectures": [OURS, THEIRS]}, "hf"),
        ({"architectures": [OURS, THEIRS], "classifier_head": "tinybert"}, "tinybert"),
        ({"architectures": [], "classifier_head": "tinybert", "torchscript": False}, "tinybert"),
    ],
)  # fmt: skip
def test_what_has_to_be_guessed_is_known_to_be_a_guess(values, kind):
    head = find_head(values, CLASSIFIER)
    assert (head.kind, head.guessed) == (kind, True)


def test_a_projection_to_a_teachers_width_tells_tinybert():
    head = find_head({}, {**CLASSIFIER, "fit_dense.weight": torch.ones(4, 4)})
    assert (head.kind, head.guessed) == ("tinybert", True)


@pytest.mark.parametrize(
    "values", [{}, {"architectures": ["BertForMaskedLM"]}, {"dtype": "float32"}]
)
def test_a_new_classifier_is_tinyberts(values):
    assert find_head(values, {"bert.x": torch.ones(1)}).kind == "tinybert"
    assert not find_head(values).guessed


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": ["BertForTokenClassification"], "classifier_head": "tinybert"},
        {"architectures": ["TFBertForTokenClassification"]},
        {"architectures": ["BertForMultipleChoice"]},
        {"problem_type": "multi_label_classification"},
        {"problem_type": "regression"},
        {"problem_type": "regression", "id2label": {"0": "a", "1": "b"}},
        {"problem_type": "single_label_classification", "num_labels": 1},
    ],
)
def test_a_classifier_of_another_kind_is_refused(values):
    with pytest.raises(UserError):
        check_classifier(values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"architectures": ["BertForMaskedLM"], "problem_type": None},
        {"problem_type": "regression", "num_labels": 1},
        {"problem_type": "regression", "id2label": {"0": "LABEL_0"}},
        {"problem_type": "single_label_classification", "id2label": {"0": "a", "1": "b"}},
        {"problem_type": "../elsewhere"},
    ],
)
def test_a_classifier_of_whole_texts_is_not(values):
    check_classifier(values)


# Loaded


def reconfigure(folder, remove=(), **values):
    path = folder / CONFIG_NAME
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove}
    path.write_text(json.dumps(kept | values))


def said(capsys):
    return capsys.readouterr().err


def test_the_head_is_said_once_and_why(tiny_model_dir, capsys):
    folder = tiny_model_dir("model", TinyBertForSequenceClassification)
    model = read_classifier(folder)
    assert model.config.classifier_head == "tinybert"
    assert said(capsys) == (
        f"{folder}: classifier head tinybert, classifier(relu(pooled)) (config.json names {OURS})\n"
    )


def test_a_guess_is_said_with_the_flag_that_takes_the_other(tiny_model_dir, capsys):
    folder = tiny_model_dir("model", TinyBertForSequenceClassification)
    reconfigure(folder, ["architectures", "classifier_head", "auto_map"])
    assert read_classifier(folder, choose="teacher_head").config.classifier_head == "hf"
    told = said(capsys)
    assert told.count("\n") == 1 and told.startswith(f"note: {folder}: classifier head hf")
    assert "is a guess" in told and "--teacher_head tinybert makes it" in told
    assert read_classifier(folder, head="tinybert").config.classifier_head == "tinybert"
    assert "as asked" in said(capsys)


def test_other_processes_of_torchrun_leave_it_to_the_first(tiny_model_dir, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    read_classifier(tiny_model_dir("model", TinyBertForSequenceClassification))
    assert said(capsys) == ""


def test_a_token_classifier_is_an_encoder_and_no_classifier_of_texts(tiny_model_dir):
    folder = tiny_model_dir("model", TinyBertForSequenceClassification)
    reconfigure(folder, architectures=["BertForTokenClassification"])
    BertModel.from_pretrained(folder)
    load = TinyBertForSequenceClassification.from_pretrained
    with pytest.raises(UserError, match="config.json: .*BertForTokenClassification, which labels"):
        load(folder)
    load(folder, may_init=("classifier.",), drop=("classifier.",))


@pytest.mark.parametrize(
    "config, rows, labels",
    [
        ({}, 3, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({}, 1, ["LABEL_0"]),
        ({"num_labels": 1, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, 1, ["LABEL_0"]),
        ({"num_labels": 2, "id2label": {"0": "a", "1": "b", "2": "c"}}, 3, ["a", "b", "c"]),
        ({"num_labels": 3}, 3, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)  # fmt: skip
def test_the_weights_complete_what_the_config_leaves_open(tiny_model_dir, config, rows, labels):
    names = [str(i) for i in range(rows)]
    folder = tiny_model_dir("model", TinyBertForSequenceClassification, id2label=names)
    reconfigure(folder, ["id2label", "label2id"], **config)
    assert TinyBertForSequenceClassification.from_pretrained(folder).config.id2label == labels


@pytest.mark.parametrize(
    "config", [{"num_labels": 2}, {"num_labels": 3, "id2label": {"0": "a", "1": "b"}}]
)
def test_labels_that_contradict_the_weights_are_refused(tiny_model_dir, config):
    folder = tiny_model_dir("model", TinyBertForSequenceClassification, id2label=["a", "b", "c"])
    reconfigure(folder, ["id2label", "label2id"], **config)
    with pytest.raises(UserError, match="classifier.weight has shape"):
        TinyBertForSequenceClassification.from_pretrained(folder)


def test_dropout_of_the_classifier_is_its_own(tiny_config, tiny_model_dir):
    fields = {"classifier_head": "hf", "classifier_dropout": 0.3, "hidden_dropout_prob": 0.1}
    folder = tiny_model_dir("model", TinyBertForSequenceClassification, **fields)
    assert json.loads((folder / CONFIG_NAME).read_text())["classifier_dropout"] == 0.3
    assert TinyBertForSequenceClassification.from_pretrained(folder).dropout.p == 0.3
    assert "classifier_dropout" not in tiny_config().to_dict()
