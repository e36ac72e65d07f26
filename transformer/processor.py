"""What this machine's processor is and which instructions it has, as its system reports them.

Nothing here is measured: the answers are the same whenever they are asked for on one machine.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import NamedTuple

import torch

_CPUINFO = Path("/proc/cpuinfo")
# The widest first.
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}
_BF16 = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX BF16", "bf16": "BF16"}


class Processor(NamedTuple):
    """A processor.

    Attributes:
        name: such as `AMD EPYC`.
        vendor: as x86 processors name their maker, such as `AuthenticAMD`; empty where unknown.
        vectors: its widest vector instructions, such as `AVX2`; empty where unknown.
        bf16: its instructions that multiply bfloat16, such as `AVX-512 BF16`; empty where it has none.
    """

    name: str
    vendor: str = ""
    vectors: str = ""
    bf16: str = ""

    @property
    def instructions(self) -> str:
        """Both kinds of instructions in words."""
        return f"{self.vectors or 'unknown vector instructions'}, {self.bf16 or 'no bfloat16'}"


@functools.cache
def processor() -> Processor:
    """The processor of this machine."""
    try:
        return from_cpuinfo(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # not Linux
        return _by_torch()


def from_cpuinfo(text: str) -> Processor:
    """The first processor of a Linux `/proc/cpuinfo`; of x86, or of ARM, which gives no name."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = {*facts.get("flags", "").split(), *facts.get("Features", "").split()}
    return Processor(
        facts.get("model name") or platform.machine(),
        facts.get("vendor_id", ""),
        next((name for flag, name in _VECTORS.items() if flag in flags), ""),
        ", ".join(name for flag, name in _BF16.items() if flag in flags),
    )


def _by_torch() -> Processor:
    """What torch finds on systems without `/proc/cpuinfo`. Of macOS it knows nothing of bfloat16."""
    words = platform.processor() or platform.machine()
    vendor = next((name for name in ("AuthenticAMD", "GenuineIntel") if name in words), "")
    vectors = {"AVX512": "AVX-512", "AVX2": "AVX2"}.get(torch.backends.cpu.get_cpu_capability(), "")
    asked = {
        "AVX-512 BF16": "_is_avx512_bf16_supported",
        "AMX BF16": "_is_amx_tile_supported",
    }  # none is part of torch's documented interface
    found = (name for name, ask in asked.items() if getattr(torch.cpu, ask, lambda: False)())
    return Processor(words, vendor, vectors, ", ".join(found))
