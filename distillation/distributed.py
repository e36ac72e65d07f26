"""Where a process runs: its device and its place among the processes of a torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from transformer.errors import UserError


@dataclass(frozen=True)
class Runtime:
    """The device of this process, its rank, and how many processes share the run."""

    device: torch.device
    rank: int = 0
    world: int = 1
    host_group: Any = (
        None  # a gloo group: what the processes agree on without the device's taking part
    )

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def highest(self, value: int) -> int:
        """The highest of the processes' values; each must ask at the same steps."""
        if self.world == 1:
            return value
        values = torch.tensor([value])
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.host_group)
        return int(values)

    def highest_each(self, values: torch.Tensor) -> torch.Tensor:
        """The highest of the processes' values in each place of a tensor on their devices."""
        if self.world > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            dist.barrier()


def start_runtime(no_cuda: bool = False, local_rank: int = -1) -> Runtime:
    """Choose the device and, under `torchrun`, join the other processes.

    Args:
        no_cuda: stay on the CPU even where a GPU is at hand.
        local_rank: what `python -m torch.distributed.launch` passes; `torchrun` sets LOCAL_RANK instead.

    Raises:
        UserError: a local rank was given but the process was not started by a launcher.
    """
    cuda = torch.cuda.is_available() and not no_cuda
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        if local_rank != -1:
            raise UserError(
                f"--local_rank {local_rank}: start with torchrun, which sets the rank itself"
            )
        return Runtime(torch.device("cuda" if cuda else "cpu"))
    local_rank = int(os.environ.get("LOCAL_RANK", max(local_rank, 0)))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    group = dist.new_group(backend="gloo") if cuda else None
    return Runtime(device, dist.get_rank(), dist.get_world_size(), group)
