"""BertAdam, with which BERT was trained, AdamW, and their learning-rate schedules."""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

# So many elements are updated at a time: on a CPU all they need stays in the cache, on a GPU the
# temporaries (twice as much) stay small.
CHUNK_ELEMENTS = {"cpu": 2**18, "cuda": 2**25}


def warmup_linear(x: float, warmup: float = 0.002) -> float:
    """Rise from 0 to 1 over the first `warmup` of progress `x`, then fall to 0 at x = 1."""
    return x / warmup if x < warmup else max(0.0, (x - 1.0) / (warmup - 1.0))


def warmup_constant(x: float, warmup: float = 0.002) -> float:
    """Rise from 0 to 1 over the first `warmup` of progress `x`, then stay at 1."""
    return x / warmup if x < warmup else 1.0


def warmup_cosine(x: float, warmup: float = 0.002) -> float:
    """Rise from 0 to 1 over the first `warmup` of progress `x`, then follow half a cosine to 0 at x = 1.

    As in BERT's original, the cosine is that of the whole training: after the rise the rate steps down
    to what it is there at x = `warmup`.
    """
    return x / warmup if x < warmup else 0.5 * (1.0 + math.cos(math.pi * min(x, 1.0)))


def warmup_polynomial(x: float, warmup: float = 0.002, power: float = 2.0) -> float:
    """Rise from 0 to 1 over the first `warmup` of progress `x`, then fall to 0 at x = 1 by a power."""
    return x / warmup if x < warmup else max(0.0, (x - 1.0) / (warmup - 1.0)) ** power


def constant(x: float, warmup: float = 0.002) -> float:
    """Return 1 whatever the progress."""
    return 1.0


CLIPS = ("tensor", "global")


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "none": constant,
    "warmup_constant": warmup_constant,
    "warmup_cosine": warmup_cosine,
    "warmup_linear": warmup_linear,
    "warmup_polynomial": warmup_polynomial,
}


# torch wraps these methods for its compiler, whose import at their first call takes longer than many an
# evaluation; no optimiser step is compiled here.
_add_param_group = inspect.unwrap(Optimizer.add_param_group)


class Update(NamedTuple):
    """What a step does to some parameters of one group, device and type; `lr` may be a tensor on theirs."""

    params: list[Tensor]
    group: dict[str, Any]
    lr: float | Tensor


