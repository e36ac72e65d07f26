"""Which head a classifier has: TinyBERT's, or that of `transformers`. It is decided here alone.

And the names of its classes, which programs write in several ways.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from files.errors import UserError

_MOST_LABELS = 10_000

CLASSIFIER_HEADS = {
    "tinybert": "classifier(relu(pooled))",
    "hf": "classifier(dropout(pooled))",
}
TINYBERT_CLASSIFIER = "TinyBertForSequenceClassification"
# The classes whose head is known; `transformers` names them for torch, TensorFlow and Flax.
_CLASSIFIERS = {
    TINYBERT_CLASSIFIER: "tinybert",
    "BertForSequenceClassification": "hf",
    "TFBertForSequenceClassification": "hf",
    "FlaxBertForSequenceClassification": "hf",
    "RobertaForSequenceClassification": "hf",
    "DistilBertForSequenceClassification": "hf",
}
# Their `classifier` goes by the same name and reads something else.
_OTHER_CLASSIFIERS = {
    "BertForTokenClassification": "labels every token",
    "BertForMultipleChoice": "scores choices against each other",
}
# What pytorch-transformers and `transformers` write into every config.json, and the published TinyBERT code.
_THEIR_KEYS = ("transformers_version", "finetuning_task", "pruned_heads", "torchscript")
_THEIR_KEYS += ("output_attentions", "torch_dtype", "dtype")
_TINYBERT_KEYS = ("emb_size", "structure", "pre_trained", "cell")


class Head(NamedTuple):
    """Which head a classifier has, how that is known, and whether it had to be guessed."""

    kind: str
    reason: str
    guessed: bool = False


def find_head(values: Mapping[str, Any], weights: Container[str] | None = None) -> Head:
    """Decide which head a classifier has; nothing else does.

    The class that wrote the file last is in `architectures`. `transformers` keeps keys that it does not
    know, so `classifier_head` may be older than that.

    Args:
        values: a parsed config.json.
        weights: canonical names of the weights beside it; None if there are none, or are not known.

    Raises:
        UserError: `classifier_head` is not one of the two.
    """
    if (family := values.get("model_type", "bert")) != "bert":
        return Head("hf", f"config.json says {family}, which has one kind alone")
    recorded = values.get("classifier_head")
    if "classifier_head" in values and recorded not in (*CLASSIFIER_HEADS,):
        raise not_a_choice("classifier_head", recorded, CLASSIFIER_HEADS)
    classes = _architectures(values)
    known = [name for name in classes if name in _CLASSIFIERS]
    kinds = {_CLASSIFIERS[name] for name in known}
    if len(kinds) == 1:
        (kind,) = kinds
        reason = f"config.json names {known[0]}"
        if recorded not in (None, kind):
            reason += f", which wrote it after classifier_head {recorded} had been recorded"
        return Head(kind, reason)
    named = f"config.json names {', '.join(classes) or 'no class'}"
    theirs = [key for key in _THEIR_KEYS if key in values]
    if recorded is not None:
        doubtful = len(kinds) > 1 or bool(theirs and weights and "classifier.weight" in weights)
        return Head(recorded, f"{named} and classifier_head {recorded}", doubtful)
    if weights is None or "classifier.weight" not in weights:
        return Head("tinybert", "it is a new one")
    auto_map = values.get("auto_map")
    if isinstance(auto_map, dict) and TINYBERT_CLASSIFIER in str(auto_map):
        return Head("tinybert", f"{named}, and {TINYBERT_CLASSIFIER} in auto_map", guessed=True)
    if "fit_dense.weight" in weights or "fit_denses.0.weight" in weights:
        return Head("tinybert", f"{named}, and the weights hold TinyBERT's fit_dense", guessed=True)
    if theirs:
        reason = f"{named}, and {theirs[0]} is a key of (pytorch-)transformers"
        return Head("hf", reason, guessed=True)
    ours = [key for key in _TINYBERT_KEYS if key in values]
    if ours:
        return Head("tinybert", f"{named}, and {ours[0]} is a key of TinyBERT's", guessed=True)
    return Head("hf", f"{named}; most classifiers have this head", guessed=True)


def check_classifier(values: Mapping[str, Any]) -> None:
    """Refuse a classifier that does not give one class, or one score, for each text.

    Raises:
        UserError: it was trained to label tokens, to choose, or for several classes at once.
    """
    classes = _architectures(values)
    for name, what in _OTHER_CLASSIFIERS.items():
        found = [given for given in classes if given.endswith(name)]
        if found and not any(given in _CLASSIFIERS for given in classes):
            raise UserError(
                f"its classifier is that of {found[0]}, which {what}; expected one of whole texts, as "
                "BertForSequenceClassification"
            )
    kind, labels = values.get("problem_type"), values.get("id2label") or values.get("num_labels")
    count = labels if type(labels) is int else len(labels) if isinstance(labels, dict | list) else 2
    if kind == "multi_label_classification":
        raise UserError(
            f"problem_type is {kind!r}, several classes for one text; expected one class or one score"
        )
    if (kind == "regression" and count != 1) or (
        kind == "single_label_classification" and count == 1
    ):
        raise UserError(f"problem_type is {kind!r}, and the number of labels is {count}")


def _architectures(values: Mapping[str, Any]) -> list[str]:
    given = values.get("architectures") or []
    given = given if isinstance(given, list) else [given]
    return [name for name in given if isinstance(name, str)]


def not_a_choice(name: str, value: Any, choices: Iterable[str]) -> UserError:
    """The error of a field whose value is not among those it may have."""
    expected = " or ".join(repr(choice) for choice in choices)
    return UserError(f"{name} is {value!r}; expected {expected}")


def class_names(values: Mapping[str, Any], rows: int | None) -> list[str] | None:
    """Class names in logit order, or None; `rows` is the number of outputs, where it is known.

    Where id2label does not fit the weights but num_labels does, the names were never set: old versions of
    `transformers` wrote their default of two beside any num_labels. What does not fit either way stays,
    for the weights to be refused.
    """
    names, count = values.get("id2label"), values.get("num_labels")
    names = None if names is None else _label_list(names)
    if count is not None and (type(count) is not int or not 1 <= count <= _MOST_LABELS):
        raise UserError(f"num_labels is {count!r}; expected a whole number from 1")
    if names is None and count is None and rows != 2:
        count = rows
    unnamed = names is None or names == _unnamed(len(names))
    if count is not None and unnamed and (names is None or (count == rows != len(names))):
        return _unnamed(count)
    return names


def _unnamed(count: int) -> list[str]:
    return [f"LABEL_{i}" for i in range(count)]


def _label_list(id2label: Any) -> list[str]:
    """Turn `{"0": "a", "1": "b"}` into `["a", "b"]`, checking that the ids are 0 … n-1."""
    if isinstance(id2label, list):
        id2label = {str(i): name for i, name in enumerate(id2label)}
    if not isinstance(id2label, dict) or not 1 <= len(id2label) <= _MOST_LABELS:
        raise UserError('id2label is not an object like {"0": "negative", "1": "positive"}')
    names = []
    for i in range(len(id2label)):
        name = id2label.get(str(i), id2label.get(i))
        if not isinstance(name, str):
            raise UserError(
                f"id2label has no name for class {i}; expected ids 0 to {len(id2label) - 1}"
            )
        # They become columns of predict.py's answers.
        if "\t" in name or name.splitlines() not in ([], [name]):
            raise UserError(f"id2label has a tab or a line break in the name of class {i}")
        names.append(name)
    return names
