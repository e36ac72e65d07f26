"""BERT as tensors: the encoder, its heads, and the two TinyBERT models.

Shapes: B sequences in the batch, L positions, H hidden width, A attention heads, V vocabulary, C classes.
Parameter names are those of Google's and Hugging Face's checkpoints, so that files travel both ways.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.configuration import BertConfig
from transformer.download import find_model_file
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformer.weights import load_weights, read_weights, report_fresh, save_weights

MASKED_SCORE = -10000.0  # added to the attention scores of padding

_ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}


class EncoderOutput(NamedTuple):
    """What a model call returns.

    Attributes:
        output: pooled vector [B, H], logits [B, C], or None where a model has neither.
        attentions: attention scores [B, A, L, L] before the softmax, mask added, one tensor for each
            layer asked for, in the order asked.
        hidden_states: [B, L, H] (or [B, L, fit_size] after `fit_dense`), likewise; index 0 is the
            embedding output, index i the output of layer i.
    """

    output: Tensor | None
    attentions: tuple[Tensor, ...]
    hidden_states: tuple[Tensor, ...]


class BertEmbeddings(nn.Module):
    """Word + position + segment embeddings, LayerNorm, dropout."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[
            : input_ids.shape[1]
        ]  # [L, H], no gather needed
        embedded = (
            self.word_embeddings(input_ids) + positions + self.token_type_embeddings(token_type_ids)
        )
        return self.dropout(self.LayerNorm(embedded))


class BertSelfAttention(nn.Module):
    """Multi-head attention that shows its scores when asked and takes the fused path when not."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context [B, L, H] and the scores [B, A, L, L] or None."""
        batch, length, width = hidden.shape
        query, key, value = (
            linear(hidden).view(batch, length, self.heads, -1).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        if with_scores:
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask.to(
                query.dtype
            )
            context = self.dropout(scores.softmax(dim=-1)) @ value
        else:
            scores = None
            dropout = self.dropout.p if self.training else 0.0
            context = F.scaled_dot_product_attention(
                query, key, value, mask.to(query.dtype), dropout
            )
        return context.transpose(1, 2).reshape(batch, length, width), scores


class BertResidual(nn.Module):
    """Linear, dropout, then LayerNorm of the sum with what went around (post-LN)."""

    def __init__(self, width: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, around: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + around)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertResidual(config.hidden_size, config)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        context, scores = self.self(hidden, mask, with_scores)
        return self.output(context, hidden), scores


class BertIntermediate(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = _ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """One post-LN Transformer layer."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertResidual(config.intermediate_size, config)

    def forward(
        self, hidden: Tensor, mask: Tensor, with_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        attended, scores = self.attention(hidden, mask, with_scores)
        return self.output(self.intermediate(attended), attended), scores


class BertEncoder(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))


class BertPooler(nn.Module):
    """tanh(W · h_[CLS] + b)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden[:, 0]))


