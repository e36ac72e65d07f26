"""Which configuration to try next, from those tried: each backend is a function of that history alone.

So a search that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.front import Evaluated, pareto_front
from search.lengths import Lengths, chain, spread_uniform, uniform

_TRIES = 1000  # new configurations that are looked for before a space counts as exhausted


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        layers, longest: N and L.
        least: the shortest length.
        drop: share of its tokens that a layer drops at most.
    """

    layers: int
    longest: int
    least: int
    drop: float = 0.5

    @property
    def full(self) -> Lengths:
        """Nothing dropped."""
        return (self.longest,) * self.layers

    @property
    def smallest(self) -> Lengths:
        """As much dropped as may be."""
        return uniform(self.longest, self.layers, self.drop, self.least)

    def first(self) -> list[Lengths]:
        """What every search begins with: nothing dropped, the smallest, and the same share everywhere."""
        some = [
            uniform(self.longest, self.layers, p / 100, self.least) for p in (5, 10, 15, 20, 30)
        ]
        return list(dict.fromkeys([self.full, self.smallest, *some]))


@dataclass(frozen=True)
class Evolution:
    """Numbers of the evolutionary search of Length-Adaptive Transformer."""

    population: int = 20
    mutations: int = 30
    crossovers: int = 30
    probability: float = 0.5


Propose = Callable[[Sequence[Evaluated]], Lengths | None]


def random_search(space: Space, seed: int) -> Propose:
    """Ratios drawn evenly."""

    def propose(history: Sequence[Evaluated]) -> Lengths | None:
        generator = random.Random(f"{seed} {len(history)}")
        tried = {trial.lengths for trial in history}
        for _ in range(_TRIES):
            ratios = [generator.uniform(1 - space.drop, 1) for _ in range(space.layers)]
            lengths = chain(space.longest, ratios, space.least)
            if lengths not in tried:
                return lengths
        return None

    return propose


def evolution(space: Space, seed: int, numbers: Evolution) -> Propose:
    """Mutations and crossovers of the front, generation by generation.

    A mutation draws a layer's length between the next layer's and that of the one before; a crossover is the
    mean of two. Ends where no new configuration is to be found.
    """
    begin = list(
        dict.fromkeys(
            [
                *space.first(),
                *spread_uniform(
                    space.longest, space.layers, numbers.population, space.drop, space.least
                ),
            ]
        )
    )
    generation = numbers.mutations + numbers.crossovers

    def propose(history: Sequence[Evaluated]) -> Lengths | None:
        tried = {trial.lengths for trial in history}
        for lengths in begin:
            if lengths not in tried:
                return lengths
        done = max(len(history) - len(begin), 0)
        front = pareto_front(history[: len(history) - done % generation])
        population = [trial.lengths for trial in front]
        generator = random.Random(f"{seed} {len(history)}")
        mutates = done % generation < numbers.mutations or len(population) < 2
        for _ in range(_TRIES):
            if mutates:
                child = _mutant(generator.choice(population), space, numbers.probability, generator)
            else:
                one, other = generator.sample(population, 2)
                child = tuple((a + b + 1) // 2 for a, b in zip(one, other, strict=True))
            if child not in tried:
                return child
        return None

    return propose


def _mutant(parent: Lengths, space: Space, probability: float, generator: random.Random) -> Lengths:
    child: list[int] = []
    for i, length in enumerate(parent):
        highest = child[-1] if child else space.longest
        if generator.random() < probability:
            lowest = parent[i + 1] if i + 1 < len(parent) else space.least
            length = generator.randint(min(lowest, highest), highest)
        child.append(min(length, highest))
    return tuple(child)
