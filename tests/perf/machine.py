"""The machine and what runs on it: without these no rate means anything."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import timm
import torch

from backbones.numerics import Numerics, physical_cores

Facts = dict[str, str | int | float | list[float] | None]


def facts(numerics: Numerics) -> Facts:
    """Taken before anything is measured, so that the load is other people's."""
    return {
        "processor": numerics.device_name,
        "device": numerics.device,
        "cores": physical_cores(),
        "threads": numerics.threads,
        "dtype": numerics.dtype,
        "training attention": {None: "fused, not measured", True: "fused", False: "unfused"}[
            numerics.fused_training
        ],
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
    }


def busy(found: Facts) -> bool:
    """Whether so much else runs here that the ratios say little."""
    load = found["load"]
    return isinstance(load, list) and load[0] > 0.5


def _commit() -> str | None:
    house = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(house), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
