"""What images a run was trained on and how they were prepared, so that others are treated alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from radsynth.datasets import Record
from radsynth.datasets._layout import PATIENT
from radsynth.datasets._volumes import AXES, scanned_across
from radsynth.datasets.contrasts import called
from radsynth.errors import RejectedFile, SettingsError
from radsynth.image import Image, ImageSpec
from radsynth.io._geometry import directions_of
from radsynth.run_folder import RunFolder
from radsynth.settings import nearest
from radsynth.verbs._applying.regridding import near
from radsynth.verbs._preparing.fit import Fit, plan_fit

ALIKE = 0.5
"""Cosine of the angle between planes, 60 degrees: patients' short axes of the heart differ by less."""
PERCENTILES = (0.5, 99.5)
"""Where the range of an image lies if the run's settings do not say."""


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The settings `data` and `prepare` of a run's training.

    kind, contrasts, plane, patient_pattern, modality, incomplete: of `data`; percentiles: of each image, its black and
    white; grey: colour was made grey; instances: things in masks had numbers of their own
    few_values: share of the training images that have few values, 0 in runs that do not say it
    fit, enlarge, spacing: how images of another size were brought to that of the training, "" where that is not known
    """

    spec: ImageSpec
    kind: str
    contrasts: tuple[str, ...]
    plane: str
    patient_pattern: str
    modality: str
    incomplete: str
    percentiles: tuple[float, float]
    grey: bool
    instances: bool
    fit: str
    enlarge: bool
    spacing: tuple[float, ...] | None
    few_values: float

    @classmethod
    def of(cls, run: Path, spec: ImageSpec) -> TrainedOn:
        """As the run folder's settings.yaml has it; older ones say less."""
        folder = RunFolder(run)
        settings = folder.settings()
        data, made = settings.get("data") or {}, settings.get("prepare") or {}
        low, high = made.get("percentiles", PERCENTILES)
        return cls(spec=spec, kind=str(data.get("kind", "folder")), contrasts=tuple(data.get("contrasts") or ()),
                   plane=str(data.get("plane", "auto")),
                   patient_pattern=str(data.get("patient_pattern", PATIENT)), modality=str(data.get("modality", "")),
                   incomplete=str(data.get("incomplete", "reject")),
                   percentiles=(float(low), float(high)), grey=made.get("channels") == "grey",
                   instances=made.get("masks") == "instances", fit=str(made.get("fit", "")),
                   enlarge=bool(made.get("enlarge")), spacing=tuple(made.get("spacing") or ()) or None,
                   few_values=float(folder.description().get("few_values", 0)))

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels as they were asked for, name=pattern where files have other names."""
        # Unpaired contrasts are classes, no channels.
        return self.contrasts if len(self.contrasts) == len(self.spec.channels) else self.spec.channels

    def finding(self, patterns: Sequence[str]) -> TrainedOn:
        """The same, with other expressions by which images of some contrasts are found: name=regular expression.

        SettingsError for names that the run does not know, and for runs that know no contrasts by their names.
        """
        if not patterns:
            return self
        names = tuple(entry.partition("=")[0] for entry in self.channels)
        if len(names) < 2 or self.kind in ("nnunet", "brats", "medmnist"):
            raise SettingsError("--contrast is for runs that were trained on several contrasts of a patient, found by "
                                "their names (data.kind=contrasts). Leave it out.")
        told = {}
        for text in patterns:
            name, _, rule = (part.strip() for part in text.partition("="))
            if name not in names or not rule:
                raise SettingsError(f"--contrast {text}: give a contrast of the training ({', '.join(names)}) and a "
                                    f"regular expression, such as {names[0]}='AX T1'{nearest(name, names)}.")
            told[name] = f"{name}={rule}"
        return replace(self, contrasts=tuple(told.get(name, entry)
                                             for name, entry in zip(names, self.channels, strict=True)))

    def sought(self, inputs: tuple[str, ...]) -> dict[str, Any]:
        """How images for a run are looked for (`inputs.input_records`). inputs: the channels that are given."""
        alone = self.incomplete == "slices" and self.spec.dimensions == 2
        return {"kind": self.kind, "inputs": inputs, "contrasts": self.channels,
                "incomplete": "slices" if alone else "reject"}

    def alike(self, image: Image) -> Image:
        """The image in grey where colour was made grey for training, or where it only shows grey."""
        return image.grey() if self.grey else image.for_channels(self.spec.channels)

    def check(self, image: Image) -> None:
        """RejectedFile for another modality, and for a single image where volumes were learned."""
        if "OT" not in (self.spec.modality, image.modality) and image.modality != self.spec.modality:
            raise RejectedFile(f"its modality is {image.modality}; the run was trained on {self.spec.modality}")
        if len(image.space) < self.spec.dimensions:
            raise RejectedFile("it is a single image; the run was trained on volumes")

    def across(self, image: Image) -> bool:
        """Whether a single image lies in another plane than those that were learned, where both are known."""
        if self.spec.directions is None or image.affine is None or len(image.space) == 3:
            return False
        return abs(float(np.dot(directions_of(image.affine)[6:], self.spec.directions[6:]))) < ALIKE

    def axis(self, image: Image, want: tuple[float, ...]) -> int | None:
        """The axis across which a volume is cut for a network of 2-D images, as it was for training; None where the
        image goes through the network as a whole.

        Where the run does not say: the one it was scanned across, unless slices across the first alone have the
        spacing `want`, mm, () where unknown.
        """
        if len(image.space) == self.spec.dimensions:
            return None
        if self.plane in AXES:
            return AXES[self.plane]
        steps, scanned = image.spacing, scanned_across(image.spacing)
        if steps is None or not want:
            return scanned
        fits = [axis for axis in (scanned, 0) if near(tuple(np.delete(steps, axis)), want)]
        return fits[0] if fits else scanned

    def shrinks(self, space: tuple[int, ...], frame: tuple[int, ...]) -> tuple[float, ...] | None:
        """How much larger than its own `prepare` would make the pixels of an image (*space) whose pixel size nobody
        knows. None where the training's are known, or crops were learned at the images' own resolution.

        frame: sides in pixels of what the network was given in training
        """
        if self.spec.spacing is not None or self.fit not in ("pad", "crop"):
            return None
        return self.brought(space, frame, None).ratios

    def brought(self, space: tuple[int, ...], frame: tuple[int, ...], spacing: tuple[float, ...] | None) -> Fit:
        """How `prepare` would bring an image (*space) with pixels of `spacing` mm to the frame."""
        return plan_fit(space, frame, spacing, crop=self.fit == "crop", enlarge=self.enlarge, wanted=self.spacing)

    def unchecked(self, image: Image, record: Record | None = None) -> str:
        """What could not be compared with the training, because the image or the training does not say it.

        record: of an image that may be another contrast than the one it is taken for, which names alone say
        """
        known = {name.partition("=")[0] for name in self.channels} & set(image.channels)
        unknown = {"modality": "OT" in (self.spec.modality, image.modality),
                   "spacing": self.spec.spacing is not None and image.spacing is None,
                   "contrast": record is not None and len(self.channels) > 1 and not known and (
                       record.header is None or called(record.source, record.header, self.channels) is None)}
        return " ".join(name for name, is_so in unknown.items() if is_so)
