"""The card beside the weights: what they are, how they were made, how good they are, and their hash.

NAME.safetensors   NAME.json (this, for programs)   NAME.md (this, for people)   NAME.csv, NAME.png (curve)
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from benchmarks.store import write_atomic


class Card(msgspec.Struct, kw_only=True):
    """All facts of one pretraining run.

    backbone: the architecture's name; sha256: of the weights file; settings: as typed or by default; mirror:
    whether images were flipped; source, fingerprint, terms: the data and their terms of use; top1: share of
    validation images right; probes: by source, linear and nearest class mean; rates: images per second.
    """

    name: str
    backbone: str
    sha256: str
    parameters: int
    objective: str
    settings: dict[str, str | int | float]
    mirror: bool = True
    source: str
    fingerprint: str
    terms: str
    images: int
    classes: int
    epochs: int
    seconds: float
    machine: str
    commit: str
    versions: dict[str, str]
    loss: float
    top1: float | None = None
    probes: dict[str, dict[str, float]] = {}
    training_rate: float = 0.0
    inference_rate: float = 0.0
    notes: list[str] = []

    def write(self, folder: Path) -> None:
        """NAME.json and NAME.md."""
        text = json.dumps(msgspec.to_builtins(self), indent=2)
        write_atomic(folder / f"{self.name}.json", (text + "\n").encode())
        write_atomic(folder / f"{self.name}.md", self.markdown().encode())

    def markdown(self) -> str:
        """The card as people read it."""
        unused = {"epochs"} if self.settings.get("sizes") else set()
        said = {key: value for key, value in self.settings.items() if value != "" and key not in unused}
        settings = ", ".join(f"{key}={value}" for key, value in said.items())
        rows = [
            ("architecture", f"`{self.backbone}`, {self.parameters:,} parameters without classifier"),
            ("objective", self.objective),
            (
                "data",
                f"{self.source}: {self.images:,} images, {self.classes} classes ({self.fingerprint[:12]})",
            ),
            ("terms of the data", self.terms or "not stated by the source"),
            ("recipe", settings if self.mirror else f"{settings}, never mirrored"),
            ("trained", f"{self.epochs} epochs in {self.seconds / 60:.0f} min on {self.machine}"),
            ("final training loss", f"{self.loss:.3f}"),
        ]
        if self.top1 is not None:
            rows.append(("top-1 on the validation images", f"{self.top1:.1%}"))
        for source, found in self.probes.items():
            shares = ", ".join(f"{kind} {share:.1%}" for kind, share in found.items())
            rows.append((f"probe on {source}", shares))
        rows += [
            ("images per second", f"training {self.training_rate:.0f}, inference {self.inference_rate:.0f}"),
            ("made by", f"`carryover pretrain` at commit {self.commit or 'unknown'}"),
            ("versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())),
            ("sha256", f"`{self.sha256}`"),
        ]
        table = "\n".join(f"| {key} | {value} |" for key, value in rows)
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return (
            f"# {self.name}\n\n| | |\n|---|---|\n{table}\n{notes}\n![loss and validation]({self.name}.png)\n"
        )


def read_card(path: Path) -> Card:
    """The card in a JSON file; msgspec.ValidationError for anything else."""
    return msgspec.json.decode(path.read_bytes(), type=Card)
