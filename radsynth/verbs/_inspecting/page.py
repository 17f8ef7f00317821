"""What `inspect` found, as text for a terminal and as a page in one file, with small pictures."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from radsynth._rounding import rounded
from radsynth.datasets import Record, Rejected
from radsynth.datasets._label_table import findings as findings_of
from radsynth.image import Image
from radsynth.io import scans
from radsynth.verbs._grid import in_colour
from radsynth.verbs._inspecting.mask_notes import MANY
from radsynth.verbs._preparing.conversions import in_words as conversion_in_words
from radsynth.verbs._preparing.ct_window import ct_window, has_hounsfield
from radsynth.verbs._rejected import in_words
from radsynth.verbs._report.words import count, named
from radsynth.verbs._scarce import rare

if TYPE_CHECKING:
    from radsynth.verbs._inspecting.inspection import Inspection

SIDE = 112
"""Pixels of a small picture's longer side."""


SHOWN = 20
"""Reasons to reject files that are named on the terminal, each with its first file."""


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small picture as PNG, and its caption."""

    caption: str
    png: bytes


def thumbnail(record: Record, image: Image) -> Thumbnail:
    """A 2-D image, or the middle slice of a volume, between its own 0.5th and 99.5th percentile, CT in its window; of
    several contrasts the first one."""
    from PIL import Image as Pillow

    pixels = image.pixels if image.pixels.ndim == 3 else image.pixels[:, image.space[0] // 2]
    grey = not in_colour(image.channels)
    values = (pixels[0] if grey else np.moveaxis(pixels, 0, -1)).astype(np.float32)
    low, high = (0, 255) if not grey and image.bits == 8 else np.percentile(values, (0.5, 99.5))
    if has_hounsfield(image):
        low, high = ct_window(values, image.window)
    shown = np.clip((values - low) / max(float(high - low), 1e-6) * 255, 0, 255).astype(np.uint8)
    picture = Pillow.fromarray(shown)
    rows, columns = _true_size(pixels, image)
    scale = SIDE / max(rows, columns)
    picture = picture.resize((max(1, round(columns * scale)), max(1, round(rows * scale))), Pillow.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    told = [record.label] if record.label else []
    told += [image.channels[0]] if grey and len(pixels) > 1 else []
    return Thumbnail(caption=record.source + (f" ({', '.join(told)})" if told else ""), png=buffer.getvalue())


def _true_size(pixels: NDArray[np.generic], image: Image) -> tuple[float, float]:
    """Rows and columns in units of the finer spacing, so that bodies keep their shape."""
    rows, columns = pixels.shape[-2:]
    if image.spacing is None:
        return rows, columns
    return rows * image.spacing[-2], columns * image.spacing[-1]


def page(found: Inspection) -> str:
    """The whole page: one file without outside references."""
    import jinja2

    text = (resources.files("radsynth") / "templates" / "inspect.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    pictures = [(base64.b64encode(picture.png).decode("ascii"), picture.caption) for picture in found.pictures]
    return template.render(
        found=found,
        headline=headline(found),
        facts=facts(found),
        problems=told(found),
        pictures=pictures,
        bars=_bars(found),
        version=metadata.version("radsynth"),
    )


def _bars(found: Inspection) -> list[tuple[float, float, float, str]]:
    """(x, height, width, words) of the histogram's bars in a 640 x 160 drawing; heights are square roots of counts."""
    if found.intensity is None:
        return []
    counts, edges = found.intensity.counts, found.intensity.edges
    width, most = 640 / len(counts), max(counts)
    return [
        (
            round(number * width, 2),
            round((count / most) ** 0.5 * 150, 2),
            round(width - 1, 2),
            f"{rounded(edges[number])} to {rounded(edges[number + 1])}: {count:,} pixels",
        )
        for number, count in enumerate(counts)
    ]


def lines(found: Inspection) -> list[str]:
    """The text for a terminal: what there is, what is wrong, what would be done."""
    shown = [f"{found.data} ({found.kind}): {headline(found)}", ""]
    shown += [f"  {name:<11}{value}" for name, value in facts(found).items()]
    shown += ["", *(f"  {'' if problem == NOTHING else '! '}{problem}" for problem in told(found))]
    kinds = _alike(found.rejected)
    shown += [f"      {some[0].path}: {some[0].reason}{f' (and {len(some) - 1:,} alike)' if some[1:] else ''}"
              for some in kinds[:SHOWN]]
    if others := sum(map(len, kinds[SHOWN:])):
        shown.append(f"      ... and {others:,} for other reasons")
    if len(found.rejected) > min(len(kinds), SHOWN):
        shown.append("      --out writes them all to rejected.csv")
    shown += ["", "radsynth run would choose"] if found.planned else []
    return shown + [f"  {choice['setting']} = {choice['value']}: {choice['reason']}" for choice in found.planned]


