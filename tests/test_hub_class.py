"""A classifier with TinyBERT's head, read by `transformers`: the same logits, by the class beside it."""

import json

import pytest
import torch
import transformers
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from corpus.token_store import encode_pairs
from transformer.configuration import MODELING_FILE
from transformer.file_utils import CONFIG_NAME
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer

PAIRS = [
    ("the cat sees a bird", "no bird is here"),
    ("a Good film!", "it was never dull"),
    ("x", "y"),
]
LABELS = ["entailment", "not_entailment", "unclear"]


@pytest.fixture
def classifier(tiny_model_dir, tmp_path, monkeypatch):
    """A function writing a classifier's folder; the class in it is not left in the user's cache."""
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )

    def make(name="student", **fields):
        fields = {"id2label": LABELS, "hidden_dropout_prob": 0.1, **fields}
        folder = tiny_model_dir(name, TinyBertForSequenceClassification, **fields)
        BertTokenizer.from_pretrained(folder).save_pretrained(folder, 32)
        return folder

    return make


def logits_of_ours(folder):
    tokenizer = BertTokenizer.from_pretrained(folder)
    store = encode_pairs(tokenizer, *zip(*PAIRS, strict=True), 24)
    with torch.no_grad():
        return TinyBertForSequenceClassification.from_pretrained(folder)(
            **store.collate(range(len(PAIRS)))
        ).output


def logits_of_theirs(folder, **options):
    """As their users do it: their tokenizer, their model, from text."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    batch = AutoTokenizer.from_pretrained(folder)(
        *map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("labels", [LABELS, ["LABEL_0"]], ids=["classes", "score"])
@pytest.mark.parametrize(
    "fields", [{}, {"fit_size": 30}, {"fit_size": 30, "fit_dense": "per_layer"}]
)
def test_text_gives_the_logits_it_gives_here(classifier, fields, labels):
    folder = classifier(id2label=labels, **fields)
    theirs = logits_of_theirs(folder, trust_remote_code=True)
    assert_close(theirs, logits_of_ours(folder), rtol=0, atol=1e-5)


def test_their_own_class_would_leave_the_relu_out(classifier):
    """Which is why the other one is there."""
    folder = classifier()
    difference = logits_of_theirs(folder) - logits_of_ours(folder)
    assert difference.abs().max() > 1e-2


def test_only_a_classifier_with_our_head_has_the_class_beside_it(classifier, tiny_model_dir):
    ours, theirs = classifier(), classifier("hf", classifier_head="hf")
    general = tiny_model_dir("general", TinyBertForPreTraining)
    assert (ours / MODELING_FILE.name).read_bytes() == MODELING_FILE.read_bytes()
    for folder in (theirs, general):
        assert not (folder / MODELING_FILE.name).exists()
        assert "auto_map" not in json.loads((folder / CONFIG_NAME).read_text())
