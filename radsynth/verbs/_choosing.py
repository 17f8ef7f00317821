"""What `run` chooses for data that was inspected and settings that were given; `inspect` shows the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radsynth.settings import Resolved

if TYPE_CHECKING:
    from radsynth.choices import Choice
    from radsynth.verbs._inspection import Inspection


BATCHES = {"batch", "accumulate", "processes"}
"""Settings after which batches stay of the size that was asked for, or of one that can be parted so."""


def choices(given: Resolved, found: Inspection, budget: dict[str, float]) -> list[Choice]:
    """The plan for the task and the network that were asked for. budget: train.seconds or train.images, {} for none."""
    from radsynth.choices import Choice
    from radsynth.device import here
    from radsynth.plan import plan

    model = given.kind("model") if given.given("model").get("kind") else ""
    size = tuple(given.section("prepare").size or ()) if given.given("prepare").get("size") else ()
    planned = plan(found.fingerprint, here(), budget, task=given.kind("task"), model=model, size=size,
                   grows=grows(given), **_beginning(given, found))
    if found.grey_in_colour:
        reason = "The images are stored as colour and show grey: red, green and blue are equal at every pixel."
        planned.insert(0, Choice(setting="prepare.channels", value="grey", reason=reason))
    return planned


def grows(given: Resolved) -> bool:
    """Whether batches and their augmentation are the plan's."""
    return not (given.given("train").keys() & BATCHES or "strength" in given.given("augment"))


def _beginning(given: Resolved, found: Inspection) -> dict[str, Any]:
    """What training is asked to start from, and whether the plan may choose a base: not where it could not fit."""
    from radsynth.verbs._likeness import Likeness
    from radsynth.verbs._training.start import read_start

    asked = given.given("train").get("start")
    if asked:
        return {"start": read_start(asked)}
    other = (given.given("model") or "size" in given.given("prepare") or given.given("data").get("conditions")
             or given.given("task").get("masks"))
    return {"alike": Likeness(found.pictures) if asked is None and not other else None}
