"""A tiny world to run the scripts in: models, GLUE files, word vectors and a Wikipedia dump.

Every file has the layout of the real one; only the sizes differ, so that a pipeline takes seconds.
Scripts run inside the test's process, as `python SCRIPT FLAGS` would run them.
"""

from __future__ import annotations

import bz2
import contextlib
import importlib
import io
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

from files.errors import run_script
from tests.patience import PATIENCE
from transformer.configuration import BertConfig
from transformer.modeling import (
    BertForPreTraining,
    BertModel,
    BertPreTrainedModel,
    TinyBertForSequenceClassification,
)
from transformer.weights import save_weights

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NOUNS = "cat dog bird house river king queen apple table window film story".split()  # noqa: SIM905
OTHERS = "the is was it that not and good bad old small bright walk play see . , '".split()  # noqa: SIM905
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    *SPECIAL, *NOUNS, *OTHERS, "##ing", "##ed", *LETTERS, *(f"##{c}" for c in LETTERS),
    *(f"rare{number}" for number in range(20)),
]  # fmt: skip

TEACHER = {"hidden_size": 24, "num_hidden_layers": 12, "intermediate_size": 24}
STUDENT_4L = {"hidden_size": 12, "num_hidden_layers": 4, "intermediate_size": 24}
STUDENT_6L = {**TEACHER, "num_hidden_layers": 6}

LABELS = {
    "CoLA": ("0", "1"),
    "SST-2": ("0", "1"),
    "MRPC": ("0", "1"),
    "QQP": ("0", "1"),
    "STS-B": ("0.0", "1.25", "3.800", "5.0"),
    "MNLI": ("contradiction", "entailment", "neutral"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
    "WNLI": ("0", "1"),
}
_STS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
_PAIR = ("index\tsentence1\tsentence2", "{i}\t{a}\t{b}")
# task -> header and row of train and dev files, header and row of test files
LAYOUTS = {
    "CoLA": (None, "gj04\t{label}\t*\t{a}", "index\tsentence", "{i}\t{a}"),
    "SST-2": ("sentence\tlabel", "{a} \t{label}", "index\tsentence", "{i}\t{a}"),
    "MRPC": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "{label}\t7{i}\t8{i}\t{a}\t{b}",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "{i}\t7{i}\t8{i}\t{a}\t{b}",
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "{i}\t7{i}\t8{i}\t{a}\t{b}\t{label}",
        "id\tquestion1\tquestion2",
        "{i}\t{a}\t{b}",
    ),
    "STS-B": (
        f"{_STS}\tscore",
        "{i}\tmain\tfile\t2012\t{i}\tnone\tnone\t{a}\t{b}\t{label}",
        _STS,
        "{i}\tmain\tfile\t2012\t{i}\tnone\tnone\t{a}\t{b}",
    ),
    "MNLI": (
        f"{_MNLI}\tlabel1\tgold_label",
        "{i}\t7\t8\tgenre\t( a )\t( b )\t(A)\t(B)\t{a}\t{b}\t{label}\t{label}",
        _MNLI,
        "{i}\t7\t8\tgenre\t( a )\t( b )\t(A)\t(B)\t{a}\t{b}",
    ),
    "QNLI": (
        "index\tquestion\tsentence\tlabel",
        "{i}\t{a}\t{b}\t{label}",
        "index\tquestion\tsentence",
        "{i}\t{a}\t{b}",
    ),
    "RTE": (f"{_PAIR[0]}\tlabel", f"{_PAIR[1]}\t{{label}}", *_PAIR),
    "WNLI": (f"{_PAIR[0]}\tlabel", f"{_PAIR[1]}\t{{label}}", *_PAIR),
}
ROWS = {"train": 4, "dev": 12, "test": 9}


class Outcome(NamedTuple):
    """What a program did."""

    status: int
    stdout: str
    stderr: str


def config(**sizes) -> BertConfig:
    """A tiny BERT's; it has as many positions as the commands ask for."""
    shape = {"num_attention_heads": 4, "max_position_embeddings": 128, **TEACHER, **sizes}
    return BertConfig(vocab_size=len(VOCABULARY), **shape)


def write_vocabulary(folder: Path, vocabulary: list[str] = VOCABULARY) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")


def write_student(folder: Path, **sizes) -> None:
    """A folder with nothing but a config.json, as the repository has two of."""
    config(**sizes).to_json_file(folder / "config.json", "BertForPreTraining")


