"""The audit's verdict in words, and what it cannot promise."""

from __future__ import annotations

from collections.abc import Sequence

from radsynth.arrays import Prepared
from radsynth.metrics._privacy_attacks import FALSE_ALARMS, guessed
from radsynth.verbs._auditing.attacks import Attack
from radsynth.verbs._auditing.copies import Copies

PATIENTS = "reidentification"
"""The attack that asks about patients, not about images."""
INSIDE = "membership_discriminator"
"""The attack by somebody who has the run folder: it speaks against giving that away, not against the images."""

CHANCE = 0.025
"""How probable as many copies may be where there are none, for a verdict."""

LIMITS = (
    "An attack that fails proves only that this attack failed. Only training with differential privacy gives a bound "
    "that holds against every attack.",
    "Copies are found up to a shift of 4 pixels, a flip, a change of brightness or contrast, and slight noise. Turned, "
    "warped or partly copied images can be missed, and so can a copy of one region.",
    "Masks beside the images are not looked at: those of a training patient, deformed, are still like that patient's.",
    "Who has images of a patient and asks about that patient is looked at here; what a reader may infer about a "
    "group of patients (a disease, a site) is not.",
    "The audit holds for the synthetic images that were looked at, not for others that the same generator would make.",
)


def limits_of_added(prepared: Prepared) -> list[str]:
    """What the audit cannot promise where `prepare.extra` added images to the training."""
    own, showing, every = (len(rows) for rows in (
        prepared.own("train"), prepared.showing("train"), prepared.indices("train")))
    texts = []
    if every > showing:
        texts.append(f"{every - showing:,} synthetic images that prepare.extra added to the training were not searched "
                     "for copies: they show nobody. If their generator learned from other patients than these, copies "
                     "of those are not found here: audit that generator's run.")
    if showing > own:
        texts.append(f"The {showing - own:,} other images that prepare.extra added were searched for copies, but none "
                     "of them is unseen, so that nobody can be attacked among the people whom they may show.")
    return texts


def verdict(copies: Copies | None, attacks: Sequence[Attack], refused: Sequence[dict[str, str]],
            ) -> tuple[str, bool | None]:
    """The verdict, and whether everything was passed: None when something that matters could not be tried."""
    many = "" if copies is None else _many(copies)
    bad = [f"{many}: copies."] if copies is not None and many and copies.chance <= CHANCE else []
    bad += [f"{attack.title} works: area under the curve {attack.main.auc.value:.3f} "
            f"({attack.main.auc.low:.3f} to {attack.main.auc.high:.3f}; guessing 0.5), control "
            f"{attack.control.auc.value:.3f}, baseline {attack.baseline.auc.value:.3f}; "
            f"{100 * attack.main.hits.value:.1f} % of the training {_asked(attack)} found at 1 % false alarms "
            f"(guessing {100 * guessed(attack.main.others):.1f} %)."
            for attack in attacks if attack.found and attack.name != INSIDE]
    not_tried = [line["title"] for line in refused if copies is not None or line["name"] != "copies"]
    inside = any(attack.found and attack.name == INSIDE for attack in attacks)
    rest = " The discriminator does tell who was in training: never give RUN/checkpoints away." if inside else ""
    rest += f" Not tried: {', '.join(not_tried)}." if not_tried else ""
    doubt = ""
    if copies is not None and many and copies.chance > CHANCE:
        doubt = (f" No verdict on copies: {many}, but with so few of these chance alone gives as many in "
                 f"{100 * copies.chance:.0f} of 100 audits. Look at these pairs, and hold out more patients.")
    if bad:
        return "Do not release these images as they are. " + " ".join(bad) + doubt + rest, False
    if doubt:
        return doubt.strip() + rest, None
    outside = [attack.title for attack in attacks if attack.name != INSIDE]
    harmless = f"no attack with the images ({', '.join(outside)}) did better than its control and its baseline"
    if copies is None:
        failed = f" Besides, {harmless}." if outside else ""
        return f"No verdict: copies could not be told from chance.{failed}{rest}", None
    few = ""
    if copies.count:
        images, pairs = ("image is", "this pair") if copies.count == 1 else ("images are", "these pairs")
        few = (f" {copies.count} {images} beyond the threshold, and chance alone gives as many in "
               f"{100 * copies.chance:.0f} of 100 audits: look at {pairs} before a release.")
    more = "No more" if copies.share.value <= copies.expected else "Not clearly more"
    copies_words = f"{more} aligned copies were found than among unseen patients' images"
    if not outside:
        return (f"{copies_words}; no attack with the images could be tried, so this is no verdict on membership."
                f"{few}{rest}"), None
    return f"{copies_words}, and {harmless}.{few}{rest}", True


def _asked(attack: Attack) -> str:
    """Whom an attack is about."""
    return "patients" if attack.name == PATIENTS else "images"


def _many(copies: Copies) -> str:
    """The copies in words where there are more than the threshold promises, else nothing."""
    if copies.share.low <= FALSE_ALARMS:
        return ""
    return (f"{copies.count} of the synthetic images ({100 * copies.share.value:.1f} %, 95 % interval "
            f"{100 * copies.share.low:.1f} to {100 * copies.share.high:.1f} %) are as like a training image as "
            f"only {100 * copies.expected:.1f} % of unseen patients' images are")
