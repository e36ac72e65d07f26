"""Forward passes and losses of the example: by our code, and again by the paper's formulas in plain loops."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from corpus.epochs import open_epoch
from demo.walkthrough.page import TOLERANCE, agreed, number, table
from demo.walkthrough.run import DemoRun
from distillation.global_batches import Batch
from distillation.mapping import LayerMapping, layer_mapping
from distillation.objective import Setup
from distillation.objectives import make_objectives
from tasks.classifiers import load_classifier
from transformer.encoder import Collect, EncoderOutput
from transformer.modeling import (
    BertPreTrainedModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)

HEAD, ASKING, ASKED = 0, 1, 2  # the attention score that is computed again from its layer's weights
_SHOWN = 4
Value = tuple[str, float, float]  # what is compared, by code, by formula


# The published losses of layers, each with weight 1.
LAYER_WEIGHTS = {"att_mse": 1.0, "emb_mse": 1.0, "hidden_mse": 1.0}


def plain_mse(student: Tensor, teacher: Tensor) -> float:
    """The mean of the squared differences of all entries."""
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    return sum((s - t) ** 2 for s, t in pairs) / student.numel()


def plain_attention(student: Tensor, teacher: Tensor) -> float:
    """The attention loss, masked scores, which are about -10000, counting as 0."""
    unmasked = [torch.where(scores < -100, 0.0, scores) for scores in (student, teacher)]
    heads = student.shape[1]
    return sum(plain_mse(*(scores[:, h] for scores in unmasked)) for h in range(heads)) / heads


def plain_hidden(student: Tensor, teacher: Tensor, weight: Tensor, bias: Tensor) -> float:
    """The hidden-state loss of a student's state as the encoder gave it; the projection is written out."""
    return plain_mse(student.double() @ weight.double().T + bias.double(), teacher)


def plain_cross_entropy(student: list[float], teacher: list[float], t: float) -> float:
    """The prediction loss, its mean over the classes, for the logits of one row."""
    target, own = ([math.exp(z / t) for z in logits] for logits in (teacher, student))
    terms = (p / sum(target) * math.log(q / sum(own)) for p, q in zip(target, own, strict=True))
    return -sum(terms) / len(teacher)


def all_layers(model: BertPreTrainedModel, batch: Batch) -> EncoderOutput:
    """Every attention and hidden state as the encoder gives them, without a projection."""
    with torch.no_grad():
        return model.bert(**batch, collect=Collect.everything(depth_of(model)))


def depth_of(model: BertPreTrainedModel) -> int:
    return model.config.num_hidden_layers


def layer_values(
    student: BertPreTrainedModel,
    teacher: BertPreTrainedModel,
    mapping: LayerMapping,
    batch: Batch,
    **options: bool,
) -> list[Value]:
    """Each layer loss of a batch by our code and by the formula, their sum last.

    Args:
        options: of the student's forward: `is_student=True` for a classifier.
    """
    asked = teacher if options else partial(teacher, pool=False)
    with torch.no_grad():
        objectives = make_objectives(LAYER_WEIGHTS, Setup(mapping=mapping))
        losses = objectives.attach(asked, **options)(student, batch)
    ours, theirs = all_layers(student, batch), all_layers(teacher, batch)
    step = depth_of(teacher) // depth_of(student)
    values: list[Value] = []
    for m, by_code in enumerate(losses.by_layer["attention_loss"].tolist(), 1):
        # g(m) = m · M/N of the uniform mapping; attention is counted from 0.
        plain = plain_attention(ours.scores[m - 1], theirs.scores[m * step - 1])
        values.append((f"attention, layer {m} and {m * step}", by_code, plain))
    for m, by_code in enumerate(losses.by_layer["hidden_loss"].tolist()):
        projection = student.fit_dense.weight, student.fit_dense.bias
        plain = plain_hidden(ours.hidden[m], theirs.hidden[m * step], *projection)
        name = f"hidden state, layer {m} and {m * step}" if m else "embeddings"
        values.append((name, by_code, plain))
    total = sum(loss.item() for loss in losses.named.values())
    return [*values, ("sum", total, sum(plain for *_, plain in values))]


