"""One examination: its contrasts as the channels of one image, with its mask, on the grid of the first contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radsynth.datasets._regrid import mask_on, onto
from radsynth.datasets._volumes import Source, as_modality, known_modality, load_image
from radsynth.errors import RejectedFile
from radsynth.image import Image
from radsynth.io import Header

AIR = -32768
"""Hounsfield units of a blank channel: below any window."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Sources of the channels, None where one is missing; `first` is the one whose grid is taken.

    names: of the sources, for messages; mask: a file or ""
    """

    sources: tuple[Source | None, ...]
    names: tuple[str, ...]
    channels: tuple[str, ...]
    modality: str
    first: int
    mask: str = ""

    def load(self) -> Image:
        """All channels (c, *space) on one grid; RejectedFile when one cannot be read or laid on the others."""
        found: list[Image | None] = []
        for source, name in zip(self.sources, self.names, strict=True):
            try:
                found.append(None if source is None else load_image(source))
            except RejectedFile as error:
                raise RejectedFile(f"{name}: {error}") from None
        fixed = found[self.first]
        assert fixed is not None
        there: list[Image | None] = []
        for image, name in zip(found, self.names, strict=True):
            if image is not None and len(image.pixels) != 1:
                raise RejectedFile(f"{name} has {len(image.pixels)} channels itself")
            there.append(None if image is None else onto(image, fixed, name, self.names[self.first]))
        mask = mask_on(Path(self.mask), fixed, self.names[self.first]) if self.mask else None
        units = {image.units for image in there if image is not None}
        # Of a signed type: CT files of unsigned numbers cannot hold it.
        blank = np.full((1, *fixed.space), AIR, np.int16) if units == {"HU"} else np.zeros_like(fixed.pixels)
        return fixed.replace(
            pixels=np.concatenate([blank if image is None else image.pixels for image in there]),
            channels=self.channels, modality=known_modality(fixed.modality, self.modality), window=None,
            units=units.pop() if len(units) == 1 else "stored",
            bits=max(image.bits for image in there if image is not None),
            mask=fixed.mask if mask is None else mask.pixels[0],
            regridded=any(image.regridded for image in (*there, mask) if image is not None),
            filled=any(image.filled for image in there if image is not None))


def header_of(headers: Sequence[Header], fixed: Header, channels: int, modality: str) -> Header:
    """What `Examination.load` gives, of the headers of the contrasts that are there; fixed: of those, the first
    channel's; modality: of files that say none."""
    units = {as_modality(header, modality).units for header in headers}
    return replace(fixed, channels=channels, bits=max(header.bits for header in headers),
                   modality=known_modality(fixed.modality, modality),
                   units=units.pop() if len(units) == 1 else "stored",
                   notes=tuple(dict.fromkeys(note for header in headers for note in header.notes)))
