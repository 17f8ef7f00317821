"""Classes that are not learned, because training shows none or too few of their images."""

from __future__ import annotations

from collections.abc import Mapping

RARE = 20
"""Images of a class, at most, that were not learned among others (docs/benchmarks-quality.md, "Rare classes")."""

NAMED = 8
"""Classes that are named, at most."""


def untaught(counts: Mapping[str, int]) -> str:
    """What to say of classes without training images, and what to do; "" where there is none. counts: these, by class
    """
    names = [name for name, count in counts.items() if not count]
    if not names or not any(counts.values()):
        return ""
    one, more = len(names) == 1, f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (f"no training image is of the class{'' if one else 'es'} {', '.join(names[:NAMED])}{more}: "
            f"{'it is' if one else 'they are'} not learned and cannot be generated. The patients are all in validation "
            f"or test: prepare more of {'it' if one else 'them'}, raise prepare.train, or, where the data has a split "
            "of its own, set prepare.official=false.")


def rare(counts: Mapping[str, int], data: str, images: str = "images") -> str:
    """What to say of classes of few images beside larger ones, and what to do; "" where there is none.

    counts: images by class; data: the data set's kind, of which only folders take tables; images: what is counted
    """
    few = sorted((count, name) for name, count in counts.items() if 0 < count <= RARE)
    if not few or max(counts.values()) <= RARE:
        return ""
    named = ", ".join(f"{name} ({count})" for count, name in few[:NAMED])
    named += f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
    have = "have" if len(few) > 1 else "has"
    tables = "A table of labels (data.labels=PATH) can put them together or leave them out; for"
    advice = tables if data == "folder" else "For"
    return (f"{len(few)} of the {len(counts)} classes {have} {RARE} {images} or fewer, too few to be learned among the "
            f"others: {named}. {advice} a finding that matters see 'Few images, and rare classes' in "
            "docs/when-training-goes-wrong.md")
