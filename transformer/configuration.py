"""The shape of an encoder of BERT's kind, as read from and written to `config.json`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from files.atomic import atomic_open
from files.errors import UserError
from transformer.head_kind import (
    CLASSIFIER_HEADS,
    TINYBERT_CLASSIFIER,
    class_names,
    find_head,
    not_a_choice,
)

FIT_DENSES = ("shared", "per_layer")

# That class for `transformers`; a copy goes with every model that is one. Not imported here.
MODELING_FILE = Path(__file__).with_name("modeling_tinybert.py")

# And at most: far above any BERT, far below what would exhaust memory by a typing error.
_LARGEST = {
    "vocab_size": 2_000_000,
    "hidden_size": 16_384,
    "num_hidden_layers": 256,
    "num_attention_heads": 256,
    "intermediate_size": 131_072,
    "max_position_embeddings": 65_536,
    "type_vocab_size": 1_024,
    "fit_size": 16_384,
}
_MOST_PARAMETERS = 10**10
# What another program's config.json may ask for that changes what the weights mean, and is not done here.
_ONLY = {"position_embedding_type": "absolute", "is_decoder": False}


class Family(NamedTuple):
    """What sets a family of encoders apart; transformer/names.py has the names of its weights.

    Attributes:
        prefix: of the names of its classes in `transformers`.
        pad_id: token id of padding.
        segments: how many there are at least; 0 for no segment embeddings.
        after_padding: positions are counted from `pad_id` + 1, and padding has the position `pad_id`.
        pooler: whether an encoder without a classifier has a pooler.
        pooler_activation: of the layer between the first token's state and the classifier.
        attention_dropout_out: whether dropout follows the attention's output layer.
        sinusoids: positions are fixed sines and cosines (Vaswani et al., 2017), not learned.
        embedding_norm: whether the embeddings are normalised.
        head_layers: whether a layer lies between the states and the vocabulary or the classes, and a bias is
            added to the vocabulary's scores.
        span_dropout: before the head that finds spans.
        keys: field -> its key in the family's `config.json`, where that is another.
        constants: further keys of that file.
    """

    prefix: str = "Bert"
    pad_id: int = 0
    segments: int = 2
    after_padding: bool = False
    pooler: bool = True
    pooler_activation: str = "tanh"
    attention_dropout_out: bool = True
    sinusoids: bool = False
    embedding_norm: bool = True
    head_layers: bool = True
    span_dropout: float = 0.0
    keys: Mapping[str, str] = {}
    constants: Mapping[str, Any] = {}


_DISTILBERT_KEYS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "classifier_dropout": "seq_classif_dropout",
}
FAMILIES = {
    "bert": Family(),
    "roberta": Family(
        "Roberta",
        pad_id=1,
        segments=1,
        after_padding=True,
        constants={"bos_token_id": 0, "eos_token_id": 2},
    ),
    "distilbert": Family(
        "DistilBert",
        segments=0,
        pooler=False,
        pooler_activation="relu",
        attention_dropout_out=False,
        span_dropout=0.1,
        keys=_DISTILBERT_KEYS,
        constants={"sinusoidal_pos_embds": False, "tie_weights_": True},
    ),
    # The re-implementation that distilbert/ follows; `transformers` has no class for it.
    "distilbert-seed": Family(
        segments=0,
        pooler=False,
        sinusoids=True,
        embedding_norm=False,
        head_layers=False,
        keys=_DISTILBERT_KEYS,
    ),
}


@dataclasses.dataclass
class EncoderConfig:
    """Sizes and settings of an encoder and of the heads on it.

    The first twelve fields carry the names of Google's and Hugging Face's `config.json`; the rest are:

    Attributes:
        classifier_dropout: of the head of `transformers`; None is hidden_dropout_prob.
        classifier_head: `"tinybert"` is `classifier(relu(pooled))`, `"hf"` is `classifier(dropout(pooled))`.
        id2label: class names in logit order, or None for a model without a classifier.
        fit_size: width that `fit_dense` maps hidden states to (the teacher's), or None.
        fit_dense: `"shared"`, one projection for all layers, or `"per_layer"` as in the released
            second-version models (`fit_denses.0` … `fit_denses.N`).
        model_type: a key of `FAMILIES`.
        pad_token_id: token id of padding; None for the family's own.
        length_configs: what the search has found, the full length first, each with its `lengths`, `score`
            and `share` of the whole model's work; None where there was none.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | None = None
    classifier_head: str = "tinybert"
    id2label: list[str] | None = None
    fit_size: int | None = None
    fit_dense: str = "shared"
    model_type: str = "bert"
    pad_token_id: int | None = None
    length_configs: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if self.model_type not in FAMILIES:
            raise not_a_choice("model_type", self.model_type, FAMILIES)
        if self.pad_token_id is None:
            self.pad_token_id = self.family.pad_id
        if self.model_type != "bert":
            self.classifier_head = "hf"
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if name == "fit_size" and value is None:
                continue
            # There is always a second segment to number, where segments are numbered.
            least = self.family.segments or 1 if name == "type_vocab_size" else 1
            if type(value) is not int or not least <= value <= largest:
                raise UserError(
                    f"{name} is {value!r}; expected a whole number from {least} to {largest}"
                )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
            value = getattr(self, name)
            if name == "classifier_dropout" and value is None:
                continue
            if type(value) not in (int, float) or not 0 <= value < 1:
                raise UserError(
                    f"{name} is {value!r}; expected a number from 0 up to, not including, 1"
                )
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < 1:
                raise UserError(f"{name} is {value!r}; expected a number between 0 and 1")
        if type(self.pad_token_id) is not int or not 0 <= self.pad_token_id < self.vocab_size:
            raise UserError(
                f"pad_token_id is {self.pad_token_id!r}; expected a token id below {self.vocab_size}"
            )
        if self.max_length < 1:
            raise UserError(
                f"max_position_embeddings is {self.max_position_embeddings}; expected more than "
                f"pad_token_id {self.pad_token_id} + 1, from which positions are counted"
            )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )
        embeddings = self.vocab_size + self.max_position_embeddings + self.type_vocab_size
        layer = 4 * self.hidden_size + 2 * self.intermediate_size
        parameters = (embeddings + self.num_hidden_layers * layer) * self.hidden_size
        if parameters > _MOST_PARAMETERS:
            raise UserError(
                f"hidden_size {self.hidden_size}, num_hidden_layers {self.num_hidden_layers}, "
                f"intermediate_size {self.intermediate_size} and vocab_size {self.vocab_size} make "
                f"{parameters:,} parameters; expected at most {_MOST_PARAMETERS:,}"
            )
        for name, choices in (
            ("hidden_act", ("gelu", "relu")),
            ("classifier_head", CLASSIFIER_HEADS),
            ("fit_dense", FIT_DENSES),
        ):
            if getattr(self, name) not in (*choices,):
                raise not_a_choice(name, getattr(self, name), choices)

    @property
    def family(self) -> Family:
        """What sets the encoder apart from BERT."""
        return FAMILIES[self.model_type]

    @property
    def max_length(self) -> int:
        """The most tokens of a sequence."""
        before = self.pad_token_id + 1 if self.family.after_padding else 0
        return self.max_position_embeddings - before

    @property
    def num_labels(self) -> int:
        """Width of the classifier; 2 when no labels are recorded, as in the published code."""
        return len(self.id2label) if self.id2label else 2

    @property
    def classifier_architecture(self) -> str:
        """The class to record for a classifier: that of `transformers` where the head is its own."""
        if self.classifier_head == "hf":
            return f"{self.family.prefix}ForSequenceClassification"
        return TINYBERT_CLASSIFIER

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], weights: Mapping[str, Any] | None = None
    ) -> EncoderConfig:
        """Build a config from a parsed `config.json`; keys of other programs are passed over.

        Args:
            weights: those beside it, under canonical names; they show what the file may leave open.

        Raises:
            UserError: a wrong type, an absurd size, heads that do not divide the width, a kind of BERT that
                is computed otherwise.
        """
        for name, value in _ONLY.items():
            if values.get(name, value) != value:
                raise UserError(f"{name} is {values[name]!r}; expected {value!r}")
        family = FAMILIES.get(values.get("model_type", "bert"), Family())
        given = {key: name for name, key in family.keys.items()}
        values = {given.get(key, key): value for key, value in values.items()}
        known = {field.name for field in dataclasses.fields(cls)}
        chosen = {name: value for name, value in values.items() if name in known}
        chosen["id2label"] = class_names(values, _rows(weights, "classifier.weight"))
        chosen["classifier_head"] = find_head(values, weights).kind
        for projection, fit_dense in (
            ("fit_dense.weight", "shared"),
            ("fit_denses.0.weight", "per_layer"),
        ):
            if (width := _rows(weights, projection)) is not None:
                chosen["fit_dense"] = fit_dense
                if chosen.get("fit_size") is None:
                    chosen["fit_size"] = width
        return cls(**chosen)

    @classmethod
    def from_json_file(cls, path: str | os.PathLike) -> EncoderConfig:
        """Read a `config.json`.

        Raises:
            UserError: the file is missing, is not a JSON object, or holds an impossible value.
        """
        try:
            return cls.from_dict(read_config_file(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds, in the form `transformers` reads too."""
        fields = dataclasses.asdict(self)
        first, last = fields.pop("model_type"), fields.pop("pad_token_id")
        values: dict[str, Any] = {"model_type": first, **fields, "pad_token_id": last}
        if self.id2label is None:
            del values["id2label"]
        else:
            values["id2label"] = {str(i): name for i, name in enumerate(self.id2label)}
            values["label2id"] = {name: i for i, name in enumerate(self.id2label)}
        if self.fit_size is None:
            del values["fit_size"], values["fit_dense"]
        for name in ("classifier_dropout", "length_configs"):
            if values[name] is None:
                del values[name]
        if not self.family.segments:
            del values["type_vocab_size"]
        keys = self.family.keys
        return {keys.get(name, name): v for name, v in values.items()} | dict(self.family.constants)

    def to_json_file(self, path: str | os.PathLike, architecture: str) -> None:
        """Write `config.json`, naming the class whose weights stand beside it.

        `transformers` has no classifier with TinyBERT's head; a model that is one gets the class as a
        file beside, which `AutoModelForSequenceClassification` finds by the config's `auto_map`.
        """
        write_config_file(Path(path), {"architectures": [architecture], **self.to_dict()})


BertConfig = EncoderConfig  # the published name


def write_config_file(path: Path, values: dict[str, Any]) -> None:
    """Write a `config.json`, and beside it the class that it names if that is TinyBERT's classifier."""
    values = {name: value for name, value in values.items() if name != "auto_map"}
    if values["architectures"] == [TINYBERT_CLASSIFIER]:
        found = f"{MODELING_FILE.stem}.{TINYBERT_CLASSIFIER}"
        values["auto_map"] = {"AutoModelForSequenceClassification": found}
        with atomic_open(path.with_name(MODELING_FILE.name), "wb") as file:
            file.write(MODELING_FILE.read_bytes())
    with atomic_open(path) as file:
        json.dump(values, file, indent=2)
        file.write("\n")


def read_config_file(path: str | os.PathLike) -> dict[str, Any]:
    """Read the JSON object of a BERT's `config.json`.

    Raises:
        UserError: the file is missing, is not a JSON object, or belongs to another kind of model.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file; expected a BERT config.json") from None
    except (ValueError, RecursionError) as error:  # bytes, syntax, endless digits or nesting
        raise UserError(f"not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError("expected a JSON object with the model's sizes")
    if values.get("model_type", "bert") not in (*FAMILIES,):
        raise not_a_choice("model_type", values["model_type"], FAMILIES)
    return values


def _rows(weights: Mapping[str, Any] | None, name: str) -> int | None:
    """First dimension of a weight, or None if it is not there."""
    shape = weights[name].shape if weights and name in weights else ()
    return shape[0] if shape else None
