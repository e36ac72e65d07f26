"""What a checkpoint holds, and how a run resumes from one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from distillation.distributed import Runtime
from distillation.run_log import RunLog
from files.errors import UserError
from transformer.linear import products_by
from transformer.processor import processor

if TYPE_CHECKING:
    from distillation.training import TrainingSettings


# What checkpoints of older versions do not say, because there was only one kind.
UNSAID = {"optimizer_name": "bertadam", "clip": "tensor"}
LOG_SUMS = ("sums", "by_layer")  # what each process has added up for the next line of the log


def identity_of(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that a resumed run must share: those that change what is learned."""
    free = {"accumulation", "eval_step", "save_minutes", "save_steps", "nan_policy", "recorded"}
    return {name: value for name, value in asdict(settings).items() if name not in free}


def arithmetic(device: torch.device) -> str:
    """What the bits of a result depend on besides the settings: the processor and its library, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    here = processor()
    kind = " ".join(filter(None, (here.vendor, here.vectors))) or here.name
    return f"{kind}, matrix products by {products_by()}"


def run_state(model, optimizer, scaler, keeper, log, step, runtime) -> dict[str, Any]:
    """Everything a resumed run needs to continue as if nothing had happened.

    Every process must ask: each has a generator, and a share of the losses not yet logged.
    """
    cuda = runtime.device.type == "cuda"
    cuda_rng = torch.cuda.get_rng_state(runtime.device) if cuda else None
    own = log.state_dict()
    for part in LOG_SUMS:
        own[part] = {name: value.cpu() for name, value in own[part].items()}
    logs, rngs, cuda_rngs = zip(
        *runtime.gather((own, torch.get_rng_state(), cuda_rng)), strict=True
    )
    return {
        "step": step,
        "arithmetic": arithmetic(runtime.device),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "keeper": keeper.state_dict(),
        "log_bytes": log.bytes_written(),
        # Of each process, by rank.
        "log": list(logs),
        "rng": list(rngs),
        "cuda_rng": list(cuda_rngs),
    }


def log_of(state: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
    """What this process had added up; of another number of processes the first takes it all."""
    logs = state["log"]
    if len(logs) == runtime.world:
        return logs[runtime.rank]
    if not runtime.is_main:
        return logs[0] | {part: {} for part in LOG_SUMS}
    return logs[0] | {
        part: {name: sum(log[part][name] for log in logs) for name in logs[0][part]}
        for part in LOG_SUMS
    }


def restore(state, path, identity, model, optimizer, scaler, keeper, seed, runtime) -> None:
    """Take everything back from a checkpoint, except the log, which is not open yet.

    Raises:
        UserError: it is of another run, of another model, or of another version of this program.
    """
    again = "resume with the same data and flags, or start again with --overwrite_output_dir"
    of_run = UNSAID | state
    for name, own in identity.items():
        if name in of_run and of_run[name] != own:
            if name == "total":
                kind = f"a run of {state[name]} steps, this one has {own}"
            elif name == "data":
                kind = "a run on other data"
            elif name == "teacher":
                kind = "a run with another teacher"
            elif name == "precision":
                kind = (
                    f"a run in {state[name]}, this one is in {own} (--bf16, --force_bf16, --fp16)"
                )
            elif name == "start_weights":
                kind = "a run that started from another model"
            else:
                told = "optimizer" if name == "optimizer_name" else name
                kind = f"a run with {told} {of_run[name]}, this one has {own}"
            raise UserError(f"{path}: belongs to {kind}; {again}")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        for log in state["log"]:
            RunLog.check_state(log)
        if not 0 < state["step"] < identity["total"] or state["log_bytes"] < 0:
            raise ValueError("step")
        rngs, cuda_rngs = state["rng"], state["cuda_rng"]
        if not 0 < len(rngs) == len(cuda_rngs) == len(state["log"]):
            raise ValueError("processes")
        if len(rngs) == runtime.world:
            torch.set_rng_state(rngs[runtime.rank])
            if cuda_rngs[runtime.rank] is not None and runtime.device.type == "cuda":
                torch.cuda.set_rng_state(cuda_rngs[runtime.rank], runtime.device)
        else:
            torch.manual_seed(hash((seed, runtime.rank, state["step"])) % 2**63)
            if runtime.is_main:
                print(
                    f"note: {path} is of {len(rngs)} processes, this run has {runtime.world}: "
                    "dropout masks will differ",
                    file=sys.stderr,
                )
        here = arithmetic(runtime.device)
        if runtime.is_main and state.get("arithmetic", here) != here:
            print(
                f"note: {path} was computed by {state['arithmetic']}, this run is by {here}: what follows "
                "equals an uninterrupted run up to rounding, not bit for bit",
                file=sys.stderr,
            )
        if runtime.is_main:  # last, because it moves files
            keeper.load_state_dict(state["keeper"])
    except KeyError as error:
        raise UserError(
            f"{path}: lacks {error}, of another version of this program; {again}"
        ) from None
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: belongs to another model; {again}") from error
