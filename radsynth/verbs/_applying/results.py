"""Writes what a run made of an image, in one file or several."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.datasets import Record
from radsynth.image import RGB, Image
from radsynth.io import Provenance, format_module, write
from radsynth.verbs._writing import PICTURES


def write_result(facts: dict[str, Any], start: Image, result: Image, like: Record, folder: Path, format: str,
                 index: int) -> list[Path]:
    """Files in `folder` with a result of the image `start`: one, or one for each channel where the format has no room
    for several.

    facts: of the run's weights; like: the image whose ending the result's file has, if its format can have it
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256(np.ascontiguousarray(start.pixels).tobytes()).hexdigest()
    text = f"Task: {facts['task']}. It is no acquisition: details may be wrong or made up."
    provenance = Provenance(model=facts["model"], weights=facts["sha256"], seed=0, index=index, description=text,
                            window=result.window, source=source)
    kind, ending = _kind(format), _ending(like, format)
    if len(result.channels) == 1 or result.channels == RGB or kind == "npz" or (
            result.channels == start.channels and kind not in ("dicom", "picture")):
        return write(result, folder / f"{index:06d}{ending}", provenance=provenance, format=kind)
    written = []
    for channel, name in enumerate(result.channels):
        single = result.replace(pixels=result.pixels[channel:channel + 1], channels=(name,))
        written += write(single, folder / f"{index:06d}_{name}{ending}", provenance=provenance, format=kind)
    return written


def _kind(format: str) -> str:
    return "picture" if format in PICTURES else format


def _ending(like: Record, format: str) -> str:
    """The image's own ending if results can be written with it, else the format's usual one."""
    if format in PICTURES:
        return PICTURES[format]
    own = Path(like.files[0]).name.lower() if like.files else ""
    endings = [ending for ending in format_module(format).SUFFIXES if ending not in (".jpg", ".jpeg", ".npy", ".hdr")]
    volume = like.header is not None and len(like.header.size) == 3
    usual = ".tiff" if format == "picture" and volume else endings[0]
    return max((ending for ending in endings if own.endswith(ending)), key=len, default=usual)
