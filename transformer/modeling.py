"""The encoder with each of its heads, in every family, and the two TinyBERT models.

Shapes: B sequences in the batch, L positions, H hidden width, V vocabulary, C classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.configuration import EncoderConfig
from transformer.encoder import (
    NOTHING,
    BertBody,
    Collect,
    Dropout,
    EncoderOutput,
    classifier_dropout,
)
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.head_kind import Head
from transformer.heads import BertHeads
from transformer.lengths import LengthConfig
from transformer.linear import Linear
from transformer.loading import CLASSIFIER, Checkpoint, read_checkpoint
from transformer.names import family_names
from transformer.weights import load_weights, report_fresh, save_weights


class BertPreTrainedModel(nn.Module):
    """Initialisation, loading and saving, shared by every model below."""

    MAY_INIT: tuple[str, ...] = ()  # name prefixes a checkpoint may lack (kept fresh, and said)

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config

    def _init_weights(self) -> None:
        """Normal(0, initializer_range) matrices, zero biases, unit LayerNorm, as BERT was trained from."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                nn.init.zeros_(module.bias)

    @classmethod
    def from_scratch(cls, config: str | os.PathLike | EncoderConfig, **settings) -> Self:
        """Build a model with fresh weights from a folder's `config.json` (or an `EncoderConfig`).

        Args:
            settings: fields of the config to set, such as `fit_size=768`.
        """
        if not isinstance(config, EncoderConfig):
            config = EncoderConfig.from_json_file(Path(config) / CONFIG_NAME)
        return cls(_with_settings(config, settings))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        may_init: Sequence[str] | None = None,
        cache_dir: str | os.PathLike | None = None,
        drop: Sequence[str] = (),
        **settings,
    ) -> Self:
        """Load a model from a folder, a hub name, or an http(s) or s3 address of a folder.

        Args:
            may_init: prefixes of names that the checkpoint may lack, in place of the class's own.
            drop: prefixes of names to leave out, as if the checkpoint lacked them.
            settings: fields of the config to set, such as `fit_size=768`.

        Returns:
            The model in evaluation mode (no dropout).

        Raises:
            UserError: nothing there, or weights that do not fit (see `weights.load_weights`).
        """
        checkpoint = read_checkpoint(name, cache_dir, drop)
        return cls._from_checkpoint(checkpoint, may_init, settings)

    @classmethod
    def _from_checkpoint(
        cls, checkpoint: Checkpoint, may_init: Sequence[str] | None, settings: dict
    ) -> Self:
        model = cls(_with_settings(checkpoint.config(), settings))
        may_init = cls.MAY_INIT if may_init is None else may_init
        fresh = load_weights(model, checkpoint.state, checkpoint.weights, may_init)
        report_fresh(fresh, checkpoint.weights, checkpoint.left_out)
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write `config.json` and `pytorch_model.bin`; the folder loads in `transformers` as it is."""
        save_weights(self.weights(), Path(folder) / WEIGHTS_NAME)
        self.config.to_json_file(Path(folder) / CONFIG_NAME, self.architecture())

    def weights(self) -> dict[str, Tensor]:
        """The state dict under the names of the model's family, as checkpoints have them."""
        return family_names(self.state_dict(), self.config.model_type)

    def architecture(self) -> str:
        """The class name to record in `config.json`."""
        return type(self).__name__.replace("Bert", self.config.family.prefix, 1)


def _with_settings(config: EncoderConfig, settings: dict) -> EncoderConfig:
    return EncoderConfig(**{**vars(config), **settings})


class BertModel(BertPreTrainedModel):
    """The encoder.

    In checkpoints its names carry the prefix `bert.`, as in every model that contains it.
    """

    MAY_INIT = ("bert.pooler.",)

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        collect: Collect = NOTHING,
        pool: bool = True,
    ) -> EncoderOutput:
        """Return the pooled vector [B, H], and what is collected; see `BertBody`."""
        return self.bert(input_ids, token_type_ids, attention_mask, collect, pool)


