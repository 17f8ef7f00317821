"""From the files of a folder to images, volumes and DICOM series, each with its masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from radsynth.datasets import Rejected, _label_table
from radsynth.datasets._archives import ENDINGS, half_unpacked, is_archive
from radsynth.datasets._items import Item, series
from radsynth.datasets._layout import compiled, mask_names, printable
from radsynth.datasets._pairing import is_official_test_image, pair
from radsynth.datasets._structures import outlined
from radsynth.datasets._volumes import Source
from radsynth.datasets._walking import without_data_files
from radsynth.errors import DataError, RadsynthError, RejectedFile
from radsynth.io import Header, NotAnImage, beside, detect, format_module
from radsynth.progress import track

if TYPE_CHECKING:
    from radsynth.datasets.folder import Settings

SCOUT = "a localizer (scout), as its Image Type says, beside other images; alone, or by data.series, it is used"
NOT_UNPACKED = "an archive, of which nothing is read: unpack it, or give its own path"


def gather(root: Path, names: Sequence[str], settings: Settings, rejected: list[Rejected]) -> list[Item]:
    """The images, volumes and series that files below `root` make, with their masks, sorted by name.

    What is none, and masks and images that lack each other, are appended to `rejected`.
    """
    formats = _formats(root, names, settings, rejected)
    files = [name for name, kind in formats.items() if kind != "dicom"]
    found, objects = _series(root, [name for name, kind in formats.items() if kind == "dicom"], settings, rejected)
    keys = {f"{item.name}#{number}": item for number, item in enumerate(found)}
    places = {key: [Path(file).relative_to(root).as_posix() for file in item.source.files]
              for key, item in keys.items() if len(item.header.size) == 3 or item.header.frames == 1}

    def alike(mask: str, among: Sequence[str]) -> list[str]:
        return _of_this_grid(root / mask, formats[mask], {key: keys[key].header for key in among})

    pairs = pair(files, places, alike)
    rejected += [Rejected(path=printable(name), reason=reason, skipped=True) for name, reason in pairs.lonely.items()]
    masks = {name: tuple(str(root / mask) for mask in some) for name, some in pairs.masks.items()}
    seen = [root / mask for some in (*pairs.masks.values(), pairs.lonely) for mask in some]
    without_data_files(root, [file for mask in seen for file in beside(mask)], rejected)
    drawn = outlined(root, objects, found, [(item.uid, item.header.patient) for item in found],
                     mask_names(settings.mask_names), rejected)
    outlines = _without_masked({f"{found[place].name}#{place}": own for place, own in drawn.files.items()}, masks, root,
                               rejected)
    masks |= outlines
    needed = bool(masks) and settings.unmasked == "reject"
    items = [item for item in _files(root, pairs.images, formats, masks, settings.modality, rejected)
             if not needed or _has(masks, item.name, item.name, rejected)]  # what cannot be read is told first
    items += [replace(item, source=replace(item.source, masks=masks.get(key, ()),
                                           structures=drawn.values if key in outlines else ()))
              for key, item in keys.items() if not needed or _has(masks, key, item.name, rejected)]
    return sorted(items, key=lambda item: item.name)


def _formats(root: Path, names: Sequence[str], settings: Settings, rejected: list[Rejected]) -> dict[str, str]:
    """The format of each file that is an image."""
    formats: dict[str, str] = {}
    table = _label_table.table_file(root, settings.labels)
    for name in track(names, len(names), "looking at files", "files"):
        try:
            formats[name] = detect(root / name)
        except RejectedFile as error:
            skipped = isinstance(error, NotAnImage)
            if skipped and table and table.is_file() and table.samefile(root / name):
                continue  # it is used, though not as an image
            idle = skipped and settings.labels == "auto" and "/" not in name and name != _label_table.TABLE
            packed = skipped and name.lower().endswith(ENDINGS) and is_archive(root / name)
            archive = half_unpacked(root / name) or NOT_UNPACKED if packed else ""
            reason = archive or (_label_table.unused(root / name) if idle else None)
            rejected.append(Rejected(path=printable(name), reason=reason or str(error), skipped=skipped))
    return formats


def _without_masked(outlines: Mapping[str, tuple[str, ...]], masks: Mapping[str, tuple[str, ...]], root: Path,
                    rejected: list[Rejected]) -> dict[str, tuple[str, ...]]:
    """DICOM's segmentations of the series that have no mask file; the others are told."""
    for key in outlines.keys() & masks.keys():
        rejected += [Rejected(path=printable(Path(file).relative_to(root).as_posix()), skipped=True, reason=(
            f"its series has a mask already, {printable(Path(masks[key][0]).relative_to(root).as_posix())}"))
            for file in outlines[key]]
    return {key: files for key, files in outlines.items() if key not in masks}


def _has(masks: Mapping[str, tuple[str, ...]], key: str, name: str, rejected: list[Rejected]) -> bool:
    """Has an image or series a mask, as others have? If not, it is told."""
    if key in masks:
        return True
    test = is_official_test_image(name)
    reason = "a test image without a mask, as others have" if test else "it has no mask, as the other images have"
    rejected.append(Rejected(path=printable(name), reason=f"{reason}; data.unmasked=keep uses it", skipped=test))
    return False


def _files(root: Path, names: Sequence[str], formats: Mapping[str, str], masks: Mapping[str, tuple[str, ...]],
           modality: str, rejected: list[Rejected]) -> list[Item]:
    """The images and volumes that are files."""
    items = []
    for name in track(names, len(names), "reading headers", "files"):
        try:
            header = format_module(formats[name]).header(root / name)
        except RadsynthError as error:
            rejected.append(Rejected(path=printable(name), reason=str(error), skipped=isinstance(error, NotAnImage)))
            continue
        source = Source(format=formats[name], files=(str(root / name),), masks=masks.get(name, ()), modality=modality)
        items.append(Item(name=name, source=source, header=header))
    without_data_files(root, [file for item in items for file in item.header.beside], rejected)
    return items


def _series(root: Path, names: list[str], settings: Settings, rejected: list[Rejected],
            ) -> tuple[list[Item], list[str]]:
    """DICOM series as they are wanted, and the files of segmentations; DataError where there are only other series."""
    pattern, others = compiled(settings.series, "series"), Counter[str]()

    def wanted(header: Header, name: str) -> bool:
        if pattern and not pattern.search(header.series or ""):
            others[header.series or "none"] += 1
            return False
        if settings.burned_in == "exclude" and header.burned_in:
            reason = "its pixels may show a patient's name (burned-in annotation), and data.burned_in=exclude is set"
            line = Rejected(path=printable(name), reason=reason, skipped=True)
            rejected.extend([line] if line not in rejected[-1:] else [])  # a file may hold several kinds of image
            return False
        return True

    found, structures = series(root, names, settings.modality, rejected, wanted)
    if others and not found:
        listed = ", ".join(printable(text) for text, _ in others.most_common(10))
        raise DataError(f"No DICOM file of {settings.path} has data.series={settings.series!r} in its series "
                        f"description, which is a regular expression. There are: {listed}")
    scouts = [item for item in found if item.header.localizer]
    if len(scouts) == len(found):
        return found, structures
    rejected += [Rejected(path=printable(item.name), reason=SCOUT, skipped=True) for item in scouts]
    return [item for item in found if not item.header.localizer], structures


def _of_this_grid(mask: Path, format: str, series: Mapping[str, Header]) -> list[str]:
    """Which of some series are volumes of the size and spacing that a mask has."""
    try:
        own = format_module(format).header(mask)
    except RadsynthError:
        return []
    return [name for name, header in series.items() if own.on_grid_of(header)]
