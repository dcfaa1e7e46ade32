"""`torch.device("pretend")`, which is none: see pretend.cpp. It stays in the process that installs it."""

from __future__ import annotations

import shutil
import subprocess
import types
from pathlib import Path
from typing import Any

import torch
from torch.utils.cpp_extension import include_paths, library_paths

SOURCE = Path(__file__).with_suffix(".cpp")
LIBRARIES = ("c10", "torch", "torch_cpu")


def compiler() -> str | None:
    return shutil.which("c++")


def build(library: Path) -> None:
    """Compile; half a minute."""
    includes = [f"-isystem{path}" for path in include_paths("cpu")]
    linked = [f"-L{path}" for path in library_paths("cpu")] + [f"-l{name}" for name in LIBRARIES]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
    flags = ["-std=c++20", "-O0", "-w", "-fPIC", "-shared", abi]
    subprocess.run(
        [compiler() or "c++", *flags, *includes, str(SOURCE), "-o", str(library), *linked], check=True
    )


def install(library: Path) -> None:
    """Tensors can be put on "pretend" from now on."""
    torch.ops.load_library(str(library))
    torch.utils.rename_privateuse1_backend("pretend")
    torch._register_device_module("pretend", _module())  # type: ignore[no-untyped-call]
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)


def _module() -> types.ModuleType:
    """What PyTorch asks `torch.pretend` for."""
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "manual_seed_all": torch.ops.pretend.seed,
        "get_rng_state": lambda device=0: torch.ops.pretend.state(),
        "set_rng_state": lambda state, device=0: torch.ops.pretend.restore(state),
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
    }
    module = types.ModuleType("torch.pretend")
    vars(module).update(answers)
    return module
