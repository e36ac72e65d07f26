"""Flags from a file: --config FILE, and the file of a run's flags that stands beside its model."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.atomic import atomic_open
from files.errors import UserError

FLAGS_NAME = "flags.json"  # config.json is the model's
_NOT_IN_FILES = {"help", "config"}
# What flags of other programs of this field are called here; the first that a script has is meant.
_ELSEWHERE = {
    "lr": ["learning_rate"],
    "batch_size bs per_device_train_batch_size per_gpu_train_batch_size": ["train_batch_size"],
    "per_device_eval_batch_size per_gpu_eval_batch_size": ["eval_batch_size", "batch_size"],
    "epochs epoch num_epochs n_epochs": ["num_train_epochs", "epochs_to_generate"],
    "model_name_or_path pretrained_model_name_or_path model_name model_path checkpoint base_model bert "
    "bert_model pretrained_bert_model source": ["model"],
    "teacher teacher_path teacher_model_name_or_path teacher_name_or_path": ["teacher_model"],
    "student student_path student_model_name_or_path student_name_or_path": ["student_model"],
    "output out out_dir save_dir save_path output_path": ["output_dir", "output"],
    "input in": ["input", "train_corpus", "data_dir"],
    "data dataset dataset_name data_path train_file glue_dir": ["data_dir", "pregenerated_data"],
    "corpus": ["train_corpus", "pregenerated_data"],
    "task": ["task_name", "tasks"],
    "max_length max_len max_seq_len max_seq_length seq_len": ["max_seq_length", "max_seq_len"],
    "grad_accum gradient_accumulation accumulation_steps accumulate_grad_batches": [
        "gradient_accumulation_steps"
    ],
    "warmup warmup_ratio warmup_steps num_warmup_steps": ["warmup_proportion"],
    "eval_steps eval_every evaluation_steps logging_steps": ["eval_step"],
    "steps num_steps max_train_steps": ["max_steps"],
    "fp16 amp half mixed_precision use_amp": ["fp16", "bf16"],
    "cpu use_cpu no_gpu device": ["no_cuda"],
    "temp T": ["temperature"],
    "workers num_proc n_jobs jobs": ["num_workers"],
    "config_file": ["config"],
    "overwrite force": ["overwrite_output_dir", "overwrite"],
    "resume_from_checkpoint continue": ["resume"],
    "glove glove_path": ["glove_embs"],
}
_ALIASES = {word: known for words, known in _ELSEWHERE.items() for word in words.split()}
# What is asked of one start of a program, not of the run.
_NOT_SAVED = {"config", "dry_run", "resume", "overwrite_output_dir", "local_rank"}


def with_file(parser: argparse.ArgumentParser, argv: list[str]) -> list[str]:
    """Return a command line with the flags of its --config FILE, if it names one, before its own.

    Raises:
        UserError: the file cannot be read, or has an unknown flag or a value of another type.
    """
    finder = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(argv)[0].config
    if path is None:
        return argv
    return [*_words(parser, Path(path)), *argv]  # of two values the later one counts


def nearest(word: str, actions: Mapping[str, argparse.Action]) -> str | None:
    """The flag that a mistyped one, or one of another program, most likely means; no dashes before either.

    Args:
        actions: by all their spellings.
    """
    plain = word.replace("-", "_")
    for name in [plain, *_ALIASES.get(plain, [])]:
        if name in actions:
            return actions[name].option_strings[0].lstrip("-")
    return next(iter(difflib.get_close_matches(plain, actions, 1)), None)


def spellings(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags that --help lists, by all their spellings without dashes."""
    return {
        spelling.lstrip("-"): action
        for action in parser._actions  # argparse has no other way to ask
        for spelling in action.option_strings
        if action.help != argparse.SUPPRESS
    }


def save_flags(args: argparse.Namespace, folder: Path) -> None:
    """Write every flag with the value it had in the end, for another run's --config.

    Only a folder that the run has to itself gets this file. A folder of data others read (a GLUE task,
    pregenerated sequences, downloads) holds nothing but data, and what an evaluation writes may lie in the
    model's own folder, whose flags are those of its training.
    """
    values = {name: value for name, value in vars(args).items() if name not in _NOT_SAVED}
    with atomic_open(folder / FLAGS_NAME) as file:
        json.dump(values, file, indent=2, sort_keys=True)
        file.write("\n")


