"""The same jobs done plainly: loops on `transformers`, fp32, eager attention, padded to full length.

    python -m benchmarks.reference TEACHER STUDENT BATCH LENGTH

takes two steps of layer distillation, for its memory to be measured from outside; the models are folders
with a config.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.configuration import BertConfig

Batch = dict[str, Tensor]


def their_config(config: BertConfig):
    """The same shape for `transformers`, with eager attention."""
    import transformers  # the environment of the programs lacks it; that of tests and benchmarks has it

    known = set(transformers.BertConfig().to_dict())
    values = {name: value for name, value in asdict(config).items() if name in known and value}
    values.pop("id2label", None)
    return transformers.BertConfig(**values, attn_implementation="eager")


def padded(batch: Batch, length: int) -> Batch:
    """The model's inputs, padded to `length`."""
    names = ("input_ids", "token_type_ids", "attention_mask")
    return {name: F.pad(batch[name], (0, length - batch[name].shape[1])) for name in names}


class LayerDistillation:
    """A student of `transformers` learns a teacher's hidden states and attention; AdamW."""

    def __init__(self, student: BertConfig, teacher: BertConfig, device: torch.device) -> None:
        import transformers

        options = {"add_pooling_layer": False}
        self.teacher = transformers.BertModel(their_config(teacher), **options).to(device).eval()
        self.student = transformers.BertModel(their_config(student), **options).to(device).train()
        self.fit_dense = nn.Linear(student.hidden_size, teacher.hidden_size).to(device)
        parameters = [*self.student.parameters(), *self.fit_dense.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=5e-5)
        self.every = teacher.num_hidden_layers // student.num_hidden_layers
        self.device = device

    def step(self, batch: Batch, length: int) -> None:
        """One optimiser step on a batch padded to `length`."""
        inputs = {k: v.to(self.device) for k, v in padded(batch, length).items()}
        everything = {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            teacher = self.teacher(**inputs, **everything)
        student = self.student(**inputs, **everything)
        loss = sum(
            F.mse_loss(self.fit_dense(ours), theirs)
            for ours, theirs in zip(
                student.hidden_states, teacher.hidden_states[:: self.every], strict=True
            )
        ) + sum(
            F.mse_loss(ours, theirs)
            for ours, theirs in zip(
                student.attentions, teacher.attentions[self.every - 1 :: self.every], strict=True
            )
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class WordDistillation:
    """A DistilBERT of `transformers` learns masked words, a teacher's logits and last hidden states; AdamW.

    Logits of all positions are computed, and those that count are picked out of them.
    """

    def __init__(self, student: BertConfig, teacher: BertConfig, device: torch.device) -> None:
        import transformers

        config = transformers.DistilBertConfig(
            vocab_size=student.vocab_size, dim=student.hidden_size, n_layers=student.num_hidden_layers,
            n_heads=student.num_attention_heads, hidden_dim=student.intermediate_size,
            max_position_embeddings=student.max_position_embeddings,
        )  # fmt: skip
        theirs = their_config(teacher)
        theirs._attn_implementation = "sdpa"
        self.teacher = transformers.BertForMaskedLM(theirs).to(device).eval()
        self.student = transformers.DistilBertForMaskedLM(config).to(device).train()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=5e-5)
        self.device = device

    def step(self, batch: Batch, length: int) -> None:
        """One optimiser step on a `CountedBatches` batch padded to `length`."""
        batch = {name: value.to(self.device) for name, value in batch.items()}
        ids, mask = (padded(batch, length)[name] for name in ("input_ids", "attention_mask"))
        places = batch["counted_rows"], batch["counted_columns"]
        labels = torch.full_like(ids, -100)
        count = len(batch["masked_labels"])
        labels[places[0][:count], places[1][:count]] = batch["masked_labels"]
        inputs = {"input_ids": ids, "attention_mask": mask, "output_hidden_states": True}
        with torch.no_grad():
            teacher = self.teacher(**inputs)
        student = self.student(**inputs)
        soft = F.kl_div(
            F.log_softmax(student.logits[places] / 2, -1),
            F.softmax(teacher.logits[places] / 2, -1),
            reduction="batchmean",
        )
        words = F.cross_entropy(student.logits.flatten(0, 1), labels.flatten())
        states = student.hidden_states[-1][places], teacher.hidden_states[-1][places]
        cosine = 1 - F.cosine_similarity(*states, dim=-1).mean()
        self.optimizer.zero_grad()
        (5 * 4 * soft + 2 * words + cosine).backward()
        self.optimizer.step()


class PredictionDistillation:
    """A classifier of `transformers` learns a teacher's logits; the teacher runs in every epoch; AdamW."""

    def __init__(self, student: BertConfig, teacher: BertConfig, device: torch.device) -> None:
        import transformers

        kind = transformers.BertForSequenceClassification
        self.teacher = kind(their_config(teacher)).to(device).eval()
        self.student = kind(their_config(student)).to(device).train()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=5e-5)
        self.device = device

    def step(self, batch: Batch, length: int) -> None:
        """One optimiser step on a batch padded to `length`."""
        inputs = {k: v.to(self.device) for k, v in padded(batch, length).items()}
        with torch.no_grad():
            targets = self.teacher(**inputs).logits.softmax(-1)
        loss = F.cross_entropy(self.student(**inputs).logits, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Classifier:
    """A classifier of `transformers`, over rows in the order of the file."""

    def __init__(self, config: BertConfig, device: torch.device) -> None:
        import transformers

        model = transformers.BertForSequenceClassification(their_config(config))
        self.model, self.device = model.to(device).eval(), device

    def evaluate(self, batches: Sequence[Batch], length: int) -> Tensor:
        """Classes of all rows, every batch padded to `length`."""
        classes = []
        with torch.no_grad():
            for batch in batches:
                inputs = {k: v.to(self.device) for k, v in padded(batch, length).items()}
                classes.append(self.model(**inputs).logits.argmax(-1).cpu())
        return torch.cat(classes)


class MaskedLanguageModel:
    """One masked word at a time, scores for the whole sequence, as the published augmentation does."""

    def __init__(self, config: BertConfig, device: torch.device) -> None:
        import transformers

        model = transformers.BertForMaskedLM(their_config(config))
        self.model, self.device = model.to(device).eval(), device

    def likeliest(
        self, input_ids: Tensor, token_type_ids: Tensor, place: int, count: int
    ) -> Tensor:
        """The `count` likeliest tokens at a place of one sequence, int64 [1, L] inputs."""
        with torch.no_grad():
            inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids}
            logits = self.model(**{k: v.to(self.device) for k, v in inputs.items()}).logits
            return logits[0, place].topk(count).indices.cpu()


def main() -> None:
    """Two steps of a plain loop, for its memory: LOOP TEACHER STUDENT BATCH LENGTH."""
    kind, teacher, student, batch, length = sys.argv[1:]
    configs = (BertConfig.from_json_file(f"{folder}/config.json") for folder in (student, teacher))
    loop = {"layers": LayerDistillation, "words": WordDistillation}[kind](
        *configs, torch.device("cpu")
    )
    ids = torch.randint(5, loop.student.config.vocab_size, (int(batch), int(length)))
    rows = {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": ids * 0 + 1}
    places = rows["attention_mask"].nonzero(as_tuple=True)
    rows |= dict(zip(("counted_rows", "counted_columns"), places, strict=True))
    rows["masked_labels"] = ids.flatten()[: max(1, ids.numel() // 7)]
    for _ in range(2):
        loop.step(rows, int(length))


if __name__ == "__main__":
    main()
