"""Which run an output folder holds: what `--resume` accepts, and what it refuses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillation.distributed import Runtime
from files.atomic import RUN_RECORD_NAME
from files.errors import UserError
from transformer.modeling import BertPreTrainedModel
from transformer.tokenization import BertTokenizer

INPUT_FLAGS = (
    "task_file",
    "teacher_model",
    "student_model",
    "bert_model",
    "vocab_model",
    "cache_dir",
    "config",
)
# What the settings of a run are made of: compared there where a checkpoint is resumed.
SETTING_FLAGS = (
    "eval_step", "optimizer", "clip", "schedule", "warmup_steps", "max_grad_norm", "adam_beta1",
    "adam_beta2", "adam_epsilon",
)  # fmt: skip
# In these a resumed run may differ from what it was: they say where something is (what matters of it is
# compared by content), what is told and kept, how the same numbers are computed, and what the settings hold.
FREE_FLAGS = {
    *INPUT_FLAGS, "data_dir", "task_name", "pregenerated_data", "output_dir", "feature_cache",
    "do_lower_case", "allow_weak_teacher", "dry_run", "resume", "overwrite_output_dir", "report_to",
    *SETTING_FLAGS, "eval_batch_size", "save_minutes", "save_steps", "nan_policy", "max_minutes",
    "patience",
    "gradient_accumulation_steps", "no_cuda", "no_cuda_graphs", "local_rank",
    "reduce_memory", "do_eval", "data_url",
    "bf16", "force_bf16", "fp16",  # the precision they lead to is compared
}  # fmt: skip


def identity_of_run(
    args: argparse.Namespace,
    facts: Mapping[str, Any],
    model: BertPreTrainedModel,
    tokenizer: BertTokenizer,
    precision: str,
) -> dict[str, Any]:
    """What tells a run from others, as plain values: a run is resumed only where all of it is the same."""
    sums = [split.get("sha256") for split in facts["data"].values()]
    identity = {name: value for name, value in vars(args).items() if name not in FREE_FLAGS} | {
        "data": json.dumps([tokenizer.vocab_hash, sums]),
        "teacher": facts.get("teacher_weights"),
        "do_lower_case": tokenizer.do_lower_case,
        "tokenizer": json.dumps(tokenizer.describe()),
        "precision": precision,
        # As older versions have it, where the task is one of GLUE.
        **{key: json.dumps(facts[key]) for key in ("task_definition",) if key in facts},
        **{f"config.{name}": value for name, value in model.config.to_dict().items()},
        "start_weights": facts["start_weights"],  # last: what else differs says more
    }
    return json.loads(json.dumps(identity))  # as a record gives it back


def check_agreement(identity: Mapping[str, Any], runtime: Runtime) -> None:
    """Refuse processes that are not given the same, such as machines with other copies of the data.

    Raises:
        UserError: it names the first thing that differs.
    """
    first = runtime.gather(identity)[0]
    for name in identity:
        if identity[name] != first.get(name):
            raise UserError(
                f"process {runtime.rank} of {runtime.world}: has another {name} than process 0; every "
                "machine needs the same files and flags"
            )


def is_finished(args: argparse.Namespace, facts: Mapping[str, Any], runtime: Runtime) -> bool:
    """Whether the output folder holds this run, finished.

    Raises:
        UserError: it holds another one; the message names all that differs.
    """
    folder = Path(args.output_dir)
    path, found = folder / RUN_RECORD_NAME, None
    if runtime.is_main and path.is_file():
        try:
            found = json.loads(path.read_bytes())
            found["arguments"], found["data"], found["stage"]
        except (ValueError, KeyError, TypeError, RecursionError):
            found = {}
    found = runtime.gather(found)[0]
    if found is None:
        return False
    if not found:
        raise UserError(f"{path}: is not the record of a run; leave out --resume to start again")
    differing = differences(found, facts, args)
    if not differing:
        return True
    advice = f"choose another --output_dir, or leave out --resume: {folder} is then moved aside"
    if {"num_train_epochs", "max_steps"} & differing.keys():
        start = "bert_model" if "bert_model" in vars(args) else "student_model"
        more = " --continue_train" * ("continue_train" in vars(args))
        advice += f"; to train its model further: --{start} {folder}{more} --output_dir ANOTHER"
    raise UserError(
        f"--output_dir {folder}: --resume found a finished run that is not this one: "
        f"{'; '.join(differing.values())}; {advice}"
    )


def differences(
    recorded: Mapping[str, Any], facts: Mapping[str, Any], args: argparse.Namespace
) -> dict[str, str]:
    """What a finished run does not share with the one that is asked for: name -> what is told of it.

    What an older record does not hold is passed over.
    """
    told = {}
    for name in ("stage", "task"):
        if recorded.get(name) != facts[name]:
            told[name] = f"the {name} was {recorded.get(name)}, is {facts[name]}"
    for split, now in facts["data"].items():
        before = recorded["data"].get(split, {})
        if before.get("sha256") != now["sha256"]:
            told[f"data.{split}"] = (
                f"the {split} data were {before.get('path')} ({_short(before.get('sha256'))}), are "
                f"{now['path']} ({_short(now['sha256'])})"
            )
    known = recorded["arguments"] | recorded.get("identity", {})
    also = {name: getattr(args, name) for name in SETTING_FLAGS}
    changed = {
        name: (known[name], value)
        for name, value in (facts["identity"] | also).items()
        if name in known and known[name] != value
    }
    for name, (before, now) in changed.items():
        if name == "data":
            if not any(other.startswith("data.") for other in told):
                told[name] = "the vocabulary is different"
        elif name in ("teacher", "start_weights"):
            what = {"teacher": "teacher", "start_weights": "model to start from"}[name]
            path = {"teacher": "teacher", "start_weights": "student"}[name]
            told[name] = (
                f"the {what} was {recorded[path]} ({_short(before)}), is {facts[path]} ({_short(now)})"
            )
        elif name == "tokenizer":
            told.setdefault(name, "the tokenizer's settings are different")
        elif name == "precision":
            told[name] = f"the precision was {before}, is {now}"
        else:
            flag = name if name.startswith("config.") else f"--{name}"
            told[name] = f"{flag} was {before}, is {now}"
    return told


def _short(checksum: Any) -> str:
    """The beginning of a checksum, or of the first of several."""
    first = checksum[0] if isinstance(checksum, list) and checksum else checksum
    return f"SHA-256 {str(first)[:12]}…"