class BertAdam(Optimizer):
    """Adam as BERT uses it: no bias correction, decoupled weight decay, clipping tensor by tensor.

    For every parameter tensor p with gradient g, at its step t = 0, 1, …:

        g ← g · min(1, max_grad_norm / (norm + 1e-6))       (in place, as `clip_grad_norm_`)
        m ← b1·m + (1 − b1)·g,    v ← b2·v + (1 − b2)·g²
        p ← p − lr · schedule(t / t_total) · (m / (√v + e) + weight_decay · p)

    where norm is ‖g‖, or with `clip="global"` that of all gradients together. The tensors are updated many
    at a time, and nothing waits for the device.

    Attributes:
        nonfinite: after a step, a bool tensor: whether a gradient held NaN or infinity (None where
            gradients are not clipped and so were not measured).

    Args:
        params: parameters, or groups of them; a group may set any of the options below for itself.
        lr: peak learning rate.
        warmup: fraction of `t_total` over which the rate rises from 0; -1 for none.
        t_total: number of steps of the whole training; -1 keeps the rate constant.
        schedule: a key of `SCHEDULES`.
        max_grad_norm: largest norm of a gradient; -1 leaves gradients as they are.
        skip_nonfinite: a step with a gradient that is not finite changes no weight and no moment; only
            the schedule continues. Needs `max_grad_norm` > 0.
        clip: whose norm `max_grad_norm` limits: each `tensor`'s, or the `global` one of all gradients.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        warmup: float = -1,
        t_total: int = -1,
        schedule: str = "warmup_linear",
        b1: float = 0.9,
        b2: float = 0.999,
        e: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
        skip_nonfinite: bool = False,
        clip: str = "tensor",
    ):
        if clip not in CLIPS:
            raise ValueError(f"clip is {clip!r}; expected one of {list(CLIPS)}")
        defaults = {
            "lr": lr,
            "schedule": schedule,
            "warmup": warmup,
            "t_total": t_total,
            "b1": b1,
            "b2": b2,
            "e": e,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
        }
        super().__init__(params, defaults)
        self.skip_nonfinite, self.clip = skip_nonfinite, clip
        self.nonfinite: Tensor | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options it does not set are the optimiser's."""
        _check_options({**self.defaults, **param_group})
        _add_param_group(self, param_group)

    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def get_lr(self) -> list[float]:
        """Return, for each parameter group, the learning rate that its next step will use."""
        return [
            _scheduled_lr(
                group,
                max((self.state.get(p, {}).get("step", 0) for p in group["params"]), default=0),
            )
            for group in self.param_groups
        ]

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; return what `closure` returns, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.apply(self.due())
        return loss

    def due(self) -> list[Update]:
        """What the coming step does, counting it as done: the part of `step` that needs no device."""
        updates = []
        for group in self.param_groups:
            # Tensors of one learning rate, device and type go together; nearly always that is all.
            alike = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state.update(self._new_state(p))
                    alike[state["step"], p.device, p.dtype].append(p)
            for (step, _, _), params in alike.items():
                updates.append(Update(params, group, _scheduled_lr(group, step)))
                for p in params:
                    self.state[p]["step"] += 1
        return updates

    @torch.no_grad()
    def apply(self, updates: Sequence[Update]) -> None:
        """Clip the gradients and move the weights: the part of `step` that is the device's alone.

        With rates as tensors it can be recorded and replayed with other ones.
        """
        self._clip(updates)
        for update in updates:
            self._update(*update)

    def _new_state(self, p: Tensor) -> dict[str, Any]:
        return {"step": 0, "next_m": torch.zeros_like(p), "next_v": torch.zeros_like(p)}

    def _clip(self, updates: Sequence[Update]) -> None:
        """Scale gradients in place to their largest norm; note whether one is not finite."""
        norms = [
            torch.stack(torch._foreach_norm([p.grad for p in params]))
            for params, group, _ in updates
            if group["max_grad_norm"] > 0
        ]
        if not norms:
            self.nonfinite = None
            return
        device = norms[0].device
        self.nonfinite = ~torch.cat([n.to(device) for n in norms]).isfinite().all()
        if self.clip == "global":
            total = torch.cat([n.to(device) for n in norms]).norm()
            norms = [total.to(n.device, n.dtype).expand_as(n) for n in norms]
        clipped = (update for update in updates if update.group["max_grad_norm"] > 0)
        for (params, group, _), norm in zip(clipped, norms, strict=True):
            grads = [p.grad for p in params]
            scale = (group["max_grad_norm"] / (norm + 1e-6)).clamp_(max=1.0)
            if self.skip_nonfinite:
                for grad in grads:
                    grad.nan_to_num_(0.0, 0.0, 0.0)
                scale = scale.nan_to_num_(0.0).masked_fill_(self.nonfinite.to(scale.device), 0.0)
            torch._foreach_mul_(grads, list(scale))

    def _update(self, params: list[Tensor], group: dict[str, Any], lr: float | Tensor) -> None:
        states = [self.state[p] for p in params]
        tensors = (
            (p, p.grad, s["next_m"], s["next_v"]) for p, s in zip(params, states, strict=True)
        )
        limit = CHUNK_ELEMENTS.get(params[0].device.type, 2**25)
        b1, b2, kept = group["b1"], group["b2"], None
        if self.skip_nonfinite and self.nonfinite is not None:
            # A skipped step: moments times 1 plus nothing, weights plus nothing.
            skipped = self.nonfinite.to(params[0].device)
            kept = (~skipped).to(params[0].dtype)
            b1, b2 = (torch.where(skipped, 1.0, b).to(params[0].dtype) for b in (b1, b2))
        for values, grads, next_m, next_v in _chunks(tensors, limit):
            torch._foreach_mul_(next_m, b1)
            torch._foreach_add_(next_m, grads, alpha=1 - group["b1"])
            torch._foreach_mul_(next_v, b2)
            torch._foreach_addcmul_(next_v, grads, grads, value=1 - group["b2"])
            root = torch._foreach_sqrt(next_v)
            torch._foreach_add_(root, group["e"])
            update = torch._foreach_div(next_m, root)
            if group["weight_decay"] > 0:
                # Not p·(1 − lr·decay): at usual rates that factor keeps one digit in float32.
                torch._foreach_add_(update, values, alpha=group["weight_decay"])
            if kept is not None:
                torch._foreach_mul_(update, kept)
            if isinstance(lr, Tensor):
                torch._foreach_mul_(update, lr)
                torch._foreach_sub_(values, update)
            else:
                torch._foreach_add_(values, update, alpha=-lr)