class BertPredictionHeadTransform(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = _ACTIVATIONS[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.activation(self.dense(hidden)))


class BertLMPredictionHead(nn.Module):
    """Scores over the vocabulary; the projection is the word-embedding matrix itself."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        return F.linear(self.transform(hidden), word_embeddings, self.bias)


class BertHeads(nn.Module):
    """`cls`: the masked-language-model head, the next-sentence head, or both."""

    def __init__(self, config: BertConfig, predictions: bool, next_sentence: bool):
        super().__init__()
        if predictions:
            self.predictions = BertLMPredictionHead(config)
        if next_sentence:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


class BertPreTrainedModel(nn.Module):
    """Initialisation, loading and saving, shared by every model below."""

    MAY_INIT: tuple[str, ...] = ()  # name prefixes a checkpoint may lack (kept fresh, and said)

    def __init__(self, config: BertConfig):
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
    def from_scratch(cls, config: str | os.PathLike | BertConfig, **settings) -> Self:
        """Build a model with fresh weights from a folder's `config.json` (or a `BertConfig`).

        Args:
            settings: fields of the config to set, such as `fit_size=768`.
        """
        if not isinstance(config, BertConfig):
            config = BertConfig.from_json_file(Path(config) / CONFIG_NAME)
        return cls(_with_settings(config, settings))

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike,
        may_init: Sequence[str] | None = None,
        cache_dir: str | os.PathLike | None = None,
        **settings,
    ) -> Self:
        """Load a model from a folder, a hub name, or an http(s) or s3 address of a folder.

        Args:
            may_init: prefixes of names that the checkpoint may lack, in place of the class's own.
            settings: fields of the config to set, such as `fit_size=768`.

        Returns:
            The model in evaluation mode (no dropout).

        Raises:
            UserError: nothing there, or weights that do not fit (see `weights.load_weights`).
        """
        config_file = find_model_file(name, CONFIG_NAME, cache_dir)
        weights = find_model_file(name, SAFE_WEIGHTS_NAME, cache_dir, required=False)
        if weights is None:
            weights = find_model_file(name, WEIGHTS_NAME, cache_dir)
        state = read_weights(weights)
        if any(key.startswith("fit_denses.") for key in state):
            settings.setdefault("fit_dense", "per_layer")
        config = BertConfig.from_json_file(config_file)
        for key in ("fit_dense.weight", "fit_denses.0.weight"):
            if key in state and config.fit_size is None and "fit_size" not in settings:
                settings["fit_size"] = state[key].shape[0]
        model = cls(_with_settings(config, settings))
        fresh = load_weights(model, state, weights, cls.MAY_INIT if may_init is None else may_init)
        report_fresh(fresh, weights)
        return model.eval()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write `config.json` and `pytorch_model.bin`; the folder loads in `transformers` as it is."""
        save_weights(self.state_dict(), Path(folder) / WEIGHTS_NAME)
        self.config.to_json_file(Path(folder) / CONFIG_NAME, self.architecture())

    def architecture(self) -> str:
        """The class name to record in `config.json`."""
        return type(self).__name__


def _with_settings(config: BertConfig, settings: dict) -> BertConfig:
    return BertConfig(**{**vars(config), **settings})


class BertModel(BertPreTrainedModel):
    """The encoder.

    In checkpoints its names carry the prefix `bert.`, as in every model that contains it.
    """

    MAY_INIT = ("bert.pooler.",)

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_layers: Sequence[int] | None = None,
        hidden_layers: Sequence[int] | None = None,
        pool: bool = True,
    ) -> EncoderOutput:
        """Return the pooled vector [B, H], attention scores and hidden states; see `BertBody`."""
        return self.bert(
            input_ids, token_type_ids, attention_mask, attention_layers, hidden_layers, pool
        )


class BertBody(nn.Module):
    """Embeddings, layers and pooler: the part of every model that stands under `bert.`."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_layers: Sequence[int] | None = None,
        hidden_layers: Sequence[int] | None = None,
        pool: bool = True,
    ) -> EncoderOutput:
        """Run the encoder.

        Args:
            input_ids: int64 [B, L].
            token_type_ids: int64 [B, L], segment 0 or 1; None means all 0.
            attention_mask: [B, L], 1 for tokens and 0 for padding; None means no padding.
            attention_layers: layers (0 … N-1) whose attention scores to return; None means all. Layers
                not named use fused attention, which never holds an L × L matrix.
            hidden_layers: hidden states (0 … N, 0 = embeddings) to return; None means all.
            pool: whether the pooled vector is wanted; if not, layers above the last one asked for
                are not run.
        """
        count = len(self.encoder.layer)
        attention_layers = range(count) if attention_layers is None else attention_layers
        hidden_layers = range(count + 1) if hidden_layers is None else hidden_layers
        depth = count if pool else max([0, *hidden_layers, *(i + 1 for i in attention_layers)])
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = (
            1.0 - attention_mask[:, None, None, :].to(hidden.dtype)
        ) * MASKED_SCORE  # [B, 1, 1, L]
        hidden_states, attentions = {0: hidden}, {}
        for i in range(depth):
            hidden, scores = self.encoder.layer[i](hidden, mask, i in attention_layers)
            hidden_states[i + 1], attentions[i] = hidden, scores
        return EncoderOutput(
            self.pooler(hidden) if pool else None,
            tuple(attentions[i] for i in attention_layers),
            tuple(hidden_states[i] for i in hidden_layers),
        )


class BertForMaskedLM(BertPreTrainedModel):
    """Encoder and masked-language-model head; the head must be in the checkpoint."""

    MAY_INIT = ("bert.pooler.",)

    def __init__(self, config: BertConfig):
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
    ) -> Tensor:
        """Return logits [B, L, V], or [K, V] at `masked_positions` = (rows int64 [K], columns int64 [K]).

        Only the places asked for pass through the vocabulary projection.
        """
        last = len(self.bert.encoder.layer)
        out = self.bert(input_ids, token_type_ids, attention_mask, (), (last,), pool=False)
        hidden = out.hidden_states[0]
        if masked_positions is not None:
            hidden = hidden[masked_positions]
        return self.cls.predictions(hidden, self.bert.embeddings.word_embeddings.weight)


class BertForPreTraining(BertPreTrainedModel):
    """Encoder with both pre-training heads; returns (logits [B, L, V], next-sentence logits [B, 2])."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=True, next_sentence=True)
        self._init_weights()

    def forward(self, input_ids, token_type_ids=None, attention_mask=None) -> tuple[Tensor, Tensor]:
        last = len(self.bert.encoder.layer)
        out = self.bert(input_ids, token_type_ids, attention_mask, (), (last,))
        words = self.cls.predictions(
            out.hidden_states[0], self.bert.embeddings.word_embeddings.weight
        )
        return words, self.cls.seq_relationship(out.output)