def headline(found: Inspection) -> str:
    """How many images of how many patients."""
    patients = count(found.n_patients, "virtual patient" if found.virtual else "patient")
    return f"{count(found.n_images, 'volume' if found.dimensions == 3 else 'image')} of {patients}"


def facts(found: Inspection) -> dict[str, str]:
    """What there is, in words."""
    values = "as stored" if found.units == "stored" else f"in {found.units}"
    labels = [f"{value} ({found.mask_names[value]})" if value in found.mask_names else str(value)
              for value in found.masks]
    shown = {
        "format": _listed(found.formats),
        "modality": _modality(found) + ("" if found.mixed else f", values {values}"),
        **({"series": _listed(found.series)} if found.series else {}),
        "size": f"{' x '.join(map(str, found.median_size))} (median of {len(found.sizes)} sizes)"
        if len(found.sizes) > 1
        else _listed(found.sizes),
        "spacing": "unknown"
        if found.spacing is None
        else " x ".join(f"{step:.3g}" for step in found.spacing) + " mm (median)",
        "channels": "1, stored as colour" if found.grey_in_colour else str(found.channels),
        "bits": _listed(found.bits_found),
        "labels": _listed(found.labels) or "none",
        "split": _listed(found.splits) or "none, patients will be divided",
        **({"added": f"{count(found.added, 'image')} for training alone (prepare.extra)"} if found.added else {}),
        "masks": (f"label values {', '.join(labels)}" if found.masks else "none")
        + (f"; {found.unmasked:,} of {found.n_images:,} images have none" if found.unmasked else ""),
    }
    if found.intensity:
        first, middle, last = found.intensity.percentiles
        shown["values"] = (
            f"{rounded(found.intensity.low)} to {rounded(found.intensity.high)}; 1 % are at most {rounded(first)}, "
            f"half at most {rounded(middle)}, 99 % at most {rounded(last)} "
            f"({count(found.intensity.images, 'image')} sampled)"
        )
    return shown


def _modality(found: Inspection) -> str:
    if found.modality != "OT" or len(found.modalities) > 1:
        return _listed(found.modalities)
    return "not stated (data.modality=MR, CT, DX, ... says it)"


def settings_file(found: Inspection) -> str:
    """What `run` would choose as a YAML file of settings, each with its reason."""
    shown = ["# What 'radsynth run' would choose for this data, and why. Change what you like, and give the file to",
             "# prepare, train or run: --settings FILE. Later wins: this file, --budget, section.key=value."]
    sections: dict[str, list[str]] = {}
    for choice in found.planned:
        section, key = choice["setting"].split(".")
        written, reason = sections.setdefault(section, []), f"  # {choice['reason']}"
        if reason not in written:
            written.append(reason)
        written.append(f"  {key}: {json.dumps(choice['value'])}")
    for section, choices in sections.items():
        shown += [f"{section}:", *choices]
    return "\n".join(shown) + "\n"


SCALES = 20
"""So many times the median image's range is another scale."""

DEPTHS = 8
"""So many times apart, images of more than 8 bits come from devices of other bit depths."""

ALIKE = (". If there are more, the files call them alike, as some software does that removes names: "
         "data.patient_pattern finds them in the paths, data.labels in a table")
"""What to do where one Patient ID stands for many."""

FOLDERS = (". There are as many classes: if each lies in a folder of its own, that was taken for a patient, as folders "
           "of few volumes are. \"data.patient_pattern='(?P<patient>[^/]+)$'\" makes each file a patient")
"""What to do where the folders of classes, which are called otherwise, are taken for patients."""

KINDS = 6
"""Reasons why files are not used that are shown at most."""

MANY_CLASSES = 10
"""Classes from which on folders look like patients, where nothing else tells these."""

NOTHING = "nothing is wrong"
"""Said where there is no problem to tell."""

def told(found: Inspection) -> list[str]:
    """What is wrong or odd, and how many files were rejected, in words."""
    files = [f"{in_words(len(found.rejected), 'dicom' in found.formats)} rejected:"] if found.rejected else []
    few = rare(found.labels, found.kind)
    converted = [f"{count:,} x {note}" for note, count in found.notes.items() if note == conversion_in_words()]
    return [*converted, *problems(found), *([few] if few else []), *files] or [NOTHING]


