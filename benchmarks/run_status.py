"""How far a run of reproduction.sh or ablation.sh is, and how long what is left will take.

A command takes what it took before; else its arithmetic, or its bytes of text, at the pace of those that
are finished or running (`Pace`); what is running and draws a progress bar takes what the bar says.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import Commands, Load
from benchmarks.devices import StepTime, step_on
from benchmarks.run_plan import Command, Run, Stage, bar_left, last_lines, load_run, read_plan
from distillation.forecast import duration

# Until something has been measured in the run itself: of a CPU's step, and bytes of text a second.
CPU_STEP = StepTime(start=0.004, per_gflop=1 / 60)
TEXT_RATES = {
    "wikiextractor.WikiExtractor": 2e6,
    "prepare_data.py": 1e6,
    "pregenerate_training_data.py": 1e7,
}
STARTING = {"models": 5.0, "text": 3.0, "other": 4.0}  # seconds until a program works
KEPT_BY_MANY = 0.9  # of the arithmetic of each of several GPUs, as docs/scaling.md assumes
_NOT_KNOWN = "time left not known yet"


class Pace:
    """How fast commands go here."""

    def __init__(self, run: Run, now: float, step: StepTime | None = None) -> None:
        """
        Args:
            step: the time of a step where the device is known.
        """
        commands = Commands((c.line, c.outputs) for c in run.commands.values())
        self._gpus, self._now, self._step = run.gpus, now, step
        self._loads = {c.index: commands.load(c.line) for c in run.commands.values()}
        self._seen: dict[str, list[tuple[float, float]]] = {}  # kind or group -> nominal, real
        # The oldest first: the machine's other work comes and goes, and the latest pace counts most.
        for command in sorted(run.commands.values(), key=lambda command: command.when):
            seconds = command.took
            if command.state == "started" and (left := bar_left(command, now)) is not None:
                seconds = now - command.when + left
            if seconds is not None and command.state != "failed":
                load = self._loads[command.index]
                for key in (load.kind, load.group):
                    self._seen.setdefault(key, []).append((self._nominal(command), seconds))

    def _nominal(self, command: Command) -> float:
        """Seconds of the work itself by the device's rate, or by that of some CPU."""
        load: Load = self._loads[command.index]
        if load.group == "text":
            return load.size / TEXT_RATES[load.kind]
        step = self._step or CPU_STEP
        seconds = step.start * load.work.steps + step.per_gflop * load.work.gflop
        return seconds / (self._gpus * KEPT_BY_MANY) if command.wide else seconds

    def is_of_models(self, command: Command) -> bool:
        """Whether a command trains or asks a model, rather than preparing something."""
        return self._loads[command.index].group == "models"

    def whole(self, command: Command) -> float | None:
        """Seconds a command takes from start to end; None where nobody knows."""
        if command.took is not None:
            return command.took
        load = self._loads[command.index]
        starting, nominal = STARTING[load.group], self._nominal(command)
        seen = self._seen.get(load.kind) or (
            self._seen.get(load.group) if load.group != "other" else None
        )
        if seen and load.group == "other":
            return sum(real for _, real in seen) / len(seen)
        if seen:
            weights = [0.5 ** (len(seen) - i) for i in range(len(seen))]
            real = sum(
                w * max(r - starting, 0.2 * r) for w, (_, r) in zip(weights, seen, strict=True)
            )
            usual = sum(w * n for w, (n, _) in zip(weights, seen, strict=True))
            return starting + nominal * real / max(usual, 1e-9)
        if load.group == "models" and self._step is None:
            return None
        return starting + nominal

    def left(self, command: Command) -> float | None:
        """Seconds a command still takes."""
        if command.over:
            return 0.0
        if command.state != "started":
            return self.whole(command)
        left = bar_left(command, self._now)
        if left is not None:
            return left
        whole, gone = self.whole(command), self._now - command.when
        return None if whole is None else max(whole - gone, 0.1 * gone)

    def left_of(self, run: Run, commands: Sequence[Command]) -> float | None:
        """Seconds until commands of one stage are done: phase after phase, chains side by side."""
        total = 0.0
        for phase in dict.fromkeys(command.phase for command in commands):
            chains: dict[str, float] = {}
            alone = 0.0
            for command in (c for c in commands if c.phase == phase):
                left = self.left(command)
                if left is None:
                    return None
                if command.wide:
                    alone += left
                else:
                    chains[command.chain] = chains.get(command.chain, 0.0) + left
            spread = sum(chains.values()) / run.slots
            total += alone + max(max(chains.values(), default=0.0), spread)
        return total


def clock(when: float, now: float) -> str:
    """A time of day, with the date where it is not today's."""
    same = time.localtime(when)[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same else "%Y-%m-%d %H:%M", time.localtime(when))


