"""--help of every script: complete, grouped, and without defaults that say nothing."""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.help import script_parser

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
        ("--lerning_rate 1", "--lerning_rate; is it --learning_rate?"),
        ("--learning_rat 1", "--learning_rat; is it --learning_rate?"),
        ("--learning-rate 1", "--learning-rate; is it --learning_rate?"),
        ("-learning_rate 1", "-learning_rate; is it --learning_rate?"),
        ("--lerning_rate=1", "--lerning_rate=1; is it --learning_rate?"),
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


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_help_lists_every_goal():
    makefile = (ROOT / "Makefile").read_text()
    goals = re.search(r"^\.PHONY: (.*) \$\(VENV\)$", makefile, re.M)[1].split()
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make (\S+) +\S", told.stdout, re.M)
    assert "bench-gpu" in goals and sorted(listed) == sorted([*goals, ".venv"])
