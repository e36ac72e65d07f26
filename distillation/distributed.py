"""Where a process runs: its device and its place among the processes of a torchrun."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from files import errors
from files.errors import Mishap, UserError, setting

# Others wait while one process evaluates, converts or downloads. A process that died is noticed by
# torchrun, which ends the others; no clock is needed for that.
_PATIENCE = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Runtime:
    """The device of this process, its rank, and how many processes share the run.

    Attributes:
        rank: this process among all `world`.
        local_rank: this process among those of its machine.
        host_group: a gloo group: what the processes agree on without the device's taking part.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    host_group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def highest(self, value: int) -> int:
        """The highest of the processes' values; each must ask at the same steps."""
        if self.world == 1:
            return value
        values = torch.tensor([value])
        with self.exchange():
            dist.all_reduce(values, dist.ReduceOp.MAX, group=self.host_group)
        return int(values)

    def highest_each(self, values: Tensor) -> Tensor:
        """The highest of the processes' values in each place of a tensor on their devices."""
        if self.world > 1:
            with self.exchange():
                dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def total(self, values: Tensor) -> Tensor:
        """The sum of the processes' values in each place of a tensor on their devices."""
        if self.world > 1:
            with self.exchange():
                dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; anything that can be pickled."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with self.exchange():
            dist.all_gather_object(values, value, group=self.host_group)
        return values

    @contextlib.contextmanager
    def one_after_another(self) -> Iterator[None]:
        """Let the main process through first, then one process of each machine, then the rest.

        What the block writes once, each process after the first finds, also on machines that share
        no disk.
        """
        turn = 0 if self.is_main else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.wait()
        yield
        for _ in range(2 - turn):
            self.wait()

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            with self.exchange():
                dist.barrier()

    @contextlib.contextmanager
    def exchange(self) -> Iterator[None]:
        """Around what the processes do together: one that has ended is named as the reason.

        Raises:
            Mishap: in place of what torch raises where another process is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise Mishap(
                f"process {self.rank} of {self.world}: another process of this run has ended; its own "
                "message says why"
            ) from error


def start_runtime(no_cuda: bool = False, local_rank: int = -1) -> Runtime:
    """Choose the device and, under `torchrun`, join the other processes.

    Args:
        no_cuda: stay on the CPU even where a GPU is at hand.
        local_rank: what `python -m torch.distributed.launch` passes; `torchrun` sets LOCAL_RANK instead.

    Raises:
        UserError: a local rank was given but the process was not started by a launcher.
    """
    cuda = torch.cuda.is_available() and not no_cuda
    if not cuda:
        # torch reads it at its first large tensor. Such tensors are given back when freed; in pages of
        # 2 MiB the next one is had for less: GELU of 50 MB took 13 ms instead of 32.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        if local_rank != -1:
            raise UserError(
                f"{setting('local_rank')} {local_rank}: start with torchrun, which sets the rank itself"
            )
        return Runtime(torch.device("cuda" if cuda else "cpu"))
    local_rank = int(os.environ.get("LOCAL_RANK", max(local_rank, 0)))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
        atexit.register(_part)
    group = dist.new_group(backend="gloo", timeout=_PATIENCE) if cuda else None
    return Runtime(device, dist.get_rank(), dist.get_world_size(), local_rank, group)


def _part() -> None:
    """Part from the other processes, while the interpreter is still whole.

    torch's threads may hold tensors of the last exchange; freed any later they end the process with SIGABRT.
    A process that has failed leaves an exchange behind that nobody will finish, and would wait for it.
    """
    if errors.failed_with:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(errors.failed_with)
    dist.destroy_process_group()
