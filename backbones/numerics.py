"""Device, precision, threads and kind of attention: all that may change the last bits, chosen per machine.

The choice enters every key and record, so one machine must always make the same: measurements are made once
and kept in the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from timm.layers.attention import Attention
from torch import nn

from backbones.instructions import instructions
from benchmarks.errors import RequestError
from benchmarks.store import Store

MARGIN = 1.15  # the other kind of attention must be this much faster before the default is left
PAIRS = 7
MAX_THREADS = 8


@dataclass(frozen=True)
class Numerics:
    """device: "cpu", "cuda" or "cuda:1"; dtype: "float32" or "bfloat16" (by autocast; weights stay float32).

    threads: of one cell on the CPU; fused_training: whether gradients go through fused attention, None if it
    was not measured (then fused, PyTorch's default); device_name: the processor in words.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    fused_training: bool | None = None
    device_name: str = ""

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which matrix products run in `dtype`; nothing for float32."""
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=getattr(torch, self.dtype))

    def apply(self) -> None:
        """Set the process's thread count; bits differ between thread counts."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def on_cpu(self) -> Numerics:
        """The same for small work on cached features: on the CPU, in float32."""
        return replace(self, device="cpu", dtype="float32")

    def describe(self) -> str:
        """One line for the record and the screen."""
        attention = {None: "fused (not measured)", True: "fused (measured)", False: "unfused (measured)"}
        device = f"{self.device} ({self.device_name})" if self.device_name else self.device
        threads = f"{self.threads} thread" + ("s" if self.threads != 1 else "")
        return f"{device}, {self.dtype}, {threads}, training attention {attention[self.fused_training]}"


def choose(device: str | None = None, store: Store | None = None, threads: int | None = None) -> Numerics:
    """The numerics to compute with; RequestError for a device that does not exist.

    device: None takes the first GPU, else the CPU; threads: None takes the physical cores, at most 8;
    without a store nothing is measured.
    """
    device = _device(device)
    threads = min(physical_cores(), MAX_THREADS) if threads is None else threads
    if threads < 1:
        raise RequestError(f"threads={threads} must be at least 1")
    on_gpu = device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if on_gpu else _processor()
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else cpu_has_bfloat16()
    plain = Numerics(device, "bfloat16" if fast else "float32", threads, None, name)
    if store is None:
        return plain
    fused = _remembered(plain, store)
    return replace(plain, fused_training=fused)


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; if not, bfloat16 is thirty times slower than float32."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    if tell is not None:
        has = tell()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    tests = (getattr(torch.cpu, f"_is_{what}_supported", bool) for what in ("avx512_bf16", "amx_tile"))
    return any(test() for test in tests)


def physical_cores() -> int:
    """Physical cores that this process may use (Linux tells siblings; elsewhere, logical cores)."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = set()
    for number in allowed:
        file = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        try:
            cores.add(file.read_text().strip())
        except OSError:
            cores.add(str(number))
    return max(1, min(len(cores), _quota()))


def measure_fused(numerics: Numerics) -> tuple[float, float]:
    """Seconds of forward and backward through attention, (fused, unfused): medians of interleaved pairs.

    The block is a ViT's (width 192, 3 heads, 65 tokens, 64 images). The global random state is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        attention = Attention(192, num_heads=3, qkv_bias=True).to(numerics.device)
    source = torch.Generator().manual_seed(0)
    tokens = torch.randn(64, 65, 192, generator=source).to(numerics.device).requires_grad_()

    def step(fused: bool) -> Callable[[], None]:
        def run() -> None:
            set_fused(attention, replace(numerics, fused_training=fused), differentiable=True)
            with numerics.autocast():
                loss = attention(tokens).float().square().mean()
            loss.backward()

        return run

    runs = (step(True), step(False))
    for run in runs:
        run()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(PAIRS):
        for run, kept in zip(runs, seconds, strict=True):
            kept.append(_timed(run, numerics.device))
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def set_fused(attention: nn.Module, numerics: Numerics, differentiable: bool) -> None:
    """Choose the kind of attention for one module: fused without gradients, as measured with them.

    With gradients, window attention stays unfused, timm's default: its learnt position bias would need a
    gradient, for which PyTorch has no fused kernel. A module without `fused_attn` chooses for itself.
    """
    if not hasattr(attention, "fused_attn"):
        return
    biased = hasattr(attention, "relative_position_bias_table")
    fused = not differentiable or (numerics.fused_training is not False and not biased)
    if attention.fused_attn != fused:
        attention.fused_attn = fused  # type: ignore[assignment]


def _remembered(numerics: Numerics, store: Store) -> bool:
    question = [numerics.device_name, numerics.dtype, numerics.threads, torch.__version__, MARGIN]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:24]

    def make(folder: Path) -> None:
        before = torch.get_num_threads()
        numerics.apply()
        try:
            fused, unfused = measure_fused(numerics)
        finally:
            torch.set_num_threads(before)
        answer = {
            "question": question,
            "fused_s": fused,
            "unfused_s": unfused,
            "fused": fused < unfused * MARGIN,
        }
        (folder / "attention.json").write_text(json.dumps(answer))

    return bool(json.loads((store.get("numerics", key, make) / "attention.json").read_text())["fused"])


def _timed(run: Callable[[], None], device: str) -> float:
    started = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if device == "cpu":
        return device
    if kind != "cuda" or (number and not number.isdigit()):
        raise RequestError(f"device {device!r} is neither cpu, cuda nor cuda:NUMBER")
    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"device {device!r} is not there (PyTorch sees {torch.cuda.device_count()} GPUs); try cpu"
        )
    return device


def _quota() -> int:
    """Cores that a container's quota allows, rounded up; a large number without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):
        return 2**16


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}: {instructions()}"
