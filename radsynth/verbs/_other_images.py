"""Images from outside of a prepared folder, brought to the size and the grey scale of a run's images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap, Prepared
from radsynth.datasets import recognise
from radsynth.errors import DataError
from radsynth.files import scratch
from radsynth.image import ImageSpec
from radsynth.settings import resolve
from radsynth.verbs._preparing.steps import make_prepared


@contextmanager
def other_images(path: Path, spec: ImageSpec, intensity: IntensityMap, preparing: Mapping[str, Any], *,
                 masks: bool = False) -> Iterator[tuple[Prepared, NDArray[np.float32]]]:
    """A folder or file of images, prepared like those of `spec`, and their values (n, c, *space) in [-1, 1].

    What radsynth wrote (a samples.csv lies in or beside it) is on the scale of `intensity` already; other images are
    mapped as the real ones were. The prepared folder lasts as long as the `with` statement. DataError for other shapes.
    preparing: the settings `prepare` of the real images, as far as they were given
    """
    ours = any((folder / "samples.csv").exists() for folder in (path, path.parent))
    if (stack := path / "synthetic.npz").is_file():  # what `generate` wrote as one file
        path = stack
    options: dict[str, Any] = {"size": list(spec.size), "train": 1.0, "validation": 0.0, "official": False,
                               "masks": "auto" if masks else "off", "intensity": intensity.method,
                               "channels": "grey" if len(spec.channels) == 1 else "keep"}
    if preparing.get("fit") != "patches":
        options |= {name: preparing[name] for name in ("fit", "enlarge", "spacing") if name in preparing}
    if intensity.method == "window" or (ours and intensity.method == "percentiles"):
        options |= {"intensity": "window", "window": list(intensity.span)}
    data = {"kind": recognise(path), "path": str(path)}
    if data["kind"] == "folder" and spec.dimensions == 3:
        data["plane"] = "volume"
    settings = resolve({"data": data, "prepare": options}, sections=("data", "prepare"))
    with scratch() as temporary:
        own = replace(intensity, method="window") if ours and intensity.ranges else None
        made = make_prepared(settings.section("data"), temporary / "images", settings, intensity=own)
        rows = np.arange(len(made.rows), dtype=np.int64)
        images = made.images(rows)
        if intensity.method == "bits" and min(intensity.levels, made.intensity.levels) > 255:
            images = intensity.to_network(intensity.encode(made.stored(rows)))  # not as many bits as these few take
        if images.shape[1:] != (len(spec.channels), *spec.size):
            raise DataError(f"The images in {path} have the shape {images.shape[1:]} (channels, *size), those of the "
                            f"run {(len(spec.channels), *spec.size)}.")
        yield made, images