def add_opposites(parser: argparse.ArgumentParser) -> None:
    """Let --no_NAME, --no-NAME too, take back what a file sets; of --no_cuda it is --cuda.

    Flags that have a default to type instead are left out; --help does not list these.
    """
    for action in list(parser._actions):
        unset = action.default is None or action.default is False
        if action.required or not unset or action.dest in _NOT_IN_FILES:
            continue
        name = action.option_strings[0].removeprefix("--")
        opposite = name[3:] if name.startswith("no_") else f"no_{name}"
        spellings = {f"--{opposite}", f"--{opposite}".replace("no_", "no-", 1)}
        spellings -= parser._option_string_actions.keys()
        if spellings:  # else this parser has been here before
            parser.add_argument(
                *sorted(spellings), dest=action.dest, action="store_const", const=action.default,
                default=argparse.SUPPRESS, help=argparse.SUPPRESS,
            )  # fmt: skip


def _words(parser: argparse.ArgumentParser, path: Path) -> list[str]:
    """What a person would type for the contents of a file."""
    actions = {
        name: action
        for name, action in spellings(parser).items()
        if action.dest not in _NOT_IN_FILES
    }
    words, seen = [], {}
    for name, value in _read(path).items():
        action = actions.get(str(name).removeprefix("--"))
        if action is None:
            near = nearest(str(name).lstrip("-"), actions)
            advice = f"; did you mean {near}?" if near else f"; --help of {parser.prog} lists them"
            raise UserError(f"--config {path}: {name} is not a flag of {parser.prog}{advice}")
        other, before = seen.setdefault(action.dest, (name, value))
        if before != value:
            raise UserError(
                f"--config {path}: {other} and {name} are two names of one flag; give one of them"
            )
        if value is not None:  # null: not given
            words += _word(action, value, f"--config {path}: {name}")
    return words


def _word(action: argparse.Action, value: Any, what: str) -> list[str]:
    flag = action.option_strings[0]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{what} is {value!r}; expected true or false")
        return [flag] if value else []
    if action.nargs == "+":
        items = value if isinstance(value, list) else [value]
        if not items:
            raise UserError(f"{what} is empty; expected one value or more")
        return [flag, *(_typed(action, item, what) for item in items)]
    if isinstance(value, list) and action.type and all(isinstance(item, str) for item in value):
        value = ",".join(value) or "none"  # as flags of several names are typed
    return [f"{flag}={_typed(action, value, what)}"]


def _typed(action: argparse.Action, value: Any, what: str) -> str:
    kind = getattr(action.type, "__name__", "")
    if kind in ("int", "float", "whole_number", "proportion"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{what} is {value!r}; expected a number")
    elif not isinstance(value, str):
        raise UserError(f"{what} is {value!r}; expected a text")
    try:
        checked = action.type(str(value)) if action.type else value
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{what}: {error}") from None
    except ValueError:
        raise UserError(f"{what} is {value!r}; expected a whole number") from None
    if action.choices and checked not in action.choices:
        raise UserError(f"{what} is {value!r}; expected one of {', '.join(action.choices)}")
    return str(value)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON (by its name) or YAML file of flags; null for a flag means: not given."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"--config {path}: no such file; expected a JSON or YAML file of flags"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"--config {path}: not UTF-8; expected a JSON or YAML file") from None
    except OSError as error:
        raise UserError(
            f"--config {path}: {error.strerror}; expected a JSON or YAML file"
        ) from None
    kind, read = ("JSON", _read_json) if path.suffix == ".json" else ("YAML", _read_yaml)
    try:
        values = read(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--config {path}: not {kind} ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: expected one value a flag, such as learning_rate: 3e-5")
    return values


def _read_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _read_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads 3e-5 as a number, as JSON and YAML 1.2 do, and refuses a key that appears twice."""

        def construct_mapping(self, node, deep=False):
            return _once(
                [
                    (self.construct_object(k, True), self.construct_object(v, True))
                    for k, v in node.value
                ]
            )

    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a key that is itself a list
        raise ValueError(" ".join(str(error).split())) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} appears twice")
    return dict(pairs)
