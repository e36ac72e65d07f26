"""What training wrote down, what the dev set says, and the student's answers to two lines of text."""

from __future__ import annotations

import json
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import torch

import predict
from demo.walkthrough.page import agreed, number, table
from demo.walkthrough.run import DemoRun
from distillation.global_batches import Batch
from files.errors import UserError
from tasks.task import dev_splits, read_split
from transformer.modeling import TinyBertForSequenceClassification

TRANSFORMERS = 1e-5  # the largest difference of logits that is taken for none
COMPARED = (
    ("teacher", "final_{}_teacher"),
    ("student, labels only", "labels_only_4l_{}"),
    ("student, task distillation only", "tinybert_4l_no_gd_{}"),
    ("student, general + task distillation", "distilled_tinybert_4l_{}"),
)


def training_facts(run: DemoRun) -> dict[str, str]:
    """First and last losses of the three trainings."""
    return {
        "general_line": first_line(run, "general"),
        "general_losses": losses_of(run, "general"),
        "layers_losses": losses_of(run, "layers"),
        "predictions_line": first_line(run, "predictions"),
        "predictions_losses": losses_of(run, "predictions"),
        "dev_scores": dev_scores(run),
    }


def first_line(run: DemoRun, stage: str) -> str:
    """The first line of metrics.jsonl, without the speed."""
    line = run.metrics(stage)[0]
    return json.dumps({k: v for k, v in line.items() if not k.endswith("_per_second")}, indent=1)


def losses_of(run: DemoRun, stage: str) -> str:
    """Steps and losses of the first and the last line, by layer where there are any."""
    lines = [line for line in run.metrics(stage) if "loss" in line]
    names = [n for n in ("loss", "attention_loss", "hidden_loss") if n in lines[0]]
    rows = []
    for line in (lines[0], lines[-1]):
        by_layer = [
            ", ".join(map(number, line[f"{name}_by_layer"])) for name in names if name != "loss"
        ]
        rows.append((line["step"], *(number(line[name]) for name in names), *by_layer))
    head = ["steps", *(name.replace("_", " ") for name in names)]
    head += [f"{name.split('_')[0]} by layer" for name in names if name != "loss"]
    return table(head, rows)


def dev_scores(run: DemoRun) -> str:
    """The dev scores of the second stage."""
    lines = [line for line in run.metrics("predictions") if "dev" in line]
    best = run.record("predictions")["best_step"]
    return table(
        ("step", "dev", ""),
        (
            (line["step"], scores_of(line["dev"]), "kept" if line["step"] == best else "")
            for line in lines
        ),
    )


def scores_of(metrics: dict[str, dict[str, float]]) -> str:
    first = next(iter(metrics.values()))
    return ", ".join(f"{name} {value:.4f}" for name, value in first.items())


def evaluation_facts(run: DemoRun) -> dict[str, str]:
    """The scores of the task's models as `--do_eval` wrote them."""
    folders = [(name, pattern.format(run.task.key)) for name, pattern in COMPARED]
    return {
        "eval_command": run.command(
            f"task_4l-{run.task.key}", "--do_eval", run.record("evaluation")["output_dir"]
        ),
        "eval_results": (run.stages["evaluation"] / "eval_results.txt").read_text().strip(),
        "dev_rows": str(
            run.record("evaluation")["data"][dev_splits(run.task, run.glue)[0]]["rows"]
        ),
        "scores": table(
            ("model", "dev"), ((name, evaluated(run, folder)) for name, folder in folders)
        ),
    }


def evaluated(run: DemoRun, model: str) -> str:
    path = run.folder / "results" / "eval" / model / "eval.json"
    if not path.is_file():
        raise UserError(f"{path}: not there; expected a finished run of the demo profile")
    return scores_of(json.loads(path.read_text(encoding="utf-8"))["metrics"])


def use_facts(run: DemoRun) -> dict[str, str]:
    """predict.py on the training row and on the first dev row; the same logits in `transformers`."""
    dev = read_split(run.task, run.glue, dev_splits(run.task, run.glue)[0])
    texts = [text[0] for text in (dev.text_a, dev.text_b) if text is not None]
    lines = ["\t".join(run.texts(run.row)), "\t".join(texts)]
    folder = run.stages["predictions"]
    ours = TinyBertForSequenceClassification.from_pretrained(folder)
    batch = run.example.collate(np.array([0]))
    with torch.no_grad():
        logits = ours(**batch).output
    with tempfile.TemporaryDirectory() as place:
        asked = Path(place) / "lines.txt"
        asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
        told = StringIO()
        with redirect_stdout(told):
            predict.main(["--model", str(folder), "--input", str(asked), "--no_cuda"])
        theirs = logits_in_transformers(folder, batch, Path(place) / "modules")
    answer = told.getvalue().strip()
    for name, value, known in zip(
        answer.splitlines()[0].split("\t")[2:],
        answer.splitlines()[1].split("\t")[2:],
        logits.softmax(-1)[0].tolist(),
        strict=True,
    ):
        agreed(f"predict.py, {name}", float(value), round(known, 6))
    apart = (logits - theirs).abs().max().item()
    if apart > TRANSFORMERS:
        raise ArithmeticError(f"transformers: logits {apart} away from ours")
    true = run.train.labels[run.row], dev.labels[0]
    return {
        "predict_lines": "\n".join(lines),
        "predict_model": run.record("evaluation")["student"],
        "predicted": answer,
        "true_labels": " and ".join(run.label(int(label)) for label in true),
        "logits_apart": f"{apart:.1e}",
        "logits_bound": f"{TRANSFORMERS:g}",
    }


def logits_in_transformers(folder: Path, batch: Batch, modules: Path) -> torch.Tensor:
    """What `transformers` makes of a folder of ours, its copy of the model's code in `modules`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("transformers: not installed; `make walkthrough` installs it") from None
    transformers.dynamic_module_utils.HF_MODULES_CACHE = str(modules)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=True
    )
    with torch.no_grad():
        return model(**batch).logits
