"""--help of every script: complete, grouped, and without defaults that say nothing."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import data_augmentation
from cli.help import script_parser
from files.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


def test_every_script_is_found():
    assert {"task_distill", "report", "download_file"} <= set(SCRIPTS)


@pytest.fixture(params=SCRIPTS)
def helped(request, monkeypatch, capsys):
    """A script's parser, and what it prints when it is asked for help."""
    parsers = []
    print_help = argparse.ArgumentParser.print_help

    def note(parser):
        parsers.append(parser)
        print_help(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "print_help", note)
    monkeypatch.setattr("sys.argv", [f"{request.param}.py"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        importlib.import_module(request.param).parse_args(["--help"])
    assert end.value.code == 0
    return parsers[0], capsys.readouterr().out


def test_every_flag_is_explained_under_a_heading(helped):
    parser, text = helped
    named = {
        id(action)
        for group in parser._action_groups
        if group not in (parser._positionals, parser._optionals)
        for action in group._group_actions
    }
    common = ("help", "config")  # of every script
    listed = [a for a in parser._actions if a.help != argparse.SUPPRESS and a.dest not in common]
    assert listed
    for action in listed:
        assert action.help and id(action) in named, action.dest
        assert (action.option_strings or [action.dest])[0] in text


def test_no_default_says_nothing_or_stands_there_twice(helped):
    _, text = helped
    flat = " ".join(text.split())
    assert not re.search(r"default: (None|False|True|\[|\))", flat) and "; None: " not in flat
    for entry in re.split(r"\n  (?=\S)", text):
        assert entry.count("(default") <= 1, entry


def test_the_usage_is_short_and_the_commands_are_those_of_the_docstring(helped):
    parser, text = helped
    usage, _, rest = text.partition("\n\n")
    assert usage.endswith("[flags]") and len(usage.splitlines()) <= 4
    for action in parser._actions:
        if action.option_strings:
            assert (action.option_strings[0] in usage.split()) == action.required
    assert f"\n    python {parser.prog}" in rest
    prose = [line for line in text.splitlines() if not line.startswith("    ") or line[4] == " "]
    assert all(len(line) <= 80 for line in prose if not line.startswith("        -"))


MODELS = {
    "finetune_teacher": ("bert_model", "data_dir"),
    "task_distill": ("student_model", "data_dir"),
    "general_distill": ("student_model", "pregenerated_data"),
    "pretrain_mlm": ("bert_model", "pregenerated_data"),
    "pregenerate_training_data": ("bert_model", None),
    "data_augmentation": ("pretrained_bert_model", "data_dir"),
    "tinybert_6_from_bert": ("source", None),
    "fix_teacher_layers": ("model", None),
    "export": ("model", "data_dir"),
    "predict": ("model", None),
}
NEEDED = {
    "finetune_teacher": "--output_dir o",
    "task_distill": "--task_name RTE --output_dir o",
    "general_distill": "--teacher_model t --output_dir o",
    "pretrain_mlm": "--output_dir o",
    "pregenerate_training_data": "--train_corpus c --output_dir o",
    "data_augmentation": "--glove_embs g",
    "export": "--to hf --output_dir o",
}


@pytest.mark.parametrize("script", MODELS)
def test_every_script_takes_a_model_and_data_by_one_name(script, tmp_path, capsys):
    """On the command line and in a file; recorded under the published name."""
    parse = importlib.import_module(script).parse_args
    model, data = MODELS[script]
    line = f"{NEEDED.get(script, '')} --model m".split() + (["--data_dir", "d"] if data else [])
    (tmp_path / "flags.json").write_text('{"model": "m"}')
    line = {"line": line, "file": [*line, "--config", str(tmp_path / "flags.json")]}
    line["file"].remove("--model"), line["file"].remove("m")
    for words in line.values():
        args = vars(parse(words))
        assert args[model] == "m" and (not data or args[data] == "d")
        assert "model" not in args or model == "model"
    if model not in ("model", "data_dir"):
        same = [*line["line"], f"--{model}", "m"]
        assert vars(parse(same)) == vars(parse(line["line"]))
        with pytest.raises(SystemExit) as end:
            parse([*line["line"], f"--{model}=other"])
        assert end.value.code == 2
        told = f"--model m and --{model} other: two names of one flag; give one of them"
        assert told in capsys.readouterr().err


def test_augmentation_takes_the_folder_of_the_task_itself(tmp_path):
    """In place of its parent and a name; two places or none are refused."""
    for name in ("glue/CoLA", "other/CoLA", "mine"):
        (tmp_path / name).mkdir(parents=True)
    common = ["--model", "m", "--glove_embs", "g"]
    parent, folder = ["--glue_dir", f"{tmp_path}/glue"], ["--data_dir", f"{tmp_path}/glue/CoLA"]

    def find(*words):
        return data_augmentation.find_data(data_augmentation.parse_args([*common, *words]))

    published = find(*parent, "--task_name", "CoLA")
    assert find(*folder) == find(*folder, *parent) == published
    assert find("--data_dir", f"{tmp_path}/mine", "--task_name", "cola")[0] == published[0]
    with pytest.raises(UserError, match="two places of the CoLA data; give one of them"):
        find("--data_dir", f"{tmp_path}/other/CoLA", *parent)
    with pytest.raises(SystemExit):
        find(*parent)


ELSEWHERE = [
    ("finetune_teacher", "lr", "learning_rate"),
    ("finetune_teacher", "batch_size", "train_batch_size"),
    ("finetune_teacher", "epochs", "num_train_epochs"),
    ("finetune_teacher", "model_name_or_path", "bert_model"),
    ("finetune_teacher", "output", "output_dir"),
    ("finetune_teacher", "amp", "fp16"),
    ("task_distill", "model-name-or-path", "student_model"),
    ("task_distill", "teacher", "teacher_model"),
    ("task_distill", "max_length", "max_seq_length"),
    ("general_distill", "data", "pregenerated_data"),
    ("data_augmentation", "fp16", "bf16"),
    ("data_augmentation", "task", "task_name"),
    ("pregenerate_training_data", "epochs", "epochs_to_generate"),
    ("pregenerate_training_data", "max_seq_length", "max_seq_len"),
    ("predict", "max_len", "max_seq_length"),
    ("download_glue", "task", "tasks"),
]


@pytest.mark.parametrize(("script", "word", "meant"), ELSEWHERE)
def test_a_flag_of_other_programs_is_answered_with_what_it_is_called_here(
    script, word, meant, tmp_path, capsys
):
    parse = importlib.import_module(script).parse_args
    with pytest.raises(SystemExit):
        parse([f"--{word}", "1"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(f"unrecognized arguments: --{word}; did you mean --{meant}?")
    (tmp_path / "flags.json").write_text(json.dumps({word: 1}))
    with pytest.raises(UserError, match=f"{word} is not a flag.*did you mean {meant}"):
        parse(["--config", str(tmp_path / "flags.json")])


def test_defaults_are_shown_as_they_are_typed(capsys):
    parser = script_parser("Does it.\n\n    python it.py \\\n        --now\n")
    group = parser.add_argument_group("all")
    for name, default in {
        "rate": 5e-5, "share": 0.0, "minutes": 10.0, "names": ["a", "b c-d"], "percent": "5%",
        "rank": -1, "nothing": None, "empty": "", "later": argparse.SUPPRESS,
    }.items():  # fmt: skip
        group.add_argument(f"--{name}", default=default, help=f"the {name}")
    group.add_argument("--off", action="store_true", help="the switch")
    group.add_argument("--told", default=3, help="the told (default: three)")
    group.add_argument("--needed", default=3, required=True, help="the needed")
    parser.print_help()
    shown = capsys.readouterr().out
    assert re.findall(r"the (\w+) \(default: (.*)\)", shown) == [
        ("rate", "5e-05"), ("share", "0"), ("minutes", "10"), ("names", "a b c-d"),
        ("percent", "5%"), ("told", "three"),
    ]  # fmt: skip
    assert "\n    python it.py \\\n        --now\n" in shown


@pytest.mark.parametrize(
    "line, told",
    [
        ("--lerning_rate 1", "--lerning_rate; did you mean --learning_rate?"),
        ("--learning_rat 1", "--learning_rat; did you mean --learning_rate?"),
        ("--learning-rate 1", "--learning-rate; did you mean --learning_rate?"),
        ("-learning_rate 1", "-learning_rate; did you mean --learning_rate?"),
        ("--lerning_rate=1", "--lerning_rate=1; did you mean --learning_rate?"),
        ("--qqq", "--qqq\n"),
        ("x", "x\n"),
    ],
)
def test_an_unknown_flag_is_answered_with_the_one_it_is_like(capsys, line, told):
    parser = script_parser("Does it.")
    parser.add_argument("--learning_rate")
    if line != "x":  # a missing flag may be the mistyped one, which is told first
        parser.add_argument("--needed", required=True)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(line.split())
    assert end.value.code == 2
    assert f"unrecognized arguments: {told}" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["-1", "-.5", "-1e-3", "-2E+4", "-3.e2", "-inf", "-nan"])
def test_a_negative_number_is_a_value_and_not_a_flag(number):
    parser = script_parser("Does it.")
    parser.add_argument("--rate", type=float)
    assert repr(parser.parse_args(["--rate", number]).rate) == repr(float(number))


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_help_lists_every_goal():
    makefile = (ROOT / "Makefile").read_text()
    goals = re.search(r"^\.PHONY: (.*) \$\(VENV\)$", makefile, re.M)[1].split()
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make (\S+) +\S", told.stdout, re.M)
    assert "bench-gpu" in goals and sorted(listed) == sorted([*goals, ".venv"])