def general_facts(run: DemoRun, row: int) -> dict[str, str]:
    """Forward passes, mapping and losses of a sequence of the corpus, beside a shorter one."""
    store = open_epoch(run.folder / "data/json_wiki", 0, run.tokenizer).store
    shorter = np.flatnonzero(store.lengths < store.lengths[row])
    other = int(shorter[0]) if len(shorter) else (row + 1) % len(store)
    batch = store.collate(np.array([row, other]))
    teacher = run.bert
    student = TinyBertForPreTraining.from_pretrained(run.stages["general"])
    record = run.record("general")
    mapping = layer_mapping(record["arguments"]["layer_map"], depth_of(student), depth_of(teacher))
    noted = {kind: [tuple(pair) for pair in pairs] for kind, pairs in record["mapping"].items()}
    if noted != {kind: list(pairs) for kind, pairs in mapping._asdict().items()}:
        raise ArithmeticError(f"run.json: {noted}, but the code maps {mapping}")
    theirs, ours = all_layers(teacher, batch), all_layers(student, batch)
    with torch.no_grad():
        projected = student(**batch, collect=Collect.everything(depth_of(student))).hidden
    layer = mapping.attention[0]
    values = layer_values(student, teacher, mapping, batch)
    return {
        "general_command": run.command("general-4l", "general_distill.py"),
        "other_row": str(other),
        "padding": str(int((batch["attention_mask"] == 0).sum())),
        "shapes": table(
            ("tensor", "teacher", "student"),
            (
                ("input_ids, token_type_ids, attention_mask", *[shape(batch["input_ids"])] * 2),
                ("hidden states", *(several(out.hidden) for out in (theirs, ours))),
                ("hidden states after `fit_dense`", "–", several(projected)),
                ("attention scores", *(several(out.scores) for out in (theirs, ours))),
            ),
        ),
        "numbers": table(
            ("of the first sequence", "teacher", "student"),
            (
                (
                    "embedding output of [CLS]",
                    some(theirs.hidden[0]),
                    some(ours.hidden[0]),
                ),
                ("the same after `fit_dense`", "–", some(projected[0])),
                (
                    f"attention scores of [CLS], head 1, layer {layer[1] + 1} and {layer[0] + 1}",
                    some(theirs.scores[layer[1]][:, HEAD]),
                    some(ours.scores[layer[0]][:, HEAD]),
                ),
            ),
        ),
        "masked_scores": f"{theirs.scores[0][1, HEAD, 0, -1].item():.1f}",
        **score_facts(run, batch, theirs),
        "mapping": mapping.table(),
        "general_values": table(
            ("loss", "our code", "formula"),
            ((name, *agreed(name, *both)) for name, *both in values),
        ),
    }


def score_facts(run: DemoRun, batch: Batch, out: EncoderOutput) -> dict[str, str]:
    """One attention score of the teacher's first layer from its weights."""
    attention = run.bert.bert.encoder.layer[0].attention.self
    hidden = out.hidden[0][0].double()  # [L, H]
    width = hidden.shape[1] // attention.heads
    part = slice(HEAD * width, (HEAD + 1) * width)
    query, key = (
        linear.weight[part].double() @ hidden[place] + linear.bias[part].double()
        for linear, place in ((attention.query, ASKING), (attention.key, ASKED))
    )
    plain = sum(q * k for q, k in zip(query.tolist(), key.tolist(), strict=True))
    plain /= math.sqrt(width)
    by_code = out.scores[0][0, HEAD, ASKING, ASKED].item()
    code, formula = agreed("attention score", by_code, plain, absolute=TOLERANCE)
    ids = batch["input_ids"][0]
    return {
        "asking": run.tokenizer.ids_to_tokens[ids[ASKING]],
        "asked": run.tokenizer.ids_to_tokens[ids[ASKED]],
        "width": str(width),
        "score_code": code,
        "score_formula": formula,
    }


