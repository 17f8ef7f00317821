"""How far a registered image and the fixed one disagree as wholes.

Unlike organs can be made alike window by window, where a warp finds edges everywhere, but not as pictures: of what was
tried (local similarity before and after, folding, size and violence of the warp) this tells them apart best
(docs/lab-notebook.md). What is usual is known from held-out pairs (`limits.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DISAGREEMENT = "disagreement"
UNLIKE = 0.05
"""Share of a further patient's usual pairs above the limit (`limits.limit`). Of 90 held-out pairs of heads one
disagreed wholly: a limit that the most unusual pair in a hundred sets is passed by nothing."""


def disagreement(warped: NDArray[np.float32], fixed: NDArray[np.float32]) -> float:
    """1 - the correlation of two images (c, *space), the means of their channels, in percent: 0 is the same picture up
    to brightness and contrast, 100 a picture that has nothing to do with it, or a blank one."""
    one, other = (image.mean(0, dtype=np.float64).ravel() for image in (warped, fixed))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 100.0
    return float(100 * (1 - np.corrcoef(one, other)[0, 1]))
