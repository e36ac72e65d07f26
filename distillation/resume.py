"""What a checkpoint holds, and how a run goes on from one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from distillation.run_log import RunLog
from transformer.errors import UserError

if TYPE_CHECKING:
    from distillation.training import TrainingSettings


def identity_of(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that a resumed run must share: those that change what is learned."""
    free = {"accumulation", "eval_step", "save_minutes", "save_steps", "nan_policy"}
    return {name: value for name, value in asdict(settings).items() if name not in free}


def run_state(model, optimizer, scaler, keeper, log, step) -> dict[str, Any]:
    """Everything a resumed run needs to go on as if nothing had happened."""
    return {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "keeper": keeper.state_dict(),
        "log": log.state_dict(),
        "log_bytes": log.bytes_written(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(state, path, identity, model, optimizer, scaler, keeper, seed, runtime) -> None:
    """Take everything back from a checkpoint, except the log, which is not open yet.

    Raises:
        UserError: it is of another run, of another model, or of another version of this program.
    """
    again = "resume with the same data and flags, or start again with --overwrite_output_dir"
    for name, own in identity.items():
        if name in state and state[name] != own:
            if name == "total":
                kind = f"a run of {state[name]} steps, this one has {own}"
            elif name == "data":
                kind = "a run on other data"
            else:
                kind = f"a run with {name} {state[name]}, this one has {own}"
            raise UserError(f"{path}: belongs to {kind}; {again}")
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        keeper.load_state_dict(state["keeper"])
        RunLog.check_state(state["log"])
        if not 0 < state["step"] < identity["total"] or state["log_bytes"] < 0:
            raise ValueError("step")
        if runtime.is_main:
            torch.set_rng_state(state["rng"])
            if state["cuda_rng"]:
                torch.cuda.set_rng_state_all(state["cuda_rng"])
        else:  # the checkpoint holds the main process's generator; others draw a stream of their own
            torch.manual_seed(hash((seed, runtime.rank, state["step"])) % 2**63)
    except KeyError as error:
        raise UserError(
            f"{path}: lacks {error}, of another version of this program; {again}"
        ) from None
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: belongs to another model; {again}") from error