def task_facts(run: DemoRun) -> dict[str, str]:
    """Both stages of task distillation on the training row that is followed."""
    example = run.example
    batch = example.collate(np.array([0]))
    teacher = load_classifier(run.task, run.stages["teacher"], ())
    before, after, final = (
        load_student(run, name) for name in ("general", "layers", "predictions")
    )
    mapping = layer_mapping(
        run.record("layers")["arguments"]["layer_map"], depth_of(after), depth_of(teacher)
    )
    at_first, at_last = (
        layer_values(student, teacher, mapping, batch, is_student=True)
        for student in (before, after)
    )
    ids = batch["input_ids"][0].tolist()
    return {
        "task": run.task.folder,
        "task_row": str(run.row),
        "task_texts": "\n".join(run.texts(run.row)),
        "task_label": run.label(int(run.train.labels[run.row])),
        "task_tokens": " ".join(run.tokenizer.ids_to_tokens[i] for i in ids),
        "task_boundary": str(example.boundaries[0]),
        "teacher_command": run.command(f"teachers-{run.task.key}", run.record("layers")["teacher"]),
        "layers_command": run.command(f"task_4l-{run.task.key}", output_dir(run, "layers")),
        "layer_values": table(
            ("loss", "before", "after: our code", "after: formula"),
            (
                (name, number(first), *agreed(name, *both))
                for (name, *both), (_, first, _) in zip(at_last, at_first, strict=True)
            ),
        ),
        **prediction_facts(run, batch, teacher, {"stage 1": after, "stage 2": final}),
    }


def output_dir(run: DemoRun, stage: str) -> str:
    """A stage's output folder as its command names it."""
    return str(run.record(stage)["arguments"]["output_dir"])


def load_student(run: DemoRun, stage: str) -> TinyBertForSequenceClassification:
    """The student after a stage; after general distillation it gets the classifier it lacks."""
    fresh = ("classifier.", "bert.pooler.") if stage == "general" else ()
    return load_classifier(run.task, run.stages[stage], fresh)


def prediction_facts(
    run: DemoRun,
    batch: Batch,
    teacher: TinyBertForSequenceClassification,
    students: dict[str, TinyBertForSequenceClassification],
) -> dict[str, str]:
    """Logits, probabilities and prediction loss of the example; the teacher against itself is the floor."""
    temperature = run.record("predictions")["arguments"]["temperature"]
    losses = make_objectives({"soft_ce": 1.0}, Setup(temperature=temperature)).attach(teacher)
    with torch.no_grad():
        target = teacher(**batch).output[0].tolist()
    rows = []
    for name, model in {"the teacher itself": teacher, **students}.items():
        with torch.no_grad():
            logits = model(**batch).output[0]
            by_code = losses(model, batch).named["prediction_loss"].item()
        plain = plain_cross_entropy(logits.tolist(), target, temperature)
        odds = ", ".join(f"{p:.3f}" for p in logits.softmax(0).tolist())
        rows.append((name, some(logits[None, None]), odds, *agreed(name, by_code, plain)))
    return {
        "predictions_command": run.command(
            f"task_4l-{run.task.key}", "--pred_distill", output_dir(run, "predictions")
        ),
        "classes": ", ".join(run.label(i) for i in range(len(target))),
        "temperature": f"{temperature:g}",
        "prediction_values": table(
            ("", "logits", "probabilities", "loss: our code", "formula"), rows
        ),
    }


def shape(tensor: Tensor) -> str:
    return str([*tensor.shape])


def several(tensors: tuple[Tensor, ...]) -> str:
    return f"{len(tensors)} of {shape(tensors[0])}"


def some(tensor: Tensor) -> str:
    """The first numbers at the first place of the first row."""
    values = tensor[0, 0, :_SHOWN].tolist()
    return ", ".join(f"{v:.3f}" for v in values) + (" …" if tensor.shape[-1] > _SHOWN else "")