class BertForMaskedLM(BertPreTrainedModel):
    """Encoder and masked-language-model head; the head must be in the checkpoint."""

    MAY_INIT = ("bert.pooler.",)

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=True, next_sentence=False)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        masked_positions: tuple[Tensor, Tensor] | None = None,
        columns: Tensor | None = None,
        collect: Collect = NOTHING,
        project: bool = True,
    ) -> EncoderOutput:
        """Return logits [B, L, V], or [K, V] at `masked_positions` = (rows int64 [K], columns int64 [K]).

        Only the positions asked for pass through the vocabulary projection. Where it is one position of
        each sequence, `columns` (int64 [B]) names them instead: the last layer then leaves the others
        out, too, and the logits are [B, V]. Without `project` the output is `WordStates`, from which a loss
        computes as many of them at once as it likes.
        """
        last = len(self.bert.encoder.layer)
        wanted = collect._replace(hidden=(*collect.hidden, last))
        out = self.bert(
            input_ids, token_type_ids, attention_mask, wanted, pool=False, columns=columns
        )
        *collected, hidden = out.hidden
        if columns is not None:
            hidden = hidden[:, 0]
        if masked_positions is not None:
            hidden = hidden[masked_positions]
        words = self.cls.predictions(hidden, self.bert.embeddings.word_embeddings.weight)
        output = words.scores() if project else words
        return out._replace(output=output, hidden=tuple(collected))


class BertForPreTraining(BertPreTrainedModel):
    """Encoder with both pre-training heads; returns (logits [B, L, V], next-sentence logits [B, 2])."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=True, next_sentence=True)
        self._init_weights()

    def forward(self, input_ids, token_type_ids=None, attention_mask=None) -> tuple[Tensor, Tensor]:
        last = len(self.bert.encoder.layer)
        out = self.bert(input_ids, token_type_ids, attention_mask, Collect(hidden=(last,)))
        words = self.cls.predictions(out.hidden[0], self.bert.embeddings.word_embeddings.weight)
        return words.scores(), self.cls.seq_relationship(out.output)


class BertForNextSentencePrediction(BertPreTrainedModel):
    """Encoder with the next-sentence head; returns logits [B, 2]."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=False, next_sentence=True)
        self._init_weights()

    def forward(self, input_ids, token_type_ids=None, attention_mask=None) -> Tensor:
        return self.cls.seq_relationship(
            self.bert(input_ids, token_type_ids, attention_mask).output
        )


class StudentModel(BertPreTrainedModel):
    """A model whose hidden states can be mapped to a teacher's width by `fit_dense` (the paper's W_h)."""

    def _add_projection(self, config: EncoderConfig) -> None:
        if config.fit_size is None:
            return
        if config.fit_dense == "shared":
            self.fit_dense = Linear(config.hidden_size, config.fit_size)
        else:
            states = config.num_hidden_layers + 1
            self.fit_denses = nn.ModuleList(
                Linear(config.hidden_size, config.fit_size) for _ in range(states)
            )

    def _project(self, out: EncoderOutput, states: Sequence[int]) -> EncoderOutput:
        """Map hidden states, those of the named layers, to the teacher's width."""
        if self.config.fit_dense == "shared":
            return out._replace(hidden=tuple(self.fit_dense(h) for h in out.hidden))
        projected = (self.fit_denses[i](h) for i, h in zip(states, out.hidden, strict=True))
        return out._replace(hidden=tuple(projected))


class TinyBertForPreTraining(StudentModel):
    """The student of general distillation: every hidden state goes through `fit_dense`.

    It carries BERT's two pre-training heads, as the published checkpoints do, though no objective of
    general distillation reads them.
    """

    MAY_INIT = ("cls.", "fit_dense.", "fit_denses.", "bert.pooler.")

    def __init__(self, config: EncoderConfig):
        if config.fit_size is None:
            config = _with_settings(config, {"fit_size": 768})
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=True, next_sentence=config.model_type == "bert")
        self._add_projection(config)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        collect: Collect = NOTHING,
    ) -> EncoderOutput:
        """Return what is collected, hidden states as [B, L, fit_size]; there is no output."""
        out = self.bert(input_ids, token_type_ids, attention_mask, collect, pool=False)
        return self._project(out, collect.hidden)

    def architecture(self) -> str:
        if self.config.model_type == "bert":
            return type(self).__name__
        return f"{self.config.family.prefix}ForMaskedLM"


