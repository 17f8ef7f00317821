"""Sets of images compared, each image its own patient and of no class where nothing else is said."""

from __future__ import annotations

from typing import Any

from radsynth.metrics._features import Rows
from radsynth.verbs._evaluating.sides import Source
from radsynth.verbs.evaluate import evaluate_sources


def compare(*sides: Rows | Source, before: Rows | None = None, **more: Any) -> dict[str, Any]:
    """What `evaluate_sources` finds; sides: held out, of the training, synthetic."""
    sources = [one if isinstance(one, Source) else Source(images=one) for one in sides]
    return evaluate_sources(*sources, before=None if before is None else Source(images=before), **more)
