"""Classes that no training image shows: no network learns them."""

from __future__ import annotations

from collections.abc import Mapping


def untaught(counts: Mapping[str, int]) -> str:
    """What to say of them, and what to do; "" where every class has training images. counts: these, by class"""
    names = [name for name, count in counts.items() if not count]
    if not names or not any(counts.values()):
        return ""
    one = len(names) == 1
    return (f"no training image is of the class{'' if one else 'es'} {', '.join(names)}: "
            f"{'it is' if one else 'they are'} not learned and cannot be generated. The patients are all in validation "
            f"or test: prepare more of {'it' if one else 'them'}, raise prepare.train, or, where the data has a split "
            "of its own, set prepare.official=false.")