def write_bert(folder: Path, *, head: bool = True, seed: int = 0, **sizes) -> None:
    """BERT as Google published it, with LayerNorm's gamma and beta; or the encoder alone."""
    torch.manual_seed(seed)
    model = (BertForPreTraining if head else BertModel).from_scratch(config(**sizes))
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        state[name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    state["bert.embeddings.position_ids"] = torch.arange(128)[None]
    save_weights(state, folder / "pytorch_model.bin")
    model.config.to_json_file(folder / "config.json", model.architecture())
    write_vocabulary(folder)


def write_classifier(folder: Path, labels: list[str] | None, *, seed: int = 0, **sizes) -> None:
    """A classifier as Hugging Face's own class saves it: safetensors, label names, its head."""
    torch.manual_seed(seed)
    model = TinyBertForSequenceClassification.from_scratch(
        config(**sizes), classifier_head="hf", id2label=labels
    )
    torch.nn.init.normal_(model.classifier.weight)  # logits that differ from row to row
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    values = model.config.to_dict()
    del values["classifier_head"]
    architectures = {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(values | architectures))
    write_vocabulary(folder)


def write_model(model: BertPreTrainedModel, folder: Path) -> None:
    """A model of ours with the vocabulary."""
    model.save_pretrained(folder)
    write_vocabulary(folder)


def sentence(rng: random.Random) -> str:
    """Few words that augmentation may replace: the fewer, the smaller the augmented file."""
    start = rng.choice(("It is the", "That was a", "it was not a", "that is the"))
    return f"{start} {rng.choice((*NOUNS, 'walking', 'plays'))} ."


def write_task(folder: Path, task: str, rows: dict[str, int] = ROWS) -> None:
    """One GLUE task's files in the layout of the official download."""
    header, row, test_header, test_row = LAYOUTS[task]
    rng = random.Random(f"{task}")
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in rows.items():
        names = [split]
        if task == "MNLI" and split != "train":
            names = [f"{split}_matched", f"{split}_mismatched"]
        for name in names:
            top, line = (test_header, test_row) if split == "test" else (header, row)
            lines = [] if top is None else [top]
            for i in range(count):
                label = LABELS[task][(i + len(name)) % len(LABELS[task])]
                lines.append(line.format(i=i, a=sentence(rng), b=sentence(rng), label=label))
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_glove(path: Path) -> None:
    """Word vectors as in GloVe's file, with one of its words that hold a space."""
    rng = random.Random(1)
    words = ["walking", "plays", "at name@domain.com", *NOUNS, "walked", "running", "swims"]
    vectors = ([f"{rng.gauss(0, 1):.4f}" for _ in range(5)] for _ in words)
    lines = [" ".join([word, *vector]) for word, vector in zip(words, vectors, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def articles(count: int, sentences: int = 5) -> list[list[str]]:
    rng = random.Random(2)
    return [[sentence(rng).replace(" .", ".") for _ in range(sentences)] for _ in range(count)]


def write_dump(path: Path, count: int = 12) -> None:
    """A MediaWiki dump, as Wikipedia publishes them."""
    pages = "".join(
        f"<page>\n<title>Article {i}</title>\n<ns>0</ns>\n<id>{i + 1}</id>\n"
        f'<revision>\n<id>{i + 100}</id>\n<text xml:space="preserve">{" ".join(text)}\n\n'
        f"{' '.join(reversed(text))}</text>\n</revision>\n</page>\n"
        for i, text in enumerate(articles(count))
    )
    site = '<siteinfo>\n<namespace key="10">Template</namespace>\n</siteinfo>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bz2.compress(f"<mediawiki>\n{site}\n{pages}</mediawiki>\n".encode()))


def write_corpus(path: Path, documents: int = 12) -> None:
    """A corpus as prepare_data.py writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join("\n".join(document) for document in articles(documents))
    path.write_text(text + "\n", encoding="utf-8")


def run(*words: str | Path) -> Outcome:
    """Run a script of the repository in this process, in the current folder."""
    script, *argv = map(str, words)
    out, err = io.StringIO(), io.StringIO()
    main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
    before = sys.argv
    sys.argv = [script, *argv]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_script(main)
    except SystemExit as exit:
        status = exit.code or 0
    finally:
        sys.argv = before
    return Outcome(status, out.getvalue(), err.getvalue())


def run_line(line: str) -> Outcome:
    """Run a command line: a script in this process, anything else by bash."""
    words = shlex.split(line)
    if words[0] == "python" and words[1].endswith(".py"):
        return run(*words[1:])
    if words[0] == "python":
        line = f"{shlex.quote(sys.executable)} {line.removeprefix('python ')}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE)
    return Outcome(done.returncode, done.stdout, done.stderr)


def succeed(line: str) -> Outcome:
    """Run a command line that must end well."""
    outcome = run_line(line)
    assert outcome.status == 0, f"{line}\n{outcome.stdout}\n{outcome.stderr}"
    return outcome
