"""Commands that make images or a bundle with a trained run: generate, apply, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radsynth._summaries import applied
from radsynth.cli._options import Json, Seed, Target, argument
from radsynth.cli._words import show_result
from radsynth.errors import SettingsError


def generate(
    run: Annotated[Path, argument("RUN", "A run folder.")],
    out: Annotated[Path, argument("OUT", "The folder of images to write.")],
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many images. Those of them that OUT holds stay.")
    ] = 100,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT",
            help="dicom, nifti, metaimage, png, tiff, picture (either) or npz. [default: the input's]"
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only this class. [default: classes as in the data]")
    ] = None,
    truncation: Annotated[
        float, typer.Option(metavar="T", min=0, max=1, help="Below 1: more typical, less varied images.")
    ] = 1.0,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A number that the images are to have, for runs with data.conditions."),
    ] = None,
    copy_filter: Annotated[
        bool, typer.Option("--copy-filter", help="Draw copies of training images again; needs RUN/data.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For runs that paint masks: where training masks are. [default: RUN/data]"),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="RUN", help="For runs that paint masks: a run that draws them (task.masks).")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Make synthetic images. Image k depends on the seed and k alone."""
    from radsynth.verbs.generate import generate as verb

    result = verb(
        run, out, count=count, format=file_format, label=label, truncation=truncation, seed=0 if seed is None else seed,
        copy_filter=copy_filter, data=data, at=_numbers_given(at or []), masks=masks
    )
    show_result(result, as_json)


def _numbers_given(words: list[str]) -> dict[str, float]:
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise SettingsError(f"--at {word}: give a name and a number, such as --at age=63.") from None
    return found


def apply(
    run: Annotated[Path, argument("RUN", "A run folder of a task that takes images.")],
    images: Annotated[Path, argument("INPUT", "Images: a folder, a file or an archive.")],
    out: Annotated[Path, argument("OUT", "The folder of images to write.")],
    file_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="As in generate. [default: each image's own]")
    ] = None,
    target: Target = None,
    onto: Annotated[
        Path | None,
        typer.Option(metavar="FIXED", help="For registration: the image that INPUT is put onto, or a folder with one "
                                           "for each patient."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="LABELS", help="For registration: INPUT's label file, or a folder of them, to warp too."),
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For registration: INPUT's file of landmarks, or a folder of them."),
    ] = None,
    onto_landmarks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="FIXED's landmarks (or folder): say how far they lie apart.")
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=REGEX",
                     help="For runs on several contrasts: how files or series of one are called here."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring other spacing to the training's, and results back.")
    ] = False,
    style: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="For images of masks: an image that lends its style.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="For images of masks: their styles follow from it. [default: 0]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Apply a trained run to images or masks. It translates, restores, segments, registers or paints masks."""
    from radsynth.verbs.apply import apply as verb

    made = verb(run, images, out, format=file_format, target=target, onto=onto, labels=labels, landmarks=landmarks,
                onto_landmarks=onto_landmarks, resample=resample, style=style, seed=seed,
                contrasts=tuple(contrast or ()))
    show_result(made if as_json else applied(made), as_json)


def export(
    run: Annotated[Path, argument("RUN", "A run folder.")],
    out: Annotated[Path, argument("OUT", "The folder to write.")],
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Bundle a trained network for others: ONNX, weights, scripts. The scripts are for NumPy and Keras."""
    from radsynth.verbs.export import export as verb

    found = verb(run, out, target=target)
    show_result(found if as_json else {"bundle": out, "read": out / "README.md", "inputs": list(found["inputs"]),
                                  "outputs": list(found["outputs"]), "check": found["check"]}, as_json)
