"""What belongs to the images of a registration and is given in files of its own: labels, landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from radsynth.datasets import Record, Rejected
from radsynth.datasets._layout import stem
from radsynth.datasets._regrid import mask_on
from radsynth.errors import DataError, RejectedFile, SettingsError
from radsynth.image import Image
from radsynth.io._landmarks import ENDINGS


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Files of the moving images (a file of the only image, or a folder of such by the images' names), and likewise of
    the fixed ones: onto_landmarks."""

    labels: Path | None = None
    landmarks: Path | None = None
    onto_landmarks: Path | None = None

    def paths(self) -> dict[str, Path]:
        """Those that are given."""
        return {field.name: path for field in fields(self) if (path := getattr(self, field.name)) is not None}

    def _of_moving(self) -> list[tuple[str, Path]]:
        return [(name, path) for name, path in self.paths().items() if name != "onto_landmarks"]

    def check(self) -> None:
        """DataError for paths that lead nowhere, SettingsError for the landmarks of one side alone."""
        if (self.landmarks is None) != (self.onto_landmarks is None):
            raise SettingsError("Landmarks of both sides are needed: --landmarks of INPUT and --onto-landmarks of the "
                                "image that it is put onto.")
        for option, path in self._of_moving():
            if not path.exists():
                raise DataError(f"{path}, given as --{option}, does not exist.")
        if self.onto_landmarks is not None and not self.onto_landmarks.exists():
            raise DataError(f"{self.onto_landmarks}, given as --onto-landmarks, does not exist.")

    def check_for(self, moving: int, fixed: int) -> None:
        """SettingsError for files of one image where there are several."""
        of_fixed = [("onto-landmarks", self.onto_landmarks)] if self.onto_landmarks else []
        for count, given in ((moving, self._of_moving()), (fixed, of_fixed)):
            for option, path in given:
                if count > 1 and path.is_file():
                    raise SettingsError(f"--{option} {path} is one file, and there are {count} images: name a folder "
                                        f"that holds the {option.removeprefix('onto-')} of each in a file of its name.")

    def labels_of(self, record: Record, moving: Image) -> NDArray[np.uint8] | None:
        """Label values (*space) of a moving image, on its grid: beside it where no files of labels are given."""
        if self.labels is None:
            return moving.mask
        name = Path(record.files[0]).name if record.files else record.source
        file = _in(self.labels, record, "labels", list(dict.fromkeys([name, f"{stem(name)}.nii.gz"])))
        return np.asarray(mask_on(file, moving, record.source, "labels").pixels[0], np.uint8)

    def landmarks_of(self, record: Record) -> Path:
        """The file of a moving image's landmarks, which has the image's name with an ending of landmarks."""
        assert self.landmarks is not None
        return _landmarks_in(self.landmarks, record)

    def landmarks_onto(self, fixed: Record) -> Path | None:
        """The file of a fixed image's landmarks, likewise; None where none are given."""
        return self.onto_landmarks and _landmarks_in(self.onto_landmarks, fixed)

    def images_alone(self, records: Iterator[Record], source: Path, rejected: list[Rejected]) -> Iterator[Record]:
        """The same images below `source`; in the end no file with landmarks of theirs is a skipped one any more."""
        used = set() if self.onto_landmarks is None else {self.onto_landmarks.resolve()}
        for record in records:
            if self.landmarks is not None:
                with suppress(RejectedFile):  # the image is rejected for that
                    used.add(self.landmarks_of(record).resolve())
            yield record
        rejected[:] = [line for line in rejected if not (line.skipped and (source / line.path).resolve() in used)]


def _landmarks_in(path: Path, record: Record) -> Path:
    own = stem(PurePosixPath(record.source).name)
    return _in(path, record, "landmarks", [own + ending for ending in ENDINGS])


def _in(path: Path, record: Record, what: str, names: list[str]) -> Path:
    """The file `path` itself, or the first that there is of some names, in the same folder as the image lies in or at
    the top. RejectedFile where there is none."""
    if not path.is_dir():
        return path
    for folder in (path / PurePosixPath(record.source).parent, path):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise RejectedFile(f"its {what} are not in {path}: there is no file {' or '.join(names)}")
