"""One examination: its contrasts as the channels of one image, with its mask, on the grid of the first contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from radsynth.datasets._regrid import mask_on, onto
from radsynth.datasets._volumes import Source, as_modality, load_image
from radsynth.errors import RejectedFile
from radsynth.image import Image, Kind, common_kind
from radsynth.io import Header

AIR = -32768
"""Hounsfield units of a blank channel: below any window."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Sources of the channels, None where one is missing; `first` is the one whose grid is taken.

    names: of the sources, for messages; mask: a file or ""; kinds: as their headers say, see `Header`
    """

    sources: tuple[Source | None, ...]
    names: tuple[str, ...]
    channels: tuple[str, ...]
    first: int
    mask: str = ""
    kinds: tuple[Kind, ...] = ()

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
        modality, units = common_kind([
            *self.kinds, *((image.modality, image.units) for image in there if image is not None)])
        # Of a signed type: CT files of unsigned numbers cannot hold it.
        blank = np.full((1, *fixed.space), AIR, np.int16) if units == "HU" else np.zeros_like(fixed.pixels)
        return fixed.replace(
            pixels=np.concatenate([blank if image is None else image.pixels for image in there]),
            channels=self.channels, modality=modality, window=None, units=units,
            bits=max(image.bits for image in there if image is not None),
            mask=fixed.mask if mask is None else mask.pixels[0],
            regridded=any(image.regridded for image in (*there, mask) if image is not None),
            filled=any(image.filled for image in there if image is not None))


def kind_of(header: Header, told: str) -> Kind:
    """The kind of a contrast; told: the modality of files that say none."""
    known = as_modality(header, told)
    return known.modality, known.units


def header_of(headers: Sequence[Header], fixed: Header, kinds: tuple[Kind, ...]) -> Header:
    """What `Examination.load` gives, of the headers of the contrasts that are there; fixed: of those, the first
    channel's; kinds: of all channels."""
    modality, units = common_kind(kinds)
    return replace(fixed, channels=len(kinds), bits=max(header.bits for header in headers), modality=modality,
                   units=units, kinds=kinds if len(set(kinds)) > 1 else (),
                   notes=tuple(dict.fromkeys(note for header in headers for note in header.notes)))
