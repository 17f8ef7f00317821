"""Paints masks by a trained semantic synthesis: an image of each, on its grid, in units of the training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from radsynth.batch import Batch
from radsynth.datasets import Record, Rejected, dataset
from radsynth.datasets._items import series
from radsynth.datasets._layout import PATIENT, compiled, patients, places, printable
from radsynth.datasets._walking import files_below, without_data_files
from radsynth.errors import DataError, RejectedFile
from radsynth.image import GREY, Image
from radsynth.io import NotAnImage, as_mask, beside, detect, read, read_mask, scans
from radsynth.progress import track
from radsynth.tasks.semantic import Semantic
from radsynth.verbs._applying import notes
from radsynth.verbs._applying.applier import Applier
from radsynth.verbs._applying.results import write_result
from radsynth.verbs._applying.slices import cut, join
from radsynth.verbs._applying.tiles import convert_tiled
from radsynth.verbs._applying.values import check_values, ranges_of
from radsynth.verbs._journal import Journal
from radsynth.verbs._preparing.fit import resample, resample_mask
from radsynth.verbs._preparing.instances import inside_and_border
from radsynth.verbs._writing import Row, real_values, usual_format


class Painter(Applier):
    """A trained semantic synthesis, and where its styles come from: a seed, or an example image."""

    def __init__(self, run: Path, target: str | None, seed: int, style: Path | None, resample: bool = False) -> None:
        """resample: as of `Applier`, whose SettingsErrors come; DataError for an example that cannot be used."""
        super().__init__(run, target, resample)
        self.semantic, self.seed = cast(Semantic, self.task), seed
        self.style = None if style is None else self._style_of(style)

    def _style_of(self, path: Path) -> Tensor:
        """(1, latent) the style of an image file, brought to the training's size as `prepare` does."""
        if not path.exists():
            raise DataError(f"{path}, which is to lend its style, does not exist.")
        try:
            found = read(path)
            image = self.trained_on.alike(found[0] if isinstance(found, list) else found)
            if len(image.pixels) != len(self.spec.channels):
                raise RejectedFile(f"its channels are {', '.join(image.channels)}; the run makes "
                                   f"{', '.join(self.spec.channels)}")
            self.trained_on.check(image)
            check_values(image, self.spec, self.intensity)
            ranges = ranges_of(image.pixels, self.intensity, self.trained_on.percentiles).tolist()
            if (axis := self.axis(image)) is not None:
                image = image.replace(pixels=cut(image.pixels, axis)[image.space[axis] // 2], affine=None, mask=None,
                                      spacing=image.spacing and tuple(np.delete(image.spacing, axis)))
        except RejectedFile as error:
            raise DataError(f"{path} cannot lend its style: {error}. Give one image: a file, or the folder of a DICOM "
                            "series.") from None
        fit = self.trained_on.brought(image.space, self.spec.size, image.spacing)
        encoded = np.full((len(image.pixels), *self.spec.size), -1, np.float32)  # background around what is small
        for made, channel, limits in zip(encoded, resample(image.pixels, fit), ranges, strict=True):
            made[fit.inside] = self.intensity.to_network(self.intensity.encode(channel, *limits))[fit.inside]
        with torch.no_grad():
            codes = cast(nn.Module, self.network.encoder)(torch.from_numpy(encoded)[None].to(self.device))
        mean: Tensor = codes[:, 0]
        return mean

    def unchecked(self, image: Image) -> str:
        """As of `TrainedOn`, of a mask: it has no modality."""
        return self.trained_on.unchecked(image.replace(modality=self.spec.modality)).replace("modality", "").strip()

    def paint(self, mask: Image, index: int) -> Image:
        """The image of a mask (1, *space), in the style of (seed, index) or of the example.

        RejectedFile for label values that the run was not trained on, another spacing, a slice where volumes are due.
        """
        self.check(mask.replace(modality=self.spec.modality))
        values = mask.pixels if self.trained_on.instances else self._known(mask.pixels)
        axis = self.axis(mask)
        there, back = self._grids(mask, axis)
        stack = cut(values.astype(np.float32), axis)[:, 0].astype(np.uint8)
        if there is not None:
            stack = np.stack([resample_mask(one, there) for one in stack])
        if self.trained_on.instances:
            stack = np.stack([inside_and_border(one) for one in stack])
        painted = self._painted(torch.from_numpy(stack.astype(np.float32))[:, None], index)
        made = join(painted if back is None else np.stack([resample(one, back) for one in painted]), axis)
        return Image(pixels=real_values(made, self.spec, self.intensity), modality=self.spec.modality,
                     units=self.spec.units, bits=self.spec.bits, spacing=mask.spacing, affine=mask.affine,
                     channels=self.spec.channels, laid=mask.laid, frame=mask.frame, flat=mask.flat)

    def _known(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label values as in training; a mask of two classes may also be black and white."""
        known = self.semantic.values
        if len(known) == 2 and set(np.unique(pixels).tolist()) <= {0, 255}:
            pixels = np.where(pixels > 0, np.uint8(known[1]), np.uint8(0))
        strange = sorted(set(np.unique(pixels).tolist()) - set(known))
        if strange:
            raise RejectedFile(f"as a mask it holds {_listed(strange)}; the run was trained on {_listed(known)}")
        return pixels

    def _painted(self, stack: Tensor, index: int) -> NDArray[np.float32]:
        """(n, 1, *space) label values to images (n, c, *space), in one style, in tiles where they are large.

        What is smaller than in training lies in the middle of such a mask, as `prepare` lays it, because a style says
        what is where: a field of view that ends at other places would be painted into the image.
        """
        network, space = self.network, stack.shape[2:]
        gaps = [max(0, want - have) for want, have in zip(self.spec.size, space, strict=True)]
        stack = functional.pad(stack, [part for gap in reversed(gaps) for part in (gap // 2, gap - gap // 2)])
        inside = tuple(slice(gap // 2, gap // 2 + have) for gap, have in zip(gaps, space, strict=True))
        stride, sides = cast(int, network.stride), stack.shape[2:]
        middle = [(have - -(-side // stride)) // 2
                  for have, side in zip(cast(tuple[int, ...], network.grid), sides, strict=True)]
        # What a style is for lies where the network lays the cells that it is told by.
        first = [min(max(0, -lead) * stride, side - want)
                 for lead, side, want in zip(middle, sides, self.spec.size, strict=True)]
        told = [slice(None), slice(None), *(slice(a, a + want) for a, want in zip(first, self.spec.size, strict=True))]
        styles = self._styles(stack[tuple(told)], index)
        # Beside its labels a tile brings which slice it is of and where it lies: so its style is that of its place.
        places = torch.stack(torch.meshgrid(*[torch.arange(side) for side in sides], indexing="ij")).float()
        slices = torch.arange(len(stack)).float().view(-1, *[1] * (stack.ndim - 1)).expand(-1, 1, *sides)

        def convert(tile: Tensor) -> Tensor:
            which, *corners = tile[:, 1:].flatten(2)[:, :, 0].T.round().long()
            corner = tuple(int(place[0]) // stride + lead for place, lead in zip(corners, middle, strict=True))
            made: Tensor = network(self._given(tile[:, :1]), styles[which], corner)
            return made

        together = torch.cat([stack, slices, places.expand(len(stack), *places.shape)], dim=1).to(self.device)
        return np.ascontiguousarray(convert_tiled(convert, network, together)[(slice(None), slice(None), *inside)])

    def _given(self, masks: Tensor) -> Tensor:
        """What the network sees of masks (n, 1, *space)."""
        task, masks = self.semantic, masks[:, 0].to(self.device).round().long()
        label = task.targets.index(self.target) if task.targets else 0
        return task.given(masks, torch.full((len(masks),), label, device=self.device))

    def _styles(self, masks: Tensor, index: int) -> Tensor:
        """(n, latent) the example's style, or what the same noise is for each of the masks (n, 1, *size)."""
        if self.style is not None:
            return self.style.expand(len(masks), -1)
        batch = Batch(images=torch.empty(1, 0, device=self.device), seed=self.seed, items=(index,))
        noise = batch.normal("latent", cast(int, self.network.latent))
        with torch.no_grad():  # one by one: all their labels at once would not fit
            return torch.cat([self.semantic.styles(self.network, self._given(mask[None]), noise) for mask in masks])


def _listed(values: tuple[int, ...] | list[int]) -> str:
    shown = ", ".join(map(str, values[:12]))
    return f"label value{'s' if len(values) > 1 else ''} {shown}{', ...' if len(values) > 12 else ''}"


def mask_records(source: Path, rejected: list[Rejected], patient_pattern: str = PATIENT,
                 labels: Mapping[int, str] | None = None) -> list[Record]:
    """Every mask at a path (a file, a folder, an archive), by name, or those of a data set in one npz. DataError
    when there is nothing.

    The slices of one patient share their style: whose they are, `prepare` would say likewise.
    patient_pattern: how names tell patients, as in `data`; labels: names of label values, by which DICOM's
    segmentations have them
    """
    module = dataset("medmnist")
    if module.matches(source):
        found = module.records(module.Settings(path=source, patient_pattern=patient_pattern), rejected)
        return [replace(record, load=partial(_mask_beside, record)) for record in found]
    (root, names), records, slices = files_below(source, rejected), dict[str, Record](), list[str]()
    volumes = set[str]()
    for name in names:
        path = root / name
        try:
            kind = detect(path)
        except RejectedFile as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        if kind == "dicom":
            slices.append(name)
            continue
        records[name] = _file(name, path)
        volumes |= {name} if kind in scans() else set()
    without_data_files(root, [file for record in records.values() for file in beside(Path(record.files[0]))], rejected)
    pattern = compiled(patient_pattern, "patient_pattern")
    known = places(list(records), pattern, classes=not volumes and not slices)
    of = patients(list(records), pattern, volumes=volumes, places=known)
    records = {name: replace(record, patient=known[name].patient or of[name]) for name, record in records.items()}
    records |= _dicom_masks(root, slices, rejected, labels or {})
    return [records[name] for name in sorted(records)]


def _file(name: str, path: Path, patient: str = "") -> Record:
    return Record(source=printable(name), patient=patient, load=partial(read_mask, path), files=(str(path),))


def _dicom_masks(root: Path, names: list[str], rejected: list[Rejected], labels: Mapping[int, str],
                 ) -> dict[str, Record]:
    """DICOM masks by name: a segmentation, or a series as a volume. Where its slices are none, each alone."""
    from radsynth.io._dicom_structures import labels_alone, spellings, structures

    items, objects = series(root, names, "", rejected)
    found, values = {}, spellings(labels)
    for name in objects:
        try:
            patient = structures(root / name).patient
        except RejectedFile as error:
            rejected.append(Rejected(path=printable(name), reason=str(error)))
            continue
        found[name] = Record(source=printable(name), patient=patient, files=(str(root / name),),
                             load=partial(labels_alone, root / name, values))
    for item in items:
        files = item.source.files
        if len(files) > 1 and not item.fault:
            found[item.name] = Record(source=printable(item.name), patient="", files=tuple(dict.fromkeys(files)),
                                      load=partial(_mask_of_series, item.source.files, item.source.frames),
                                      header=item.header)
            continue
        for file in dict.fromkeys(files):
            name = Path(file).relative_to(root).as_posix()
            found[name] = _file(name, Path(file), item.header.patient or item.name)
    return found


def _mask_of_series(files: tuple[str, ...], frames: tuple[int | None, ...]) -> Image:
    from radsynth.io._dicom_series import read_series

    return as_mask(read_series(files, frames))


def _mask_beside(record: Record) -> Image:
    image = cast(partial[Image], record.load)(one_value=True)  # nobody looks at it
    if image.mask is None:
        raise RejectedFile("there is no mask beside it")
    return image.replace(pixels=image.mask[None], channels=GREY, mask=None)


def format_for(record: Record, painter: Painter) -> str:
    """The mask's own format, or that of the training images where a picture cannot hold their values as they are."""
    own = record.header.format if record.header else detect(Path(record.files[0]))
    spec = painter.spec
    plain = spec.units != "HU" and spec.bits <= 16 and painter.intensity.span[0] >= 0 and len(spec.channels) in (1, 3)
    return usual_format(spec) if own == "picture" and not plain else own


def paint_all(painter: Painter, records: list[Record], rejected: list[Rejected], folder: Path, format: str | None,
              journal: Journal) -> Iterator[Row]:
    """Paint and write mask by mask; yields rows of samples.csv."""
    styles: dict[str, int] = {}
    for record in track(records, None, "painting", "masks"):
        if made := journal.made(record.source):
            if record.patient not in styles and len(record.load().space) == 2:
                styles[record.patient] = int(str(made[0]["index"]))
            yield from made
            continue
        index = journal.free()
        try:
            mask = record.load()
            shares = len(mask.space) == 2  # a volume has a style of its own
            image = painter.paint(mask, styles.get(record.patient, index) if shares else index)
            chosen = format or format_for(record, painter)
            files = write_result(painter.facts, mask, image, record, folder / "images", chosen, index)
        except RejectedFile as error:
            rejected.append(Rejected(path=record.source, reason=str(error)))
            continue
        if shares:
            styles.setdefault(record.patient, index)
        yield from journal.add([
            {"file": file.relative_to(folder).as_posix(), "index": index, "source": record.source,
             "seed": painter.seed if painter.style is None else "", "flagged": "unknown",
             "unchecked": painter.unchecked(mask), notes.COLUMN: notes.notes_of(record, mask)} for file in files])
