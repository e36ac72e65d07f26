"""What a processor has is read from what its system says of it, and nothing is measured."""

import pytest
import torch

from transformer import processor as module
from transformer.processor import Processor, from_cpuinfo, processor

EPYC = """processor\t: 0
vendor_id\t: {vendor}
model name\t: {name}
flags\t\t: fpu sse2 avx {flags} umip
bugs\t\t: avx512_bf16

processor\t: 1
vendor_id\t: Other
flags\t\t: fpu avx512f avx512_bf16
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm {flags}
CPU implementer\t: 0x41
"""


@pytest.mark.parametrize(
    "flags, vectors, bf16",
    [
        ("avx2", "AVX2", ""),
        ("avx2 avx512f avx512bw avx512_vnni", "AVX-512", ""),
        ("avx2 avx512f avx512_bf16", "AVX-512", "AVX-512 BF16"),
        ("avx2 avx512f avx512_bf16 amx_bf16 amx_tile", "AVX-512", "AVX-512 BF16, AMX BF16"),
        ("", "", ""),
    ],
)
def test_instructions_of_x86(flags, vectors, bf16):
    text = EPYC.format(vendor="AuthenticAMD", name="AMD EPYC", flags=flags)
    assert from_cpuinfo(text) == Processor("AMD EPYC", "AuthenticAMD", vectors, bf16)


@pytest.mark.parametrize(
    "flags, vectors, bf16", [("", "NEON", ""), ("sve", "SVE", ""), ("sve i8mm bf16", "SVE", "BF16")]
)
def test_instructions_of_arm(flags, vectors, bf16):
    found = from_cpuinfo(GRAVITON.format(flags=flags))
    assert (found.vendor, found.vectors, found.bf16) == ("", vectors, bf16) and found.name


def test_a_system_that_says_nothing_has_a_processor_all_the_same():
    assert from_cpuinfo("").instructions == "unknown vector instructions, no bfloat16"


@pytest.mark.parametrize(
    "words, capability, bf16, expected",
    [
        ("arm", "DEFAULT", False, Processor("arm")),
        ("AMD64 Family 25, AuthenticAMD", "AVX512", True,
         Processor("AMD64 Family 25, AuthenticAMD", "AuthenticAMD", "AVX-512", "AVX-512 BF16")),
        ("Intel64 Family 6, GenuineIntel", "AVX2", False,
         Processor("Intel64 Family 6, GenuineIntel", "GenuineIntel", "AVX2")),
    ],
)  # fmt: skip
def test_elsewhere_torch_is_asked(monkeypatch, tmp_path, words, capability, bf16, expected):
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "none")
    monkeypatch.setattr(module.platform, "processor", lambda: words)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert processor.__wrapped__() == expected


def test_a_torch_without_those_questions_is_done_without(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "none")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert processor.__wrapped__().bf16 == ""


def test_the_answer_is_the_same_each_time():
    assert processor.__wrapped__() == processor.__wrapped__() == processor()
