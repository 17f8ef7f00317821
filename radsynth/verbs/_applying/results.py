"""Writes what a run made of an image, in one file or several."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.datasets import Record
from radsynth.errors import CannotHold, RejectedFile
from radsynth.image import RGB, Image
from radsynth.io import Provenance, format_module, write, write_labels
from radsynth.verbs._writing import PICTURES, module_of

WRITTEN = {".jpg": ".png", ".jpeg": ".png", ".npy": ".npz", ".mhd": ".mha", ".nhdr": ".nrrd"}
"""Endings of files that are read and not written, and that of the results of such."""


def write_result(facts: dict[str, Any], start: Image, result: Image, like: Record, folder: Path, format: str,
                 index: int, labels: Mapping[int, str] | None = None) -> list[Path]:
    """Files in `folder` with a result of the image `start`: one, or one for each channel where the format has no room
    for several. RejectedFile, and no file, where it cannot hold the result at all.

    facts: of the run's weights; like: the image whose ending the result's file has, if its format can have it
    labels: the names of its values, of a label map
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256(np.ascontiguousarray(start.pixels).tobytes()).hexdigest()
    text = f"Task: {facts['task']}. It is no acquisition: details may be wrong or made up."
    provenance = Provenance(model=facts["model"], weights=facts["sha256"], seed=0, index=index, description=text,
                            window=result.window, source=source)
    try:
        if labels is not None:
            path = folder / f"{index:06d}{_ending(like, format)}"
            return write_labels(result, path, provenance=provenance, format=module_of(format), names=labels)
        return _written(result, start, folder, f"{index:06d}", module_of(format), _ending(like, format), provenance)
    except CannotHold as error:
        raise RejectedFile(f"its result is not written: {str(error).partition(': ')[2]}") from None


def _written(result: Image, start: Image, folder: Path, name: str, kind: str, ending: str, provenance: Provenance,
             ) -> list[Path]:
    if len(result.channels) == 1 or result.channels == RGB or kind == "npz" or (
            result.channels == start.channels and kind not in ("dicom", "picture")):
        return write(result, folder / f"{name}{ending}", provenance=provenance, format=kind)
    written = []
    for number, channel in enumerate(result.channels):
        single = result.replace(pixels=result.pixels[number:number + 1], channels=(channel,))
        written += write(single, folder / f"{name}_{channel}{ending}", provenance=provenance, format=kind)
    return written


def _ending(like: Record, format: str) -> str:
    """The image's own ending if results can be written with it, else the format's usual one."""
    if format in PICTURES:
        return PICTURES[format]
    own = Path(like.files[0]).name.lower() if like.files else ""
    own = next((own.removesuffix(read) + instead for read, instead in WRITTEN.items() if own.endswith(read)), own)
    endings = [ending for ending in format_module(format).SUFFIXES if ending not in WRITTEN]
    volume = like.header is not None and len(like.header.size) == 3
    usual = ".tiff" if format == "picture" and volume else endings[0]
    return max((ending for ending in endings if own.endswith(ending)), key=len, default=usual)
