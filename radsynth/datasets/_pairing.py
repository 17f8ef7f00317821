"""Which mask is of which image or DICOM series: by names, and of several series in one folder by their grids."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from radsynth.datasets._layout import IMAGE_FOLDERS, MASK_FOLDERS, printable, stem

UNLABELLED_FOLDERS = {"imagests"}
"""The Decathlon's test images, which come without masks."""

WORDS = "mask|masks|seg|dseg|segmentation|label|labels|gt"
MASK_ENDINGS = re.compile(rf"[._-]({WORDS})([_-]?\d{{1,2}})?$", re.IGNORECASE)
MASK_BEGINNINGS = re.compile(rf"({WORDS})[._ -]+(?=.)", re.IGNORECASE)
"""segmentation-0 beside volume-0, as in LiTS; mask_001 of image_001."""
MASK_NAMES = re.compile(rf"({WORDS})([._-]({WORDS}))?", re.IGNORECASE)
"""Names that say nothing else: seg.nii.gz, and 3D Slicer's Segmentation.seg.nrrd and Segmentation-label.nrrd."""

OF_MASKS = re.compile(r"_(label|desc)-[a-z0-9]+")
"""What BIDS says of a mask in its name: sub-1_label-L_desc-T1lesion_mask beside sub-1_T1w, as in ATLAS."""

CHANNEL_ENDING = re.compile(r"_0000$")
"""nnU-Net's number of the first channel."""

PARTS = re.compile(r"[._ -]")
MANY = 100
"""Series in one folder from which on no mask is sought among them by its grid."""

ALONE = "a mask without an image of its name"
ANOTHER = "another mask of its image is used ({})"
UNSURE = ("it may be the mask of several images ({}): name it after one of them (x_mask of x), or after the "
          "folder of a series")
TOO_MANY = ("it is one of several masks that may be of one image ({} of {}), so that none is taken: put them into one, "
            "or leave the others out (data.only)")

Folders = tuple[str, ...]
Key = tuple[Folders, str]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """images: the files that are no masks; masks: image or series -> its masks; lonely: mask -> why it is of none."""

    images: list[str]
    masks: dict[str, tuple[str, ...]]
    lonely: dict[str, str]


def pair(paths: Iterable[str], series: Mapping[str, Sequence[str]] | None = None,
         alike: Callable[[str, Sequence[str]], list[str]] = lambda mask, names: []) -> Pairs:
    """Tell masks from images by their folder (masks/, labels/, labelsTr/, ...) or by an ending (x_mask beside x).

    An image may have several, x_mask, x_mask_1, x_mask_2, ..., each with a part of what is to be seen. A mask without
    an image of its name is of the only image whose name begins with its own (sub-01_seg beside sub-01_T1w), or ends as
    its own (segmentation-0 beside volume-0); one that is called seg, mask, ... alone of the only image in its folder.
    series: the files of each DICOM series, which are not among the paths. The series' folder counts as its name, or its
    file where it has one alone; a mask in its folder, or in one above it, is its own where there is no other series.
    alike: which of some series have the grid of a mask, asked where there are several
    """
    paths, series = list(paths), series or {}
    known = _Known(paths, series)
    masks: dict[str, tuple[str, ...]] = {}
    lonely, open_masks = dict[str, str](), list[str]()
    for path in paths:
        inside, (folders, name) = _in_mask_folder(path), _key(path)
        short = MASK_ENDINGS.sub("", name)
        image = (known.keys.get((folders, name)) if inside else None) or (
            known.keys.get((folders, short)) if inside or short != name else None) or known.ends_as(path)
        if image is None and _named_as_mask(path):
            open_masks.append(path)
        elif image is not None and image in masks and short == name:
            lonely[path] = ANOTHER.format(_shown(masks[image][0]))
        elif image is not None:
            masks[image] = (*masks.get(image, ()), path)
    claims: dict[str, list[str]] = defaultdict(list)
    for path in open_masks:
        found = known.near(path)
        if 1 < len(found) <= MANY:
            same = alike(path, [name for name in found if name in series])
            found = same if len(same) == 1 else found
        if len(found) == 1:
            claims[found[0]].append(path)
        elif found:
            lonely[path] = UNSURE.format(", ".join(map(_shown, found[:2])) + (", ..." if len(found) > 2 else ""))
        elif _in_mask_folder(path) or known.has(path):
            lonely[path] = ALONE
    for image, some in claims.items():
        if len(some) > 1 or image in masks:
            lonely |= dict.fromkeys(some, TOO_MANY.format(len(some) + len(masks.get(image, ())), _shown(image)))
        else:
            masks[image] = tuple(some)
    taken = {path for some in masks.values() for path in some} | set(lonely)
    return Pairs(images=[path for path in paths if path not in taken], masks=masks, lonely=lonely)


