"""What `run` chooses for data that was inspected and settings that were given; `inspect` shows the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from radsynth.settings import Resolved
from radsynth.settings import names as settings_of

if TYPE_CHECKING:
    from radsynth.choices import Choice
    from radsynth.verbs._inspecting.inspection import Inspection


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
    if given.given("prepare").get("spacing"):
        planned = [choice for choice in planned if choice.setting != "prepare.fit"]  # patches keep pixels as they are
    if found.grey_in_colour:
        reason = "The images are stored as colour and show grey: red, green and blue are equal at every pixel."
        planned.insert(0, Choice(setting="prepare.channels", value="grey", reason=reason))
    if found.ct_by_values:
        reason = "No file says what it shows; air and tissue lie at Hounsfield values, which are kept so."
        planned[:0] = [Choice(setting="data.kind", value=found.kind, reason="As found."),
                       Choice(setting="data.modality", value="CT", reason=reason)]
    return planned


def asked_budget(given: Resolved) -> dict[str, float]:
    """train.images and train.seconds where the settings ask for some."""
    return {name: value for name, value in given.given("train").items() if name in ("images", "seconds") and value}


def told_of_modality(found: Inspection, given: Resolved, budget: dict[str, float]) -> Inspection:
    """The inspection, with a note where a base generator would be begun with if the modality, which no file tells, were
    stated."""
    from radsynth.bases import facts, names
    from radsynth.verbs._likeness import NEAR, Likeness

    if found.modality != "OT" or "modality" not in settings_of("data", found.kind):
        return found
    for base in map(facts, names()):
        stated = choices(given, replace(found, modality=base.modalities[0]), budget)
        begins = any(choice.setting == "train.start" and choice.value == base.name for choice in stated)
        if begins and Likeness(found.pictures).distance(base) <= NEAR:
            note = (f"an image of no stated modality that looks like those of the base generator {base.name}: if they "
                    f"are {' or '.join(base.modalities)}, data.modality={base.modalities[0]} lets training begin with "
                    "its weights, from which so few images are learned better than from chance")
            return replace(found, notes={**found.notes, note: found.n_images})
    return found


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