class TinyBertForSequenceClassification(StudentModel):
    """Encoder and classifier: the teacher and the student of task distillation.

    `config.classifier_head` says which head: `"tinybert"` is classifier(relu(pooled)); `"hf"` is
    classifier(dropout(pooled)), the head of `transformers`' BertForSequenceClassification. `head` says of
    a model that was loaded how that is known.
    """

    MAY_INIT = ("fit_dense.", "fit_denses.")

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.head = Head(config.classifier_head, "it is a new one")
        self.bert = BertBody(config, classifies=True)
        self.dropout = Dropout(classifier_dropout(config))
        self.classifier = Linear(config.hidden_size, config.num_labels)
        self._add_projection(config)
        self._init_weights()

    @classmethod
    def _from_checkpoint(
        cls, checkpoint: Checkpoint, may_init: Sequence[str] | None, settings: dict
    ) -> Self:
        """See `from_pretrained`, which takes two more settings here.

        classifier_head: None is that of the file. labels: names of the classes of a new classifier,
        where the file has none.
        """
        head, settings = checkpoint.head(), dict(settings)
        labels, asked = settings.pop("labels", None), settings.pop("classifier_head", None)
        if asked is not None:
            settings["classifier_head"] = asked
            told = f"as asked; {head.reason}" if asked != head.kind else "as asked"
            head = Head(asked, told)
        if CLASSIFIER[0] not in checkpoint.state and labels is not None:
            settings.setdefault("id2label", list(labels))
        if not any(name.startswith(("fit_dense.", "fit_denses.")) for name in checkpoint.state):
            settings.setdefault("fit_size", None)  # what saved it last left the projection out
        if asked is None:
            checkpoint.check_classifier()
        model = super()._from_checkpoint(checkpoint, may_init, settings)
        model.head = head
        return model

    def architecture(self) -> str:
        return self.config.classifier_architecture

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        collect: Collect = NOTHING,
        is_student: bool = False,
        lengths: LengthConfig | None = None,
    ) -> EncoderOutput:
        """Return logits [B, C], and what is collected.

        Args:
            is_student: send the hidden states through `fit_dense`: [B, L, fit_size] instead of [B, L, H].
            lengths: how many tokens each layer passes on; [CLS] is always among them.
        """
        if lengths is not None:
            lengths = LengthConfig(*lengths)._replace(keep_first=True)
        out = self.bert(input_ids, token_type_ids, attention_mask, collect, lengths=lengths)
        pooled = (
            F.relu(out.output)
            if self.config.classifier_head == "tinybert"
            else self.dropout(out.output)
        )
        out = out._replace(output=self.classifier(pooled))
        return self._project(out, collect.hidden) if is_student else out


class BertForQuestionAnswering(StudentModel):
    """Encoder and span head: scores of each token as the first and as the last one of an answer."""

    MAY_INIT = ("fit_dense.", "fit_denses.")

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.bert.pooler = None  # nothing reads it
        self.dropout = Dropout(config.family.span_dropout)
        self.qa_outputs = Linear(config.hidden_size, 2)
        self._add_projection(config)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        collect: Collect = NOTHING,
        is_student: bool = False,
        lengths: LengthConfig | None = None,
    ) -> EncoderOutput:
        """Return the scores [B, L, 2], and what is collected.

        Args:
            is_student: send the hidden states through `fit_dense`: [B, L, fit_size] instead of [B, L, H].
            lengths: how many tokens each layer passes on.
        """
        collect = Collect(*collect)  # of which tracing makes a plain tuple
        last = len(self.bert.encoder.layer)
        wanted = collect._replace(hidden=(*collect.hidden, last))
        out = self.bert(
            input_ids, token_type_ids, attention_mask, wanted, pool=False, lengths=lengths
        )
        *collected, hidden = out.hidden
        out = out._replace(output=self.qa_outputs(self.dropout(hidden)), hidden=tuple(collected))
        return self._project(out, collect.hidden) if is_student else out