def problems(found: Inspection) -> list[str]:
    """What is wrong or odd with the images that can be used, in words; of rare classes and of conversions `prepare`
    speaks."""
    lines = [f"{count:,} x {note}" for note, count in found.notes.items() if note != conversion_in_words()]
    if found.mixed:
        lines.append("radsynth prepare and run will refuse this. " + found.mixed.replace("\n", "\n    "))
    if found.duplicates:
        copies = sum(len(group) - 1 for group in found.duplicates)
        first = " = ".join(found.duplicates[0])
        lines.append(f"{count(copies, 'file')} with the content of another; prepare uses each once. First: {first}")
    if len(found.modalities) > 1 and not found.mixed:
        lines.append(f"modalities are mixed ({_listed(found.modalities)}): data.only chooses files by their path"
                     + (", data.modality=CT says that all are CT" if {*found.modalities} == {"CT", "OT"} else ""))
    if len(found.series) > 1:
        lines.append(f"several kinds of scan are mixed ({_listed(found.series)}): data.series chooses by these "
                     "descriptions, data.only files by their path, and data.kind=contrasts makes registered ones of a "
                     "patient the channels of one image")
    if found.n_patients < 10:
        lines.append(f"only {count(found.n_patients, 'patient')}: too few to hold some back for an honest evaluation"
                     + (ALIKE if found.n_patients == 1 and "dicom" in found.formats else "")
                     + (FOLDERS if 1 < found.n_patients == len(found.labels) and {*scans()} & {*found.formats} else ""))
    if len(found.masks) > MANY:
        lines.append(f"masks have {len(found.masks)} values: if each thing has its own number, prepare.masks=instances")
    if together := {one for label in found.labels if len(some := findings_of(label)) > 1 for one in some}:
        findings = _findings(found.labels)
        named = ", ".join([one for one in findings if one in together][:2])  # no "No Finding"
        lines.append(f"labels name several findings, and each of the {len(found.labels)} combinations would be a class "
                     f"of its own. The {len(findings)} findings are {_listed(findings)}: data.conditions=[{named}] "
                     "learns the named ones instead, each 1 or 0, so that they can be asked for (--at)")
    dark = min(found.intensity.low, 0) if found.intensity else 0  # of Hounsfield units 0 is water, not nothing
    if found.intensity and found.intensity.tops[1] - dark > SCALES * max(found.intensity.tops[0] - dark, 0) > 0:
        usual, highest = found.intensity.tops
        lines.append(f"images differ in scale: 99 % of the values lie below {rounded(usual)} in the median image, "
                     f"below {rounded(highest)} in the brightest; volumes are mapped by their own percentiles, "
                     "pictures and CT not")
    elif found.intensity and found.mapping == "bits" and found.bits > 8 and (
            found.intensity.usual_tops[1] > DEPTHS * found.intensity.usual_tops[0] > 0):
        darkest, brightest = found.intensity.usual_tops
        lines.append(f"images differ in scale, as devices of other bit depths make them: 99 % of the values lie below "
                     f"{rounded(darkest)} in some and below {rounded(brightest)} in others, so some would be all but "
                     "black. prepare.intensity=percentiles maps each image by its own")
    if found.kind == "folder" and len(found.labels) > MANY_CLASSES and found.n_patients == found.n_images:
        lines.append(f"{len(found.labels)} classes were found, and no patients: if the folders are patients, their "
                     "names would be written into every output, and a patient be in training and test. Then say "
                     "data.labels=none data.patient_pattern='(?P<patient>[^/]+)/'")
    if found.empty_slices:
        lines.append(
            f"{found.empty_slices} of the sampled slices show only background at a volume's end and will be left out"
        )
    if found.skipped:
        lines.append(f"{in_words(len(found.skipped), 'dicom' in found.formats)} not used: "
                     f"{_reasons(found.skipped)}")
    return lines


def _reasons(skipped: Sequence[Rejected]) -> str:
    """Why files are not used, the commonest reasons first."""
    kinds = _alike(skipped)
    shown = [f"{some[0].path}: {some[0].reason}" if len(some) == 1 else
             f"{len(some)} x {some[0].reason}{', or alike' if len({line.reason for line in some}) > 1 else ''}"
             for some in kinds[:KINDS]]
    if others := sum(map(len, kinds[KINDS:])):
        shown.append(f"{others} for other reasons (--out writes them all to rejected.csv)")
    return "; ".join(shown)


def _alike(files: Sequence[Rejected]) -> list[list[Rejected]]:
    """Files by their reason, the commonest first; reasons that differ in what stands behind ( alone are one."""
    alike: dict[str, list[Rejected]] = defaultdict(list)
    for line in files:
        alike[line.reason.partition(" (")[0]].append(line)
    return sorted(alike.values(), key=len, reverse=True)


def _findings(labels: dict[str, int]) -> dict[str, int]:
    """Images of each finding, commonest first, where labels may name several."""
    found = Counter(one for label, count in labels.items() for one in findings_of(label) * count)
    return dict(found.most_common())


def _listed(counts: dict[str, int], most: int = 8) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    parts = [f"{named(name)} ({count:,})" for name, count in list(counts.items())[:most]]
    return ", ".join(parts) + (f" and {len(counts) - most} more" if len(counts) > most else "")
