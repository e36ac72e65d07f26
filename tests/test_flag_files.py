"""--config: a file of flags is as good as a command line, and a mistake in it is one line."""

import argparse
import json

import pytest

from cli.flag_files import FLAGS_NAME, parse_flags, save_flags
from cli.flags import add_model_flags, add_training_flags
from transformer.errors import UserError


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser(prog="train.py")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--layer_map", default="uniform")
    add_model_flags(parser)
    add_training_flags(parser)
    return parser


@pytest.fixture
def parse(parser, tmp_path):
    """A function parsing a command line with a file of flags of the given name and content."""

    def parse(content, *argv, name="run.yaml"):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return parse_flags(parser, ["--config", str(tmp_path / name), *argv])

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
    expected = vars(parse_flags(parser, line))
    assert expected["learning_rate"] == 3e-5 and expected["bf16"] is True
    actual = vars(parse(content, name=name))
    assert actual.pop("config").endswith(name) and expected.pop("config") is None
    assert actual == expected


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
    with pytest.raises(UserError, match=f"{name} is no flag"):
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
        ({"learning_rte": 1}, "learning_rte is no flag of train.py; is it learning_rate?"),
        ({"zzz": 1}, "zzz is no flag of train.py; --help of train.py lists them"),
        ({"config": "other.yaml"}, "config is no flag"),
        ({"help": True}, "help is no flag"),
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
        ({"nan_policy": "ignore"}, "nan_policy is 'ignore'; expected one of stop, skip"),
        ("seed: 1\nseed: 2", "not YAML (seed is there twice)"),
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
        parse_flags(parser, ["--config", "nowhere.yaml"])
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="x.yaml: not UTF-8"):
        parse_flags(parser, [f"--config={tmp_path / 'x.yaml'}"])


@pytest.mark.parametrize("more", ["", "--report_to none", "--report_to png --max_steps 7 --bf16"])
def test_the_file_that_a_run_leaves_gives_the_same_run(parser, tmp_path, more):
    line = f"--output_dir out --learning_rate 3e-5 --cache_dir /c {more}".split()
    args = parse_flags(parser, line)
    save_flags(args, tmp_path)
    again = parse_flags(parser, ["--config", str(tmp_path / FLAGS_NAME)])
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
    save_flags(parse_flags(parser, line), tmp_path)
    again = parse_flags(parser, ["--config", str(tmp_path / FLAGS_NAME)])
    assert not (again.resume or again.overwrite_output_dir or again.dry_run)
    assert again.local_rank == -1
