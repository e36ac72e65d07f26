"""The command line of every script: --help, flags from a file with --config, and mistyped flags."""

from __future__ import annotations

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from cli.flag_files import add_opposites, nearest, spellings, with_file
from files.errors import spell_settings

# What a script accepts beside a published name: the model folder it works on, the folder of its data.
COMMON = {"--model", "--data_dir"}
# argparse takes -1e-3 and -inf for flags, and would say that a value is missing; here they are numbers, for
# the flag to judge.
_NEGATIVE_NUMBER = re.compile(
    r"-(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)$", re.IGNORECASE
)
_NUMBERS = {"int": "N", "whole_number": "N", "float": "X", "proportion": "X"}


def script_parser(docstring: str) -> argparse.ArgumentParser:
    """Make a parser that shows a script's docstring, with the commands in it, above the flags.

    Every script has --config FILE; flags are written in full.
    """
    parser = _Parser(
        description=docstring.strip(), formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="JSON or YAML file of flags, such as the flags.json of another run; flags given here win, "
        "and --no_NAME takes one back, as --no_bf16 does where there is --bf16",
    )
    return parser


class _Parser(argparse.ArgumentParser):
    """Takes flags from --config FILE as well, and says which flag an unknown one is like."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = _NEGATIVE_NUMBER

    def parse_args(self, args=None, namespace=None):
        own = sys.argv[1:] if args is None else list(args)
        words = with_file(self, own)
        spell_settings({a.dest: a.option_strings[0] for a in self._actions if a.option_strings})
        add_opposites(self)
        self._check_names(own)
        for word in words:  # before anything is found to be missing: here it may stand, mistyped
            self._check_known(word)
        return super().parse_args(words, namespace)

    def _check_known(self, word: str) -> None:
        name = word.partition("=")[0]
        # As argparse sees it, a word with a blank in it is a value.
        is_flag = re.match("--?[a-zA-Z]", word) and not _NEGATIVE_NUMBER.match(word)
        if not is_flag or " " in word or name in self._option_string_actions:
            return
        near = nearest(name.lstrip("-"), spellings(self))
        advice = f"; did you mean --{near}?" if near else ""
        self.error(f"unrecognized arguments: {word}{advice}")

    def _check_names(self, words: list[str]) -> None:
        """Refuse two names of one flag with two values."""
        given: dict[str, tuple[str, str]] = {}
        for word, following in pairwise([*words, ""]):
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            if action is None or action.nargs is not None or len(action.option_strings) == 1:
                continue
            value = value if equals else following
            other, before = given.setdefault(action.dest, (name, value))
            if other != name and before != value:
                self.error(
                    f"{other} {before} and {name} {value}: two names of one flag; give one of them"
                )


class HelpFormatter(argparse.HelpFormatter):
    """Shows the defaults that say something, and a usage of what is required.

    Indented paragraphs of the description are commands and keep their lines. Where a default is found out
    later, its flag's help text tells it: `(default: …)`.
    """

    def _format_usage(self, usage, actions, groups, prefix):
        words = []
        for action in (action for action in actions if action.required):
            name = action.option_strings[:1]
            value = self._get_default_metavar_for_optional(action) if name else action.dest
            words.append(" ".join([*name, self._format_args(action, value)]))
        start = f"usage: {self._prog} "
        lines = textwrap.fill(
            " ".join(word.replace(" ", "\xa0") for word in [*words, "[flags]"]),  # no break in a word
            self._width, initial_indent=start, subsequent_indent=" " * len(start),
            break_on_hyphens=False,
        )  # fmt: skip
        return lines.replace("\xa0", " ") + "\n\n"

    def _fill_text(self, text, width, indent):
        fill = super()._fill_text
        parts = text.split("\n\n")
        return "\n\n".join(p if p.startswith(" ") else fill(p, width, indent) for p in parts)

    def _split_lines(self, text, width):
        return textwrap.wrap(text, width, break_on_hyphens=False)  # names can then be copied

    def _get_help_string(self, action):
        text = action.help or ""
        published, *others = action.option_strings or [""]
        if COMMON.intersection(others):
            text += f"; {published} is the published name"
        if action.required or "(default" in text or (default := _shown(action.default)) is None:
            return text
        return f"{text} (default: {default.replace('%', '%%')})"

    def _get_default_metavar_for_optional(self, action):
        kind = _NUMBERS.get(getattr(action.type, "__name__", ""))
        return kind or action.dest.rpartition("_")[2].upper()


def _shown(default: Any) -> str | None:
    """A default as it would be typed; None where it means that nothing was given."""
    if default is None or isinstance(default, bool) or default in ("", -1, argparse.SUPPRESS):
        return None
    if isinstance(default, float) and math.isfinite(default):
        return f"{default:g}"
    if isinstance(default, Iterable) and not isinstance(default, str):
        return " ".join(map(str, default))
    return str(default)
