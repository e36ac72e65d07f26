"""A run of reproduction.sh or ablation.sh as its files tell of it.

RESULTS/stages/plan holds its commands in order, RESULTS/stages/events what became of them; both are
written by reproduction_engine.sh.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MAIN_BARS = ("training", "augmenting", "splitting")
_BAR = re.compile(r"^([a-z' ]+): +\d+% \S+ \w* ?\[[\d:]+<([\d:]+),", re.MULTILINE)
TAIL = 8000  # bytes of a log that are looked at


@dataclass
class Command:
    """A line of the plan, and what became of it.

    Attributes:
        took: seconds it took when it last finished, None where that is not known.
        state: waiting, started, finished, skipped or failed.
        when: the time of that.
        begun: where in the log what it prints begins.
    """

    index: str
    stage: str
    phase: str
    chain: str
    ready: bool
    wide: bool
    took: float | None
    log: Path
    outputs: list[str]
    label: str
    line: str
    state: str = "waiting"
    when: float = 0.0
    begun: int = 0
    status: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state in ("finished", "skipped") or (self.state == "waiting" and self.ready)


class Stage(NamedTuple):
    """A stage of the plan."""

    name: str
    number: int
    chosen: bool
    about: str


@dataclass
class Run:
    """A run: its plan and what has become of it so far."""

    began: float = 0.0
    slots: int = 1
    gpus: int = 1
    line: str = ""
    stages: list[Stage] = field(default_factory=list)
    commands: dict[str, Command] = field(default_factory=dict)
    stage: str = ""
    ended: tuple[float, int] | None = None

    def of(self, stage: str) -> list[Command]:
        """The commands of a stage."""
        return [command for command in self.commands.values() if command.stage == stage]


def read_plan(lines: Iterable[str]) -> Run:
    """Read what `write_plan` of reproduction_engine.sh wrote."""
    run = Run()
    for text in lines:
        kind, *values = text.rstrip("\n").split("\t")
        if kind == "run":
            run = Run(float(values[0]), int(values[1]), int(values[2]), values[3])
        elif kind == "stage":
            run.stages.append(Stage(values[0], int(values[1]), values[2] == "1", values[3]))
        elif kind == "command":
            index, stage, phase, chain, ready, wide, took, log, outputs, label, line = values
            run.commands[index] = Command(
                index, stage, phase, chain, ready == "1", wide == "1",
                float(took) if took else None, Path(log), shlex.split(outputs), label, line,
            )  # fmt: skip
    return run


def read_events(run: Run, lines: Iterable[str]) -> None:
    """Read what `note_event` of reproduction_engine.sh wrote into the run."""
    for text in lines:
        when, what, *values = text.rstrip("\n").split("\t")
        if what == "stage":
            run.stage = values[0]
        elif what == "ended":
            run.ended = (float(when), int(values[0]))
        elif (command := run.commands.get(values[0])) is not None:
            command.state, command.when = what, float(when)
            if what == "started":
                command.begun = int(values[1])
            elif what == "finished":
                command.took = float(values[1]) if values[1:] and values[1] else None
            elif what == "failed":
                command.status = values[1]


def bar_left(command: Command, now: float) -> float | None:
    """Seconds that the progress bar of a running command says are left; None without a bar."""
    bars = [match for match in _BAR.finditer(tail(command)) if match[1] in MAIN_BARS]
    if not bars:
        return None
    age = max(now - command.log.stat().st_mtime, 0)
    seconds = 0
    for part in bars[-1][2].split(":"):
        seconds = 60 * seconds + int(part)
    return max(seconds - age, 0.0)


def load_run(results: Path) -> Run | None:
    """The newest run in a RESULTS folder; None where there has been none."""
    try:
        run = read_plan((results / "stages/plan").read_text("utf-8").splitlines())
        read_events(run, (results / "stages/events").read_text("utf-8").splitlines())
    except FileNotFoundError:
        return None
    return run


def last_lines(command: Command, count: int) -> list[str]:
    """The last lines a command has printed."""
    return [line[:150] for line in tail(command).splitlines() if line.strip()][-count:]


def tail(command: Command) -> str:
    """The end of what a command has printed."""
    try:
        with open(command.log, "rb") as file:
            file.seek(max(command.begun, file.seek(0, 2) - TAIL))
            return file.read().decode("utf-8", "replace").replace("\r", "\n")
    except OSError:
        return ""
