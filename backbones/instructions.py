"""Which instructions the CPU computes with: another set rounds otherwise, with equal packages."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

# Units that PyTorch's kernels use beyond their capability (AVX2, AVX512).
UNITS = ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "avx10_2")
# What is set to use fewer, and what makes MKL compute alike on several processors.
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def instructions(environment: Mapping[str, str] = os.environ) -> str:
    """Make of the processor, capability of PyTorch, further units, and limits by environment variables.

    For example "Intel Xeon, AVX512, avx512_bf16, amx_bf16". Two processors of one description gave the same
    bits wherever it was tried; of two descriptions, a few answers in a thousand differed.
    """
    tell = getattr(torch.cpu, "get_capabilities", None)
    has: Mapping[str, object] = tell() if tell is not None else {}
    parts = [str(has.get("cpu_name", "")), torch.backends.cpu.get_cpu_capability()]
    parts += [unit for unit in UNITS if has.get(unit)]
    parts += [f"{name}={environment[name]}" for name in LIMITS if environment.get(name)]
    return ", ".join(filter(None, parts))
