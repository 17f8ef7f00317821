"""Commands that look into a run, and at what there is: control, explain, serve, show."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from radsynth.cli._options import Json, Overrides, Seed, argument
from radsynth.cli._words import resolved, show_result, split_words


def control(
    run: Annotated[Path, argument("RUN", "A run folder of a task that draws images from noise.")],
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="The folder to write. [default: RUN/control]")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Move images of this class. [default: every class in turn]")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Find latent directions and measure what each of them changes.

    Truncation, ways between images, directions in closed form, principal ones, of attributes and of classes: contact
    sheets (PNG), control.json and directions.npz.
    """
    from radsynth.verbs.control import control as verb

    found = verb(run, out, label=label, seed=0 if seed is None else seed)
    show_result(found if as_json else {"findings": [{"in_words": text} for text in found["words"]],
                                  "pictures": found["pictures"]}, as_json)


def explain(
    run: Annotated[Path, argument("RUN", "A run folder of a task that draws images from noise.")],
    words: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE]... [OUT]", help="Real images, then a new folder to write. [default: held-out "
                       "images of the prepared data; RUN/explain]"),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="LABEL", help="The images' class. [default: guessed]")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The prepared folder of the training. [default: RUN/data]")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Explain by single images. Redrawing them, counterfactual pairs, where the discriminator looks."""
    from radsynth.verbs.explain import explain as verb
    from radsynth.verbs.explain import is_output

    images, out = list(words or []), None
    if images and is_output(images[-1]):
        out = images.pop()
    found = verb(run, images, out, label=label, data=data, seed=0 if seed is None else seed)
    show_result(found if as_json else {"findings": [{"in_words": text} for text in found["words"]],
                                  "pictures": found["pictures"]}, as_json)


def serve(
    run: Annotated[str, argument("RUN", "A run folder.")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Whom to answer; 0.0.0.0: the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Show a run in the browser: an explorer, a blinded reader study."""
    (run,), overrides = split_words([run, *(overrides or [])], "RUN")
    settings = resolved(["study"], overrides, None, None)
    from radsynth.web.serve import serve as verb

    verb(Path(run), host=host, port=port, settings=settings)


def show(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="settings, kinds, presets or a run folder.")] = "settings",
    name: Annotated[str | None, argument("NAME", "A section or kind; a folder of kinds; a preset.")] = None,
    as_json: Json = False,
) -> None:
    """Tell of settings, kinds and presets, or how a run stands.

    Kinds of data sets, networks, losses, formats, metrics and tasks.
    """
    from radsynth.verbs.show import show as verb

    found: Any = verb(what, name)
    if what == "kinds" and not as_json:  # a table a folder: one of all would be cut
        found = {folder: [{"kind": one.kind, "meaning": one.meaning} for one in kinds]
                 for folder, kinds in groupby(found, attrgetter("folder"))}
    show_result(found, as_json)
