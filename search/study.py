"""A search that several processes share, and that goes on where it was killed: a study of Optuna's in a file.

Its trials hold the lengths, the score (to be high) and the cost (to be low). Every backend writes the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from search.front import Evaluated
from search.lengths import Lengths, chain
from search.propose import Evolution, Propose, Space, evolution, random_search

BACKENDS = ("tpe", "nsga2", "gp", "evolution", "random")
_NAME = "lengths"


class Study:
    """Trials in a journal file; `run` adds to them until there are enough."""

    def __init__(
        self,
        path: str | os.PathLike,
        space: Space,
        backend: str = "tpe",
        seed: int = 42,
        numbers: Evolution | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.backend, self.seed = space, backend, seed
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(os.fspath(path))),
            study_name=_NAME,
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        self.propose: Propose | None = {
            "evolution": lambda: evolution(space, seed, numbers or Evolution()),
            "random": lambda: random_search(space, seed),
        }.get(backend, lambda: None)()

    @property
    def settings(self) -> dict[str, Any]:
        """What a study is for: what it was told first; nothing where it is new."""
        return dict(self.study.user_attrs)

    def describe(self, settings: dict[str, Any]) -> None:
        """Say what the study is for."""
        for name, value in settings.items():
            self.study.set_user_attr(name, value)

    def trials(self) -> list[FrozenTrial]:
        """Those that are finished, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def history(self) -> list[Evaluated]:
        """What is known."""
        return [
            Evaluated(tuple(trial.user_attrs["lengths"]), *trial.values) for trial in self.trials()
        ]

    def run(
        self,
        evaluate: Callable[[Lengths], tuple[float, float, dict[str, Any]]],
        count: int,
        done: Callable[[FrozenTrial], None] = lambda trial: None,
    ) -> None:
        """Evaluate configurations until the study has `count` trials, those of other processes included.

        Args:
            evaluate: the score, the cost, and what else is to be kept of a configuration; of one that has
                been evaluated it is not asked again.
            done: told of each trial.
        """
        while (number := self._begin(count)) is not None:
            lengths = tuple(self.study.trials[number].user_attrs["lengths"])
            same = [
                trial for trial in self.trials() if tuple(trial.user_attrs["lengths"]) == lengths
            ]
            if same:
                score, cost = same[0].values
                facts = {"same_as": same[0].number}
            else:
                score, cost, facts = evaluate(lengths)
            storage, key = self.study._storage, self.study.trials[number]._trial_id
            for name, value in facts.items():
                storage.set_trial_user_attr(key, name, value)
            self.study.tell(number, (score, cost))
            done(self.study.trials[number])

    def _begin(self, count: int) -> int | None:
        """The number of a trial to evaluate: one that a killed process left, or a new one; or None."""
        running = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        for trial in running:
            owner = trial.user_attrs.get("owner")
            if "lengths" not in trial.user_attrs:
                if owner is not None and not _alive(owner):
                    self.study.tell(trial.number, state=TrialState.FAIL)
            elif not _alive(owner):
                self.study._storage.set_trial_user_attr(trial._trial_id, "owner", _me())
                return trial.number
        history = self.history()
        if len(history) + sum("lengths" in trial.user_attrs for trial in running) >= count:
            return None
        trial = self._ask(history)
        return None if trial is None else trial.number

    def _ask(self, history: list[Evaluated]) -> Trial | None:
        first = self.space.first()
        tried = {trial.lengths for trial in history}
        lengths: Lengths | None = next((some for some in first if some not in tried), None)
        if self.propose is not None and (lengths is None or self.backend == "evolution"):
            lengths = self.propose(history)
            if lengths is None:
                return None
        self.study.sampler = self._sampler(len(history))
        trial = self.study.ask()
        trial.set_user_attr("owner", _me())
        low = 1 - self.space.drop
        names = [f"ratio_{i + 1}" for i in range(self.space.layers)]
        if lengths is None:
            ratios = [trial.suggest_float(name, low, 1.0) for name in names]
            lengths = chain(self.space.longest, ratios, self.space.least)
        elif self.propose is None:  # the sampler is to learn from it as well
            before = (self.space.longest, *lengths)
            for name, a, b in zip(names, before, lengths, strict=False):
                distribution = FloatDistribution(low, 1.0)
                ratio = min(max(b / a, low), 1.0)
                self.study._storage.set_trial_param(trial._trial_id, name, ratio, distribution)
        trial.set_user_attr("lengths", list(lengths))
        return trial

    def _sampler(self, number: int) -> BaseSampler:
        """Of a seed of its own for every trial, so that draws depend on the history alone."""
        seed = (self.seed * 1_000_003 + number) % 2**32
        if self.backend == "nsga2":
            return NSGAIISampler(population_size=20, seed=seed)
        if self.backend == "gp":
            return GPSampler(seed=seed, n_startup_trials=10)
        return TPESampler(seed=seed, n_startup_trials=10)


def _me() -> list[Any]:
    return [socket.gethostname(), os.getpid(), _started(os.getpid())]


def _alive(owner: list[Any] | None) -> bool:
    """Whether the process that began a trial still runs; of another machine's that is not known: it does."""
    if owner is None or owner[0] != socket.gethostname():
        return owner is not None
    return owner[2] == _started(owner[1]) and owner[2] is not None and owner[1] != os.getpid()


def _started(pid: int) -> str | None:
    """When a process began, by the clock of the system; None if it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19]
