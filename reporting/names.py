"""What report.py calls a model, by the folder it lies in: which recipe, which task, which seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reporting.results import Results

ABLATION = "ablation_"  # begins the names of the folders that ablation.sh writes


class Published(NamedTuple):
    """A model of the published table: what the report calls it, its depth, and how it came about."""

    name: str
    layers: int
    recipe: str


# By folder name without its task, in the report's order.
MODELS = {
    "final_teacher": Published("teacher", 12, ""),
    "labels_only_4l": Published("4-layer student", 4, ", labels only"),
    "tinybert_4l_no_gd": Published("TinyBERT_4", 4, ", task distillation only"),
    "distilled_tinybert_4l": Published("TinyBERT_4", 4, ", general + task"),
    "distilled_tinybert_6l": Published("TinyBERT_6", 6, ", general + task"),
    "tinybert_6l_smart_init_direct": Published(
        "TinyBERT_6", 6, " smart init, no task distillation"
    ),
    "tinybert_6l_smart_init_direct_tsd": Published("TinyBERT_6", 6, " smart init, task"),
    "tinybert_6l_smart_init": Published("TinyBERT_6", 6, " smart init, general + task"),
}

_SEED = re.compile(r"(^|[-_.])(seed[-_=]?|s)?(\d+)(?=$|[-_.])", re.IGNORECASE)


def model_of(folder: str | Path, task: str | None, seed: int | None = None) -> tuple[str, str]:
    """The model that lies in a folder, and its seed.

    A recipe of reproduction.sh or ablation.sh is one model, whatever the task: its name is without it.
    Every other folder goes by its own name: `distilled_tinybert_4l_rte-seed2` on RTE is
    `("distilled_tinybert_4l", "2")`, `mine_rte_s43` and `seed43/mine_rte` are `("mine_rte", "43")`.

    Args:
        seed: as the model's record has it; it is right whatever the name says.

    Returns:
        The model and its seed, which is "" where neither tells.
    """
    path = Path(folder)
    name, told = _without_seed(path.name, seed)
    rest, parents = _without_seed(path.parent.name, seed)
    if not name:  # rte/seed43
        name = path.parent.name or path.name
    elif told is None and not rest:  # seed43/rte
        told = parents
    number = str(seed) if seed is not None else told or ""
    recipe = _without_task(name, task)
    return recipe if is_recipe(recipe.removeprefix("tmp_")) else name, number


def is_recipe(model: str) -> bool:
    """Whether a model is one of those that reproduction.sh and ablation.sh make for every task."""
    return model in MODELS or model.startswith(ABLATION)


def _without_seed(name: str, seed: int | None) -> tuple[str, str | None]:
    """A name without the words that tell the seed, and what they tell.

    Where the seed is known, other numbers are not seeds, and a last word that is this number is.
    """
    for found in _SEED.finditer(name):
        marker, number = (found[2] or "").lower(), found[3]
        inside, last = found.start() > 0, found.end() == len(name)
        if seed is not None:
            is_seed = int(number) == seed and (bool(marker) or (inside and last))
        else:
            is_seed = marker.startswith("seed") or (marker == "s" and inside and last)
        if is_seed:
            return (name[: found.start()] + name[found.end() :]).lstrip("-_."), number
    return name, None


def _without_task(name: str, task: str | None) -> str:
    if not task:
        return name
    key = re.escape(task.lower().replace("-", ""))
    return re.sub(rf"(^|[_-]){key}(?=[_-]|$)", "", name).lstrip("_-")


def published_label(model: str) -> str:
    """What the report calls a model of the published size; others go by their folder's name."""
    known = MODELS.get(model)
    return known.name + known.recipe if known else model


def label(results: Results, model: str) -> str:
    """What the report calls a model of this run: a stand-in of another depth is not TinyBERT_4.

    A model that was not scored is called as its like are: a run of stand-ins has no TinyBERT_6.
    """
    base, mark, told = model.partition(" (")
    if mark and base in MODELS:  # kept apart from the others of its name
        return f"{label(results, base)} ({told}"
    known = MODELS.get(model)
    if known is None:
        return model
    depths = {MODELS[m].layers: n for m, n in results.layers.items() if m in MODELS}
    layers = results.layers.get(model) or depths.get(known.layers)
    if layers is None and all(layers == published for published, layers in depths.items()):
        layers = known.layers
    if layers == known.layers:
        return published_label(model)
    kind = "teacher" if known.name == "teacher" else "student"
    if layers is None:
        return f"stand-in for the {known.layers}-layer {kind}{known.recipe}"
    return f"{layers}-layer {kind}{known.recipe}"


def stand_ins(results: Results) -> str:
    """A sentence on the models whose depth is not the published one; empty where all have it."""
    found = {
        (known.layers, results.layers[model]): known.name
        for model, known in MODELS.items()
        if results.layers.get(model, known.layers) != known.layers
    }
    if not found:
        return ""
    parts = (
        f"{here} layers for the {'teacher' if name == 'teacher' else 'student'} of {published}"
        for (published, here), name in found.items()
    )
    return f" The models are stand-ins of other depths than the published ones: {', '.join(parts)}."
