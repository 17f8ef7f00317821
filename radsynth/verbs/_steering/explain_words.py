"""What the explanation of single images found, in words."""

from __future__ import annotations

from typing import Any

CHANCE = 0.6
"""Below this area under the curve the discriminator does not tell real from synthetic."""
LARGE_GAP = 0.05
"""Share of a difference of scores that integrated gradients may miss."""


def sentences(document: dict[str, Any]) -> list[str]:
    """One sentence a finding, most important first."""
    found = [_redrawing(document)]
    if any(line["label_assumed"] for line in document["images"]):
        found.append("The classes of the given images were guessed by the nearest synthetic images (--label "
                     "names one).")
    found.append(_judge(document["discriminator"]))
    gap = max((line["completeness_gap"] or 0.0 for line in document["images"]), default=0.0)
    if gap > LARGE_GAP:
        found.append(f"Integrated gradients miss up to {100 * gap:.0f} % of what sets the score apart from that of the "
                     "typical image: read those maps with care.")
    return found


def _redrawing(document: dict[str, Any]) -> str:
    def mean(lines: list[dict[str, Any]], name: str) -> float:
        return sum(float(line[name]) for line in lines) / len(lines)

    shown = [line for line in document["images"] if line["kind"] != "synthetic"]
    made = [line for line in document["images"] if line["kind"] == "synthetic"]
    error, own = mean(shown, "absolute_error"), mean(made, "absolute_error")
    what = "given" if any(line["kind"] == "given" for line in shown) else "real"  # given ones may be synthetic
    return (f"Redrawn by the generator, the {len(shown)} {what} images differ by {100 * error:.1f} % of the range on "
            f"average (SSIM {mean(shown, 'ssim'):.2f}); the nearest of the images drawn by "
            f"{100 * mean(shown, 'nearest_absolute_error'):.1f} %, the mean image by "
            f"{100 * mean(shown, 'mean_image_absolute_error'):.1f} %. Synthetic images, whose codes exist, are redrawn "
            f"to {100 * own:.1f} % (SSIM {mean(made, 'ssim'):.2f}): "
            + (f"so most of the error on {what} images is what the generator has not learned."
               if error > 2 * own else "so the search itself leaves most of the error."))


def _judge(discriminator: dict[str, Any]) -> str:
    if not discriminator["there"]:
        return f"{discriminator['reason']} Where it looks cannot be shown."
    area = discriminator["auc_held_out_against_synthetic"]
    if area is None:
        there = discriminator.get("held_out", 0)
        why = f"{there} held-out images are too few to say" if there else "no held-out images are at hand"
        return f"How well the discriminator tells real from synthetic is not known here: {why}."
    told = (f"The discriminator tells {discriminator['images']} held-out real images from as many synthetic ones with "
            f"an area under the curve of {area:.2f}")
    if area < CHANCE:
        return f"{told}: hardly at all, so where it looks says little about what is wrong with the synthetic images."
    return f"{told}: its maps show what it relies on, which need not be what a radiologist would look at."
