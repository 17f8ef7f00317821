"""Checkpoints: nested dictionaries of tensors and plain values in safetensors files, each with a SHA-256 beside it.

NNNNNNNNN.safetensors  tensors, and the nesting as JSON in the header; NNNNNNNNN.json  hash and facts, written last.
Nothing is unpickled; a file whose hash does not match is passed over in favour of the one before.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from radsynth.errors import FolderError
from radsynth.files import write_atomically

KEPT = 2
"""Checkpoints that stay on disk: the last one, and the one before in case the last is damaged."""


def save_tensors(path: Path, state: Any, facts: dict[str, Any]) -> str:
    """Write a nested state and, after it, its JSON file of facts. Returns the SHA-256 of the tensors' file."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(state, "", tensors))
    content = save(tensors, metadata={"structure": structure})
    digest = hashlib.sha256(content).hexdigest()
    write_atomically(path, content)
    write_atomically(path.with_suffix(".json"), json.dumps({**facts, "sha256": digest}, indent=1))
    return digest


def load_tensors(path: Path) -> tuple[Any, dict[str, Any]]:
    """The state and its facts; FolderError when the file is missing, damaged or foreign."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read: {error}.") from None
    if not isinstance(facts, dict) or hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise FolderError(f"{path} is damaged: its SHA-256 is not the one noted when it was written.")
    try:
        with safe_open(path, framework="pt") as file:
            structure = json.loads(file.metadata()["structure"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FolderError(f"{path} is not a file that radsynth wrote: {error}.") from None
    return _decode(structure, tensors), facts


def save_checkpoint(folder: Path, images: int, state: Any, facts: dict[str, Any]) -> Path:
    """Write the checkpoint reached after so many images and remove all but the last `KEPT` up to it.

    One of more images was damaged and passed over: it must not stand in for the one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{images:09d}.safetensors"
    save_tensors(path, state, {**facts, "images": images})
    saved = [facts_file.stem for facts_file in _saved(folder)]
    kept = saved[:saved.index(path.stem) + 1][-KEPT:]
    for file in sorted(folder.iterdir()):  # facts before tensors
        if file.stem not in kept:  # also what a kill in the middle of writing has left
            file.unlink()
    return path


def load_checkpoint(folder: Path) -> tuple[Any, dict[str, Any], list[str]] | None:
    """State and facts of the last good checkpoint, and a line for each damaged one passed over; None without any.

    FolderError when there are checkpoints and none is good.
    """
    damaged: list[str] = []
    for facts_file in reversed(_saved(folder)):
        try:
            return *load_tensors(facts_file.with_suffix(".safetensors")), damaged
        except FolderError as error:
            damaged.append(str(error))
    if damaged:
        raise FolderError("No checkpoint can be used: " + " ".join(damaged) + " Start again with a new run folder.")
    return None


def _saved(folder: Path) -> list[Path]:
    """The files of facts, those of the most images last; from 1,000,000,000 images on their names are longer."""
    return sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem))


def all_finite(state: Any) -> bool:
    """Whether every floating-point tensor in a nested state is finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(all_finite(value) for value in state.values())
    return all(all_finite(value) for value in state) if isinstance(state, list | tuple) else True


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_encode(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    assert value is None or isinstance(value, str | int | float | bool), f"{name}: {type(value)} in a checkpoint"
    return {"value": value}


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    return [_decode(item, tensors) for item in content] if kind == "list" else content