class AdamW(BertAdam):
    """`torch.optim.AdamW`, by its own kernel, with the schedules, clipping and skipping of `BertAdam`.

        m̂ ← m / (1 − b1ᵗ⁺¹),    v̂ ← v / (1 − b2ᵗ⁺¹)
        p ← p − lr · schedule(t / t_total) · (m̂ / (√v̂ + e) + weight_decay · p)

    A step that `skip_nonfinite` leaves out does not count in the bias correction. The arguments are those
    of `BertAdam`; gradients are clipped together and e is 1e-8, unless they say otherwise.
    """

    def __init__(
        self, params, lr: float, e: float = 1e-8, clip: str = "global", **options: Any
    ) -> None:
        super().__init__(params, lr, e=e, clip=clip, **options)

    def _new_state(self, p: Tensor) -> dict[str, Any]:
        return super()._new_state(p) | {"applied": torch.zeros((), dtype=p.dtype, device=p.device)}

    def _update(self, params: list[Tensor], group: dict[str, Any], lr: float | Tensor) -> None:
        states = [self.state[p] for p in params]
        applied = [state["applied"] for state in states]
        skipped = None
        torch._foreach_add_(applied, 1)
        if self.skip_nonfinite and self.nonfinite is not None:
            skipped = self.nonfinite.to(params[0].device, torch.float32)
            torch._foreach_sub_(applied, skipped.to(params[0].dtype))
        # The kernel walks through memory: a gradient must lie as its parameter does.
        grads = [
            p.grad if p.grad.stride() == p.stride() else torch.empty_like(p).copy_(p.grad)
            for p in params
        ]
        torch._fused_adamw_(
            params, grads, [s["next_m"] for s in states], [s["next_v"] for s in states], [], applied,
            lr=lr, beta1=group["b1"], beta2=group["b2"], weight_decay=group["weight_decay"],
            eps=group["e"], amsgrad=False, maximize=False, found_inf=skipped,
        )  # fmt: skip


OPTIMIZERS: dict[str, type[BertAdam]] = {"bertadam": BertAdam, "adamw": AdamW}


def _scheduled_lr(group: dict[str, Any], step: int) -> float:
    if group["t_total"] == -1:
        return group["lr"]
    progress = step / group["t_total"]
    return group["lr"] * SCHEDULES[group["schedule"]](progress, max(group["warmup"], 0.0))


def _chunks(rows: Iterable[tuple[Tensor, ...]], limit: int) -> Iterator[list[list[Tensor]]]:
    """Cut rows of equally shaped tensors into columns of at most `limit` elements.

    Contiguous tensors are cut as well; one that is not stays whole.
    """
    chunks, size = [], 0
    for row in rows:
        if all(tensor.is_contiguous() for tensor in row):
            parts = list(zip(*(tensor.view(-1).split(limit) for tensor in row), strict=True))
        else:
            parts = [row]
        for part in parts:
            if chunks and size + part[0].numel() > limit:
                yield [list(column) for column in zip(*chunks, strict=True)]
                chunks, size = [], 0
            chunks.append(part)
            size += part[0].numel()
    if chunks:
        yield [list(column) for column in zip(*chunks, strict=True)]


def _check_options(options: dict[str, Any]) -> None:
    if not 0.0 <= options["lr"] < math.inf:
        raise ValueError(f"lr is {options['lr']}; expected a finite number >= 0")
    if options["schedule"] not in SCHEDULES:
        raise ValueError(f"schedule is {options['schedule']!r}; expected one of {list(SCHEDULES)}")
    if options["warmup"] != -1 and not 0.0 <= options["warmup"] < 1.0:
        raise ValueError(f"warmup is {options['warmup']}; expected -1 or a fraction in [0, 1)")
    if options["t_total"] != -1 and options["t_total"] < 1:
        raise ValueError(f"t_total is {options['t_total']}; expected -1 or a number of steps >= 1")
    for name in ("b1", "b2"):
        if not 0.0 <= options[name] < 1.0:
            raise ValueError(f"{name} is {options[name]}; expected a number in [0, 1)")
    for name in ("e", "weight_decay"):
        if not 0.0 <= options[name] < math.inf:
            raise ValueError(f"{name} is {options[name]}; expected a finite number >= 0")