class _Known:
    """Images and series by their names and folders; what lies in images/ counts as lying one folder up.

    keys: by folders and name; beginnings: images by folders and a part of their name up to a sign between words;
    endings: likewise, from a sign between words on;
    beside: images by their folder; below: series by each folder above their files
    """

    def __init__(self, paths: Sequence[str], series: Mapping[str, Sequence[str]]) -> None:
        self.keys = {_key(path): path for path in paths if not _in_mask_folder(path)}
        self.beginnings: dict[Key, list[str]] = defaultdict(list)
        self.endings: dict[Key, list[str]] = defaultdict(list)
        self.beside: dict[Folders, list[str]] = defaultdict(list)
        self.below: dict[Folders, list[str]] = defaultdict(list)
        for path in paths:
            if not _named_as_mask(path):
                folders, name = _key(path)
                self.beside[folders].append(path)
                for part in PARTS.finditer(name):
                    self.beginnings[folders, name[:part.start()]].append(path)
                    if not MASK_BEGINNINGS.match(name):
                        self.endings[folders, name[part.end():]].append(path)
        owners: dict[Key, list[str]] = defaultdict(list)
        for one, files in series.items():
            folders = _folders(os.path.commonpath([os.path.dirname(file) for file in files]))
            if len(set(files)) == 1:
                owners[_key(files[0])].append(one)
            if folders:
                owners[folders[:-1], folders[-1]].append(one)
            for depth in range(len(folders) + 1):
                self.below[folders[:depth]].append(one)
        for key, some in owners.items():
            if len(some) == 1:
                self.keys.setdefault(key, some[0])

    def ends_as(self, path: str) -> str | None:
        """The only image that ends as a mask does whose name begins with such a word; None for other files."""
        folders, name = _key(path)
        begun = MASK_BEGINNINGS.match(name)
        found = self.endings[folders, name[begun.end():]] if begun else []
        return found[0] if len(found) == 1 else None

    def near(self, path: str) -> list[str]:
        """The images and series that a mask without an image of its own name can be of."""
        folders, name = _key(path)
        if MASK_NAMES.fullmatch(name):
            return [*self.beside[folders], *self.below[folders]]
        short = MASK_ENDINGS.sub("", name)
        plain, inside = OF_MASKS.sub("", short), (*folders, short)
        whole = [self.keys[folders, plain]] if (folders, plain) in self.keys else []
        if found := (self.beginnings[folders, short] or whole or self.beginnings[folders, plain]
                     or [*self.beside[inside], *self.below[inside]]):
            return found
        others = self.below[folders]
        return others if not self.beside[folders] and (folders or len(others) == 1) else []

    def has(self, path: str) -> bool:
        """Are there images in a file's folder, or series below it?"""
        folders = _key(path)[0]
        return bool(self.beside[folders] or self.below[folders])


def is_official_test_image(path: str) -> bool:
    """Lies in the Decathlon's folder of test images, for which no masks were published."""
    return any(part.lower() in UNLABELLED_FOLDERS for part in PurePosixPath(path).parts[:-1])


def _in_mask_folder(path: str) -> bool:
    return any(part.lower() in MASK_FOLDERS for part in PurePosixPath(path).parts[:-1])


def _named_as_mask(path: str) -> bool:
    name = stem(PurePosixPath(path).name)
    return _in_mask_folder(path) or bool(MASK_ENDINGS.search(name) or MASK_NAMES.fullmatch(name))


def _folders(folder: str) -> Folders:
    """The folders of a path without images/ and masks/, in small letters."""
    parts = (part.lower() for part in PurePosixPath(folder).parts)
    return tuple(part for part in parts if part not in MASK_FOLDERS | IMAGE_FOLDERS)


def _key(path: str) -> Key:
    """What an image and its mask have in common: the folders without images/ or masks/, and the bare name."""
    whole = PurePosixPath(path)
    return _folders(str(whole.parent)), CHANNEL_ENDING.sub("", stem(whole.name)).lower()


def _shown(name: str) -> str:
    return printable(name.partition("#")[0])