class BertForNextSentencePrediction(BertPreTrainedModel):
    """Encoder with the next-sentence head; returns logits [B, 2]."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=False, next_sentence=True)
        self._init_weights()

    def forward(self, input_ids, token_type_ids=None, attention_mask=None) -> Tensor:
        return self.cls.seq_relationship(
            self.bert(input_ids, token_type_ids, attention_mask, (), ()).output
        )


class StudentModel(BertPreTrainedModel):
    """A model whose hidden states can be mapped to a teacher's width by `fit_dense` (W_h of eq. 7)."""

    def _add_projection(self, config: BertConfig) -> None:
        if config.fit_size is None:
            return
        if config.fit_dense == "shared":
            self.fit_dense = nn.Linear(config.hidden_size, config.fit_size)
        else:
            states = config.num_hidden_layers + 1
            self.fit_denses = nn.ModuleList(
                nn.Linear(config.hidden_size, config.fit_size) for _ in range(states)
            )

    def _project(self, out: EncoderOutput, hidden_layers: Sequence[int] | None) -> EncoderOutput:
        if self.config.fit_dense == "shared":
            return out._replace(hidden_states=tuple(self.fit_dense(h) for h in out.hidden_states))
        layers = range(len(self.fit_denses)) if hidden_layers is None else hidden_layers
        projected = (self.fit_denses[i](h) for i, h in zip(layers, out.hidden_states, strict=True))
        return out._replace(hidden_states=tuple(projected))


class TinyBertForPreTraining(StudentModel):
    """The student of general distillation: every hidden state goes through `fit_dense`.

    It carries BERT's two pre-training heads, as the published checkpoints do, though no objective of
    general distillation reads them.
    """

    MAY_INIT = ("cls.", "fit_dense.", "fit_denses.", "bert.pooler.")

    def __init__(self, config: BertConfig):
        if config.fit_size is None:
            config = _with_settings(config, {"fit_size": 768})
        super().__init__(config)
        self.bert = BertBody(config)
        self.cls = BertHeads(config, predictions=True, next_sentence=True)
        self._add_projection(config)
        self._init_weights()

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_layers: Sequence[int] | None = None,
        hidden_layers: Sequence[int] | None = None,
    ) -> EncoderOutput:
        """Return (None, attention scores, hidden states [B, L, fit_size])."""
        out = self.bert(
            input_ids, token_type_ids, attention_mask, attention_layers, hidden_layers, pool=False
        )
        return self._project(out, hidden_layers)


class TinyBertForSequenceClassification(StudentModel):
    """Encoder and classifier: the teacher and the student of task distillation.

    `config.classifier_head` says which head: `"tinybert"` is classifier(relu(pooled)); `"hf"` is
    classifier(dropout(pooled)), the head of `transformers`' BertForSequenceClassification.
    """

    MAY_INIT = ("fit_dense.", "fit_denses.")

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertBody(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self._add_projection(config)
        self._init_weights()

    def architecture(self) -> str:
        return self.config.classifier_architecture

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_layers: Sequence[int] | None = None,
        hidden_layers: Sequence[int] | None = None,
        is_student: bool = False,
    ) -> EncoderOutput:
        """Return (logits [B, C], attention scores, hidden states).

        Args:
            is_student: send the hidden states through `fit_dense`: [B, L, fit_size] instead of [B, L, H].
        """
        out = self.bert(input_ids, token_type_ids, attention_mask, attention_layers, hidden_layers)
        pooled = (
            F.relu(out.output)
            if self.config.classifier_head == "tinybert"
            else self.dropout(out.output)
        )
        out = out._replace(output=self.classifier(pooled))
        return self._project(out, hidden_layers) if is_student else out