def status(run: Run, alive: bool, now: float, logs: Path) -> list[str]:
    """The lines of --status."""
    chosen = [stage for stage in run.stages if stage.chosen]
    over = [s for s in chosen if all(c.over for c in run.of(s.name)) and s.name != run.stage]
    stop = run.ended[0] if run.ended else max([run.began, *(c.when for c in run.commands.values())])
    failed = [c for c in run.commands.values() if c.state == "failed"]
    if alive:
        lines = [
            f"{run.line}: running for {duration(now - run.began)}, since {clock(run.began, now)}"
        ]
    elif run.ended and run.ended[1] == 0:
        return [
            f"{run.line}: finished at {clock(stop, now)}, after {duration(stop - run.began)}",
            f"  {len(chosen)} of {len(chosen)} stages done; logs in {logs}",
        ]
    else:
        how = "failed" if failed else "stopped" if run.ended else "ended without a word, after"
        lines = [f"{run.line}: {how} at {clock(stop, now)}, after {duration(stop - run.began)}"]
        if how.startswith("ended"):
            lines[0] = (
                f"{run.line}: ended without a word (killed, or the machine went down), last heard of "
                f"at {clock(stop, now)}, after {duration(stop - run.began)}"
            )
    lines.append(f"  {len(over)} of {len(chosen)} stages done")
    stage = next((s for s in run.stages if s.name == run.stage), None)
    if stage is None:
        return lines
    pace = Pace(run, now)
    lines += _stage_lines(run, stage, alive, now, pace)
    if alive:
        lines.append(f"  {_expected_end(run, chosen, pace, now)}")
    else:
        lines.append("  the same command resumes from here")
    return [*lines, f"  logs in {logs}"]


def _stage_lines(run: Run, stage: Stage, alive: bool, now: float, pace: Pace) -> list[str]:
    commands = run.of(stage.name)
    done = sum(command.over for command in commands)
    left = pace.left_of(run, commands)
    told = ""
    if alive and done < len(commands):
        told = f", {_NOT_KNOWN}" if left is None else f", about {duration(left)} left"
    lines = [
        f"  stage {stage.number} of {len(run.stages)}, {stage.name}: {stage.about}",
        f"    {done} of {len(commands)} commands done{told}",
    ]
    for number, command in enumerate(commands, 1):
        if command.state == "failed":
            lines.append(
                f"    command {number}, {command.label}: failed with exit status {command.status}"
            )
            lines += [f"      {line}" for line in last_lines(command, 3)]
        elif command.state == "started" and alive:
            left = pace.left(command)
            rest = _NOT_KNOWN if left is None else f"about {duration(left)} left"
            gone = duration(now - command.when)
            lines.append(f"    command {number}, {command.label}: running for {gone}, {rest}")
            lines += [f"      {line}" for line in last_lines(command, 1)]
        elif command.state == "started":
            lines.append(f"    command {number}, {command.label}: was interrupted")
            lines += [f"      {line}" for line in last_lines(command, 1)]
    return lines


def _expected_end(run: Run, chosen: Sequence[Stage], pace: Pace, now: float) -> str:
    lefts = [pace.left_of(run, run.of(stage.name)) for stage in chosen]
    if any(left is None for left in lefts):
        return "expected end not known yet"
    left = sum(left for left in lefts if left is not None)
    return f"expected end: {clock(now + left, now)}, in about {duration(left)}"


def hours(run: Run, card: str) -> dict[str, str]:
    """Stage -> how long it takes, where the device is known; of `all`, the whole or why not."""
    pages = "docs/scaling.md, docs/hardware.md"
    bf16 = any("--bf16" in command.line for command in run.commands.values())
    step = step_on(card, "bf16" if bf16 else "fp32") if card else None
    if step is None:
        where = (
            f"on {card!r}" if card else "on this machine, which has no GPU that nvidia-smi shows"
        )
        return {"all": f"hours: not known {where}; {pages} have those of some GPUs"}
    pace, told, total = Pace(run, run.began, step), {}, 0.0
    for stage in run.stages:
        commands = [c for c in run.of(stage.name) if pace.is_of_models(c)]
        if stage.chosen and commands:
            seconds = pace.left_of(run, commands) or 0.0
            told[stage.name] = f"about {duration(seconds)} of computing"
            total += seconds
    gpus = f"{run.gpus} × " if run.gpus > 1 else ""
    told["all"] = (
        f"hours: about {duration(total)} on {gpus}{card}, computed from measured steps "
        f"({pages}); downloads, text and evaluations come on top"
    )
    return told


def main(argv: Sequence[str] | None = None) -> None:
    """Answer reproduction_engine.sh: `left RESULTS STAGE`, `status RESULTS PID` or `hours CARD`."""
    what, *arguments = sys.argv[1:] if argv is None else argv
    now = time.time()
    if what == "hours":
        for stage, text in hours(read_plan(sys.stdin), arguments[0]).items():
            print(f"{stage}\t{text}")
        return
    results = Path(arguments[0])
    run = load_run(results)
    if run is None:
        print(f"{results}: no run has been started with this profile yet")
    elif what == "status":
        print("\n".join(status(run, arguments[1] != "0", now, results / "logs")))
    else:
        left = Pace(run, now).left_of(run, run.of(arguments[1]))
        print(f", {_NOT_KNOWN}" if left is None else f", about {duration(left)} left", end="")
