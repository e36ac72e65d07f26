"""A trained classifier outside this repository: exported, and asked line by line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import export
import predict
from files.errors import UserError
from tests.integration.workspace import (
    STUDENT_4L,
    VOCABULARY,
    config,
    run_line,
    succeed,
    write_model,
    write_task,
)
from tests.patience import PATIENCE
from transformer import onnx as onnx_models
from transformer.modeling import TinyBertForSequenceClassification
from transformer.onnx import OnnxModel

NAMES = ["entailment", "not_entailment"]
LINES = [
    "the cat is good\tit was not a dog",
    "a film\tsee .",
    "walk\tplay and see the old river",
] * 9


def make(folder: Path, **fields) -> TinyBertForSequenceClassification:
    torch.manual_seed(1)
    shape = config(**STUDENT_4L | {"num_hidden_layers": 2, "max_position_embeddings": 64})
    model = TinyBertForSequenceClassification.from_scratch(shape, fit_size=24, **fields).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    write_model(model, folder)
    return model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A classifier, everything it can be exported to, and what the export printed."""
    for package in onnx_models.TO_WRITE:
        pytest.importorskip(package)
    root = tmp_path_factory.mktemp("world")
    model = make(root / "student", id2label=NAMES)
    write_task(root / "glue/RTE", "RTE")
    outcome = succeed(
        f"python export.py --model {root}/student --to hf onnx int8 --output_dir {root}/out "
        f"--data_dir {root}/glue/RTE --max_seq_length 32"
    )
    return root, model, outcome


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path


def test_every_kind_stands_in_the_folder_with_its_figures(world):
    root, _, outcome = world
    record = json.loads((root / "out/export.json").read_text())
    assert record["models"].keys() == {"original", *export.FILES}
    for kind, row in record["models"].items():
        path = root / ("student" if kind == "original" else "out") / row["file"]
        assert row["bytes"] == path.stat().st_size
        assert row["ms_batch_1"] > 0 and row["ms_batch_32"] > 0
        assert f"{row['metrics']['dev']['acc']:.4f}" in outcome.stdout
    models = record["models"]
    assert models["hf"]["metrics"] == models["onnx"]["metrics"] == models["original"]["metrics"]
    assert models["hf"]["logits_differ_by"] <= 1e-5 and models["onnx"]["logits_differ_by"] <= 1e-4
    assert models["int8"]["logits_differ_by"] > 0
    assert models["int8"]["bytes"] < models["onnx"]["bytes"]
    assert not list((root / "out").glob(".*")), "what was made on the way is gone"
    modes = {path.stat().st_mode for path in (root / "out").iterdir()}
    assert modes == {(root / "student/vocab.txt").stat().st_mode}, "others may read all of them"


@pytest.mark.parametrize("name", ["model.onnx", "model_int8.onnx"])
def test_a_graph_tells_nothing_of_the_machine_it_was_made_on(world, name):
    data = (world[0] / "out" / name).read_bytes()
    for path in (Path(torch.__file__).parent, Path(export.__file__).parent):
        assert str(path).encode() not in data


