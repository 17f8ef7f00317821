"""Images of as many patients as possible."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray


def in_turns(patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of images of these patients (n,): the first of every patient, then the second of every patient, ..."""
    seen = Counter[int]()
    turns = []
    for patient in patients.tolist():
        seen[patient] += 1
        turns.append(seen[patient])
    return np.argsort(turns, kind="stable")
