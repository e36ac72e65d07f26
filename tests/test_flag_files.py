"""--config: a file of flags is as good as a command line, and a mistake in it is one line."""

import argparse
import importlib
import json
from pathlib import Path

import pytest

from cli.flag_files import FLAGS_NAME, save_flags
from cli.flags import add_model_flags, add_training_flags
from cli.help import script_parser
from files.errors import UserError

SCRIPTS = sorted(path.stem for path in Path(__file__).resolve().parent.parent.glob("*.py"))


@pytest.fixture
def parser(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    parser = script_parser("Trains.")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--layer_map", default="uniform")
    parser.add_argument("--kinds", nargs="+", choices=["x", "y"], default=["x"])
    add_model_flags(parser)
    add_training_flags(parser)
    return parser


@pytest.fixture
def parse(parser, tmp_path):
    """A function parsing a command line with a file of flags of the given name and content."""

    def parse(content, *argv, name="run.yaml"):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return parser.parse_args(["--config", str(tmp_path / name), *argv])

    return parse


@pytest.mark.parametrize(
    "name, content",
    [
        ("run.json", '{"output_dir": "out", "learning_rate": 3e-5, "bf16": true, "wd": 0, "seed": -1}'),
        ("run.yaml", "output_dir: out\nlearning_rate: 3e-5 # small\nbf16: yes\n--wd: 0\nseed: -1"),
        ("run.conf", "{output_dir: out, learning_rate: 3e-5, bf16: true, weight_decay: 0, seed: -1}"),
    ],
)  # fmt: skip
def test_either_format_sets_what_the_command_line_would(parse, parser, name, content):
    line = ["--output_dir", "out", "--learning_rate", "3e-5", "--bf16", "--wd", "0", "--seed", "-1"]
    expected = vars(parser.parse_args(line))
    assert expected["learning_rate"] == 3e-5 and expected["bf16"] is True
    actual = vars(parse(content, name=name))
    assert actual.pop("config").endswith(name) and expected.pop("config") is None
    assert actual == expected


def typed(action: argparse.Action):
    """A value for a flag, as a file holds it."""
    if action.nargs == 0:
        return True
    if action.choices:
        value = list(action.choices)[-1]
    else:
        name = getattr(action.type, "__name__", "")
        special = {
            "report_targets": "tensorboard,png",
            "_shard": "2/3",
            "proportion": 0.25,
            "budget": "20ms",
            "_mirror": "http://x",
            "objective_weights": "hidden_mse:2",
        }
        value = special.get(name, 7 if action.type else "a b")
    return [value, value] if action.nargs == "+" else value


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("as_text", [json.dumps, lambda flags: "\n".join(
    f"{name}: {json.dumps(value)}" for name, value in flags.items()
)], ids=["json", "yaml"])  # fmt: skip
def test_a_file_sets_every_flag_of_every_script(script, as_text, tmp_path, monkeypatch):
    parsers = []
    parse_known = argparse.ArgumentParser.parse_known_args
    monkeypatch.setattr(
        argparse.ArgumentParser,
        "parse_known_args",
        lambda self, *a, **k: (parsers.append(self), parse_known(self, *a, **k))[1],
    )
    with pytest.raises(SystemExit):
        importlib.import_module(script).parse_args(["--help"])
    parser = parsers[-1]
    flags, line, alone = {}, [], []
    for action in parser._actions:
        if not action.option_strings:
            alone.append("http://x")
        elif action.dest not in ("help", "config") and action.help != argparse.SUPPRESS:
            value = flags[action.option_strings[0].removeprefix("--")] = typed(action)
            line.append(action.option_strings[0])
            line += [] if value is True else map(str, value if isinstance(value, list) else [value])
    assert len(flags) >= 4
    path = tmp_path / ("flags.json" if as_text is json.dumps else "flags.yaml")
    path.write_text(as_text(flags))
    by_file = vars(parser.parse_args(["--config", str(path), *alone]))
    assert by_file | {"config": None} == vars(parser.parse_args([*alone, *line]))
    changed = [name for name in by_file if by_file[name] != parser.get_default(name)]
    assert set(changed) >= {name.replace("-", "_") for name in flags} - {"config"}


def test_the_command_line_wins(parse):
    args = parse({"output_dir": "a", "seed": 1, "num_train_epochs": 9}, "--seed", "2")
    assert (args.output_dir, args.seed, args.num_train_epochs) == ("a", 2, 9)


ON = {"output_dir": "a", "bf16": True, "no_cuda": True, "max_steps": 7, "do_lower_case": True}


@pytest.mark.parametrize(
    "line, name, value",
    [
        ("--no_bf16", "bf16", False),
        ("--no-bf16", "bf16", False),
        ("--no_bf16 --bf16", "bf16", True),
        ("--cuda", "no_cuda", False),
        ("--no_max_steps", "max_steps", None),
        ("--no-do_lower_case", "do_lower_case", False),
        ("--no_resume", "resume", False),
    ],
)
def test_the_command_line_takes_back_what_a_file_sets(parse, line, name, value):
    expected = vars(parse(ON)) | {name: value}
    assert vars(parse(ON, *line.split())) == expected


@pytest.mark.parametrize("name", ["no_bf16", "cuda", "no-bf16"])
def test_taking_back_is_for_the_command_line(parser, parse, name):
    parse(ON, "--no_bf16")
    with pytest.raises(UserError, match=f"{name} is not a flag"):
        parse({name: True})
    shown = parser.format_help()
    assert "--no_bf16 does" in shown and "--no_bf16 " not in shown.replace("--no_bf16 does", "")
    assert "--cuda" not in shown


@pytest.mark.parametrize("line", ["--no_seed", "--no_output_dir", "--no_config", "--no_help"])
def test_what_has_a_value_to_type_has_no_opposite(parse, capsys, line):
    with pytest.raises(SystemExit):
        parse(ON, line)
    assert f"unrecognized arguments: {line}" in capsys.readouterr().err


def test_null_leaves_a_default(parse):
    assert parse({"output_dir": "a", "seed": None, "max_steps": None}).seed == 42


@pytest.mark.parametrize(
    "content, told",
    [
        (
            {"learning_rte": 1},
            "learning_rte is not a flag of train.py; did you mean learning_rate?",
        ),
        ({"zzz": 1}, "zzz is not a flag of train.py; --help of train.py lists them"),
        ({"config": "other.yaml"}, "config is not a flag"),
        ({"help": True}, "help is not a flag"),
        ({"seed": "seven"}, "seed is 'seven'; expected a number"),
        ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"seed": True}, "seed is True; expected a number"),
        ({"learning_rate": [1]}, "learning_rate is [1]; expected a number"),
        ({"num_train_epochs": 0}, "num_train_epochs: 0: expected a whole number from 1"),
        ({"warmup_proportion": 2}, "warmup_proportion: 2: expected a number from 0 to 1"),
        ({"bf16": "yes"}, "bf16 is 'yes'; expected true or false"),
        ({"bf16": 1}, "bf16 is 1; expected true or false"),
        ({"layer_map": 4}, "layer_map is 4; expected a text"),
        ({"layer_map": ["top"]}, "layer_map is ['top']; expected a text"),
        ({"report_to": ["pdf"]}, "report_to: pdf: expected none, or some of"),
        ({"kinds": []}, "kinds is empty; expected one value or more"),
        ({"kinds": ["x", "z"]}, "kinds is 'z'; expected one of x, y"),
        ({"nan_policy": "ignore"}, "nan_policy is 'ignore'; expected one of stop, skip"),
        ("seed: 1\nseed: 2", "not YAML (seed appears twice)"),
        ("seed: [1", "not YAML ("),
        ("? [a]\n: 1", "not YAML ("),
        ("seed", "expected one value a flag"),
        ("", "expected one value a flag"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_and_the_flag(parse, content, told):
    with pytest.raises(UserError) as error:
        parse(content)
    message = str(error.value)
    assert message.startswith("--config ") and "run.yaml: " in message and told in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("content", ['{"seed": 1, "seed": 2}', '{"seed": 1', "seed: 1"])
def test_json_is_read_strictly(parse, content):
    with pytest.raises(UserError, match=r"run.json: not JSON \("):
        parse(content, name="run.json")


def test_a_file_that_is_missing_or_no_text_is_named(parser, tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml: no such file"):
        parser.parse_args(["--config", "nowhere.yaml"])
    with pytest.raises(UserError, match="Is a directory; expected a JSON or YAML file"):
        parser.parse_args(["--config", str(tmp_path)])
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="x.yaml: not UTF-8"):
        parser.parse_args([f"--config={tmp_path / 'x.yaml'}"])


@pytest.mark.parametrize("name", ["run.json", "run.yaml"])
def test_the_mark_that_some_editors_begin_a_file_with_is_no_text(parse, name):
    assert parse('\ufeff{"output_dir": "out", "seed": 7}', name=name).seed == 7


@pytest.mark.parametrize("more", ["", "--report_to none", "--report_to png --max_steps 7 --bf16"])
def test_the_file_that_a_run_leaves_gives_the_same_run(parser, tmp_path, more):
    line = f"--output_dir out --learning_rate 3e-5 --cache_dir /c {more}".split()
    args = parser.parse_args(line)
    save_flags(args, tmp_path)
    again = parser.parse_args(["--config", str(tmp_path / FLAGS_NAME)])
    assert vars(args) | {"config": None} == vars(again) | {"config": None}


def test_resuming_and_overwriting_are_not_handed_on(parser, tmp_path):
    line = [
        "--output_dir",
        "out",
        "--resume",
        "--overwrite_output_dir",
        "--dry_run",
        "--local_rank",
        "3",
    ]
    save_flags(parser.parse_args(line), tmp_path)
    again = parser.parse_args(["--config", str(tmp_path / FLAGS_NAME)])
    assert not (again.resume or again.overwrite_output_dir or again.dry_run)
    assert again.local_rank == -1


def test_two_names_of_one_flag_in_a_file_say_the_same_or_are_refused(parser, parse):
    parser.add_argument("--bert_model", "--model")
    assert parse({"output_dir": "a", "model": "m", "bert_model": "m"}).bert_model == "m"
    assert parse({"output_dir": "a", "model": "m"}, "--bert_model", "n").bert_model == "n"
    with pytest.raises(UserError, match="model and bert_model are two names of one flag"):
        parse({"output_dir": "a", "model": "m", "bert_model": "n"})