@pytest.mark.parametrize("rows, length", [(1, 1), (1, 64), (3, 5), (40, 17)])
def test_the_graph_takes_any_batch_and_length(world, rows, length):
    root, model, _ = world
    batch = export.batch_of(rows, length, model.config.vocab_size)
    with torch.inference_mode():
        expected = model(**batch).output
    actual = OnnxModel(root / "out/model.onnx", model.config)(**batch).output
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_the_safetensors_are_read_by_transformers(world, monkeypatch, tmp_path):
    root, model, _ = world
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    folder = shutil.copytree(root / "out", tmp_path / "out")
    theirs, told = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"]
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in weights.items())
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids).output, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "head, names",
    [("tinybert", ["contradiction", "entailment", "neutral"]), ("hf", ["LABEL_0"])],
)
def test_of_any_number_of_classes_transformers_and_the_graph_say_what_predict_says(
    place, head, names
):
    """A process that knows nothing of this repository reads the export, a very long line included."""
    for package in (*onnx_models.TO_WRITE, "transformers"):
        pytest.importorskip(package)
    make(Path("student"), id2label=names, classifier_head=head)
    succeed("python export.py --model student --to hf onnx --output_dir out")
    lines = ["the cat", "It is a good dog, that is not a house!", "the queen was bright . " * 60]
    Path("three.txt").write_text("\n".join(lines) + "\n")
    answers = succeed("python predict.py --model student --input three.txt --format jsonl").stdout
    Path("fresh.py").write_text(FRESH)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    told = subprocess.run(
        [sys.executable, "fresh.py"], cwd=place, capture_output=True, text=True, timeout=PATIENCE,
        env=environment | {"HF_HOME": str(place / "hub")},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    theirs, graph, alone = json.loads(told.stdout)
    np.testing.assert_allclose(graph, theirs, atol=1e-4)
    np.testing.assert_allclose(alone, theirs[2:], atol=1e-4)
    for row, logits in zip(map(json.loads, answers.splitlines()), theirs, strict=True):
        if len(names) == 1:
            assert row["score"] == pytest.approx(logits[0], abs=1e-5)
        else:
            assert list(row["probabilities"]) == names
            odds = np.exp(logits) / np.exp(logits).sum()
            np.testing.assert_allclose(list(row["probabilities"].values()), odds, atol=1e-5)


FRESH = """
import json, onnxruntime, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

lines = open("three.txt").read().splitlines()
tokenizer = AutoTokenizer.from_pretrained("out")
model = AutoModelForSequenceClassification.from_pretrained("out", trust_remote_code=True)
graph = onnxruntime.InferenceSession("out/model.onnx")
cut = {"truncation": True, "max_length": 64, "padding": True}
with torch.no_grad():
    theirs = model(**tokenizer(lines, return_tensors="pt", **cut)).logits.tolist()
found = [
    graph.run(["logits"], dict(tokenizer(some, return_tensors="np", **cut)))[0].tolist()
    for some in (lines, lines[2:])
]
print(json.dumps([theirs, *found]))
"""


def test_an_export_that_differs_is_not_written(place, monkeypatch):
    make(Path("student"), id2label=NAMES)
    monkeypatch.setattr(export, "largest_difference", lambda runner, model: 0.1)
    outcome = run_line("python export.py --model student --to hf --output_dir out")
    assert outcome.status == 2 and "its logits differ by 0.1; not written" in outcome.stderr
    assert list(Path("out").iterdir()) == []


def test_a_folder_holds_one_export_and_what_repeats_it(place):
    """Weights of one model beside the config of another would be read together."""
    for package in onnx_models.TO_WRITE:
        pytest.importorskip(package)
    for name, labels in (("first", NAMES), ("second", ["a", "b", "c"])):
        make(Path(name), id2label=labels)
    succeed("python export.py --model first --to hf --output_dir out --max_seq_length 8")
    line = "python export.py --model second --to onnx --output_dir out --max_seq_length 8"
    outcome = succeed(line)
    assert "note: out/model.safetensors, of an earlier export, is removed" in outcome.stderr
    assert not Path("out/model.safetensors").exists() and Path("out/model.onnx").exists()
    answers = succeed("python predict.py --model out --input lines.txt").stdout
    assert answers.splitlines()[0].split() == ["label", "probability", "a", "b", "c"]
    again = succeed("python export.py --config out/flags.json --output_dir again --to hf")
    assert "wrote model.safetensors to again" in again.stderr
    flags, repeated = (json.loads(Path(f, "flags.json").read_text()) for f in ("out", "again"))
    assert repeated == flags | {"output_dir": "again", "to": ["hf"]}


def test_a_missing_package_is_named_before_anything_is_done(place, monkeypatch):
    monkeypatch.setattr(onnx_models.importlib.util, "find_spec", lambda name: None)
    outcome = run_line("python export.py --model student --to onnx --output_dir out")
    assert outcome.status == 2 and not Path("out").exists()
    assert outcome.stderr == (
        "error: --to onnx: needs onnx, onnxruntime, onnxscript; "
        "pip install onnx onnxruntime onnxscript\n"
    )


def test_a_folder_with_other_files_is_left_alone(place):
    outcome = run_line("python export.py --model student --to hf --output_dir .")
    assert outcome.status == 2 and "is not empty (holds lines.txt)" in outcome.stderr


# Predictions


def answers_of(*models: str) -> list[np.ndarray]:
    """Probabilities [n, C] from the TSV output of each model."""
    tables = []
    for model in models:
        succeed(f"python predict.py --model {model} --input lines.txt --output labels.tsv")
        header, *rows = Path("labels.tsv").read_text().splitlines()
        assert header.split("\t") == ["label", "probability", *NAMES]
        for row in rows:
            label, top, *odds = row.split("\t")
            assert label == NAMES[int(np.argmax([float(value) for value in odds]))]
            assert top == max(odds)
        tables.append(np.array([row.split("\t")[2:] for row in rows], dtype=float))
    return tables


def test_folder_safetensors_graph_and_int8_answer_alike(world, place):
    root, *_ = world
    ours, safe, graph, int8 = answers_of(
        f"{root}/student", f"{root}/out", f"{root}/out/model.onnx", f"{root}/out/model_int8.onnx"
    )
    assert ours.shape == (len(LINES), 2) and np.ptp(ours[:3, 0]) > 1e-3
    assert (ours[:3] == ours[3:6]).all(), "the order is the input's"
    np.testing.assert_allclose(ours.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(safe, ours, atol=1e-5)
    np.testing.assert_allclose(graph, ours, atol=1e-4)
    np.testing.assert_allclose(int8, ours, atol=0.2)


@pytest.fixture
def student(place):
    return make(Path("student"), id2label=NAMES)


def feed(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input_becomes_json_lines(student, monkeypatch):
    feed(monkeypatch, "a good cat\tÉtude\r\nthe dog\t\n".encode())
    outcome = succeed("python predict.py --model student --format jsonl --batch_size 1")
    first, second = map(json.loads, outcome.stdout.splitlines())
    assert (first["text"], first["text_b"]) == ("a good cat", "Étude")
    assert (second["text"], second["text_b"]) == ("the dog", "")
    assert first["label"] == max(first["probabilities"], key=first["probabilities"].get)


def test_a_regression_gives_scores(place, monkeypatch):
    model = make(Path("student"), id2label=["LABEL_0"])
    feed(monkeypatch, b"the cat\n")
    outcome = succeed("python predict.py --model student")
    ids = torch.tensor([[2, VOCABULARY.index("the"), VOCABULARY.index("cat"), 3]])
    head, score = outcome.stdout.splitlines()
    assert head == "score" and float(score) == pytest.approx(model(ids).output.item(), abs=1e-5)


def test_nothing_in_gives_nothing_out(student, monkeypatch):
    feed(monkeypatch, b"")
    assert succeed("python predict.py --model student --format jsonl").stdout == ""


@pytest.mark.parametrize(
    "data, told",
    [
        (
            b"a\nb\tc\n",
            "line 2: two texts with a tab between; expected a single text, as in line 1",
        ),
        (
            b"a\tb\nc\n",
            "line 2: a single text; expected two texts with a tab between, as in line 1",
        ),
        (
            b"a\tb\tc\n",
            "line 1: 3 texts with tabs between; expected one or two. For the test files",
        ),
        (b"a\n\xff\n", "line 2: not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_no_file_is_written(student, data, told):
    Path("lines.txt").write_bytes(data)
    outcome = run_line("python predict.py --model student --input lines.txt --output out.tsv")
    assert outcome.status == 2 and outcome.stderr.splitlines()[-1].startswith("error: lines.txt, ")
    assert told in outcome.stderr and not Path("out.tsv").exists()
    assert outcome.stderr.endswith("; out.tsv is not written\n")


def test_the_lines_before_a_bad_one_are_answered_on_standard_output(student):
    Path("lines.txt").write_bytes(b"the cat\nthe dog\na\tb\nthe cat\n")
    outcome = run_line("python predict.py --model student --input lines.txt")
    assert outcome.status == 2 and "line 3: two texts" in outcome.stderr
    Path("lines.txt").write_bytes(b"the cat\nthe dog\n")
    assert outcome.stdout == succeed("python predict.py --model student --input lines.txt").stdout
    Path("lines.txt").write_bytes(b"the cat\n")
    told = succeed("python predict.py --model student --input lines.txt --output out.tsv").stderr
    assert told.endswith("wrote 1 answer to out.tsv\n")


def test_lines_are_answered_as_they_come():
    reader, writer = os.pipe()
    with open(reader, "rb") as lines:
        rows = predict.read_rows(lines, "pipe", 2)
        os.write(writer, b"\xef\xbb\xbfone\ntwo\nthree\nfo")
        assert [next(rows), next(rows)] == [[("one",), ("two",)], [("three",)]]
        os.write(writer, b"ur\n\nfi")
        assert next(rows) == [("four",), ("",)]
        os.write(writer, b"ve")
        os.close(writer)
        assert list(rows) == [[("five",)]]


def test_empty_and_cut_lines_are_told(student):
    long = ["the cat " * 5, "the cat " * 5 + "is", "the " * 5000]
    Path("lines.txt").write_text("\n".join(["", "  ", *long]), encoding="utf-8")
    line = "python predict.py --model student --input lines.txt --output out.tsv"
    outcome = succeed(f"{line} --max_seq_length 12")
    assert outcome.stderr.splitlines()[-3:] == [
        "note: lines.txt: empty lines: 2; they are classified as if they were texts",
        "note: lines.txt: cut lines: 2; they have more tokens than --max_seq_length",
        "wrote 5 answers to out.tsv",
    ]
    assert len(Path("out.tsv").read_text().splitlines()) == 6
    Path("lines.txt").write_text("the cat\n", encoding="utf-8")
    assert "note: lines" not in succeed(line).stderr


@pytest.mark.parametrize(
    "task, lines, told",
    [
        (
            "RTE",
            "a\tb\none",
            "line 2: a single text; expected two texts with a tab between, as student",
        ),
        (
            "SST-2",
            "one\t1",
            "line 1: two texts with a tab between; expected a single text, as student",
        ),
        ("RTE", "one\ttwo", None),
        ("SST-2", "one", None),
        (None, "one", None),
        ("others", "one", None),
    ],
)
def test_lines_of_another_kind_than_what_was_learned_are_refused(student, task, lines, told):
    Path("student/run.json").write_text(json.dumps({"task": task}))
    Path("lines.txt").write_text(lines)
    line = "python predict.py --model student --input lines.txt --output out.tsv"
    outcome = run_line(line)
    assert outcome.status == (2 if told else 0) and (told or "") in outcome.stderr
    if told:
        assert "--single takes each line as one text" in outcome.stderr
        assert not Path("out.tsv").exists()
        succeed(f"{line} --single")


def test_a_tab_is_a_space_where_each_line_is_one_text(student):
    answers = []
    for text in ("one\ttwo", "one two"):
        Path("lines.txt").write_text(text)
        answers.append(
            succeed("python predict.py --model student --single --input lines.txt").stdout
        )
    assert answers[0] == answers[1]


def test_an_export_hands_on_what_was_learned(student):
    Path("student/run.json").write_text(json.dumps({"task": "RTE"}))
    succeed("python export.py --model student --to hf --output_dir out --max_seq_length 8")
    Path("lines.txt").write_text("one")
    outcome = run_line("python predict.py --model out --input lines.txt")
    assert outcome.status == 2 and "as out learned RTE" in outcome.stderr


@pytest.mark.parametrize("name, reason", [("no.txt", "No such file"), (".", "Is a directory")])
def test_an_input_that_cannot_be_read_is_named(student, name, reason):
    outcome = run_line(f"python predict.py --model student --input {name} --output out.tsv")
    assert outcome.status == 2 and not Path("out.tsv").exists()
    assert outcome.stderr.splitlines()[-1].startswith(f"error: --input {name}: {reason}")


@pytest.mark.parametrize(
    "stream, flag",
    [("stdin", "--input -: standard input"), ("stdout", "--output -: standard output")],
)
def test_a_closed_stream_is_told(student, monkeypatch, stream, flag):
    """As `predict.py <&-` and `>&-` leave it."""
    script = Path(predict.__file__)
    line = f"{sys.executable} {script} --model student {'<' if stream == 'stdin' else '>'}&-"
    told = subprocess.run(["bash", "-c", line], input=b"", stderr=subprocess.PIPE, timeout=PATIENCE)
    assert told.returncode == 2
    assert told.stderr.decode().splitlines()[-1] == f"error: {flag} is closed; name a file"


def test_a_folder_is_no_output(student):
    outcome = run_line("python predict.py --model student --input lines.txt --output student")
    assert outcome.status == 2
    assert outcome.stderr == "error: --output student: is a folder; expected the name of a file\n"


def test_a_folder_of_several_graphs_asks_for_one(world, place):
    shutil.copytree(world[0] / "out", "out")
    Path("out/model.safetensors").unlink()
    outcome = run_line("python predict.py --model out")
    assert outcome.status == 2 and "give out/model.onnx or out/model_int8.onnx" in outcome.stderr


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"sentence": "It rains."}\n', "line 1: is JSON"),
        (b"[\n", "line 1: is JSON"),
        (b"a good film\rthe cat\r", "line 1: has a carriage return"),
        (b"a\x00good film\n", "is binary"),
        (b"PK\x03\x04" + bytes(60), "expected text"),
    ],
)
def test_what_is_not_lines_of_text_is_refused_by_its_look(data, told):
    lines = io.BufferedReader(io.BytesIO(data))
    with pytest.raises(UserError, match=told):
        next(predict.read_rows(lines, "input", 8))


def test_with_single_json_is_text_like_any_other():
    lines = io.BufferedReader(io.BytesIO(b'{"a": 1}\n'))
    kind = predict.Kind(1, "as --single says", split=False)
    assert next(predict.read_rows(lines, "input", 8, kind)) == [('{"a": 1}',)]


def test_a_header_is_classified_and_told(capsys):
    lines = io.BufferedReader(io.BytesIO(b"sentence1\tsentence2\na\tb\n"))
    assert len(next(predict.read_rows(lines, "input", 8))) == 2
    assert "line 1 looks like a header" in capsys.readouterr().err
