"""Base generators: small trained networks that ship with radsynth, for data of which there are few images.

A folder is one base: weights.safetensors (both networks at half precision, the directions that their latents stand for,
what its images look like), weights.json (what it is, as facts), card.md (the same for people). scripts/make_base.py
makes one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radsynth.image import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).parent
PART = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a base is. modalities: DICOM codes of the images it is meant for; model: its network's settings."""

    name: str
    spec: ImageSpec
    modalities: tuple[str, ...] = ()
    model: dict[str, Any]

    def suits(self, modality: str, channels: int, size: tuple[int, ...]) -> bool:
        """Whether images of this kind can be learned from it: `size` must fit into its frame and fill one side."""
        frame = self.spec.size
        fits = len(size) == len(frame) and all(side <= most for side, most in zip(size, frame, strict=True))
        return modality in self.modalities and channels == len(self.spec.channels) and fits and max(size) == max(frame)


def fitting(modality: str, channels: int, size: tuple[int, ...], alike: Callable[[Facts], bool]) -> Facts | None:
    """The first base that suits images of this kind and that they look like."""
    suited = (found for found in map(facts, names()) if found.suits(modality, channels, size))
    return next(filter(alike, suited), None)


@dataclass(frozen=True, kw_only=True)
class Base(Facts):
    """A base with its weights, as `radsynth.verbs._training.start.Start` has them.

    look: "mean" (1280,) of the features of its training images, and "spread", the sum of their variances
    """

    weights: dict[str, dict[str, Tensor]]
    studied: dict[str, Tensor]
    look: dict[str, Tensor] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """Every base: the folders here that hold weights."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{PART}")))


def facts(name: str) -> Facts:
    """What a base is, without reading its weights."""
    return Facts(**_facts(name, _document(name)))


def origin(name: str) -> dict[str, str]:
    """What images a base was learned from (source), and on which terms (licence)."""
    document = _document(name)
    return {key: str(document[key]) for key in ("source", "licence")}


def read_base(name: str) -> Base:
    """A base with its weights; FolderError when they are damaged."""
    from radsynth.checkpoints import load_tensors  # which needs torch, and the plan does not

    state, document = load_tensors(FOLDER / name / PART)
    return Base(**_facts(name, document), weights=state["weights"], studied=state["studied"], look=state["look"])


def _document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / name / PART).with_suffix(".json").read_text(encoding="utf-8"))
    return document


def _facts(name: str, document: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "spec": ImageSpec.from_json(document["spec"]), "model": document["model"],
            "modalities": tuple(document["modalities"])}
