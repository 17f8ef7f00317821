"""What a blinded reader study says: can readers tell synthetic images from real ones, how surely, and do they agree?

Ratings are 1 (definitely real) to `LEVELS` (definitely synthetic). The truth is known for every image, so chance is an
accuracy of one half and an area of one half. Kappa: Fleiss 1971; interval of a share: Wilson 1927; readers and images
are both samples of more readers and more images, so both are drawn again for the interval of their mean (Gallas 2006).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVELS = 6
"""Steps of the scale: definitely, probably, perhaps real; perhaps, probably, definitely synthetic."""
REPETITIONS = 2000


@dataclass(frozen=True, kw_only=True)
class Share:
    """A number between 0 and 1 with its 95 % interval; n: images (or reader-image pairs) that it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reader's ratings against the truth.

    accuracy: share of images called rightly; area: under the ROC curve; taken_for_real: share of synthetic images that
    were called real; called_synthetic: share of real images that were called synthetic
    """

    reader: str
    accuracy: Share
    area: float
    taken_for_real: Share
    called_synthetic: Share


def wilson(successes: float, n: int) -> Share:
    """Wilson's 95 % score interval of a share."""
    assert 0 <= successes <= n and n > 0
    z, p = float(norm.ppf(0.975)), successes / n
    centre, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    # The ends of none and of all are 0 and 1, which rounding misses by 1e-17: nobody is to read that.
    return Share(value=p, low=float(low) if successes else 0.0, high=float(high) if successes < n else 1.0, n=n)


def area(ratings: NDArray[np.int64], synthetic: NDArray[np.bool_]) -> float:
    """Chance that a synthetic image is rated higher than a real one, ties half (Mann and Whitney). nan without both."""
    if synthetic.all() or not synthetic.any():
        return float("nan")
    real, made = (np.bincount(ratings[which], minlength=LEVELS + 1)[1:] for which in (~synthetic, synthetic))
    return float(_area(real, made))


def _area(real: NDArray[np.int64], made: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same from the numbers of real and of synthetic images at each level, (..., LEVELS)."""
    below = np.cumsum(real, axis=-1) - real / 2
    area: NDArray[np.float64] = (made * below).sum(-1) / (made.sum(-1) * real.sum(-1))
    return area


def fleiss_kappa(calls: NDArray[np.bool_]) -> float:
    """Agreement beyond chance of (readers, images) calls: 1 is perfect, 0 chance. nan for one reader or one call."""
    readers = len(calls)
    if readers < 2 or calls.all() or not calls.any():
        return float("nan")
    yes = calls.sum(0)
    agreeing = (yes * (yes - 1) + (readers - yes) * (readers - yes - 1)) / (readers * (readers - 1))
    share = yes.sum() / calls.size
    expected = share**2 + (1 - share) ** 2
    return float((agreeing.mean() - expected) / (1 - expected))


def read(reader: str, ratings: NDArray[np.int64], synthetic: NDArray[np.bool_]) -> Reading:
    """One reader: ratings (n,) in 1..LEVELS and the truth (n,), with both real and synthetic images among them."""
    called = ratings > LEVELS // 2
    return Reading(
        reader=reader, accuracy=wilson(int((called == synthetic).sum()), len(called)),
        area=area(ratings, synthetic), taken_for_real=wilson(int((~called & synthetic).sum()), int(synthetic.sum())),
        called_synthetic=wilson(int((called & ~synthetic).sum()), int((~synthetic).sum())),
    )


def pooled(ratings: NDArray[np.int64], synthetic: NDArray[np.bool_], seed: int = 0) -> tuple[Share, Share]:
    """Mean accuracy and mean area of (readers, images) ratings; intervals over readers and images drawn again.

    Where nothing scatters (all right, all wrong, or all called alike), Wilson's interval stands in: of the images, for
    the area of the rarer kind of images.
    """
    rng, readers = np.random.default_rng(seed), len(ratings)
    levels = (ratings[:, :, None] == np.arange(1, LEVELS + 1)).transpose(1, 0, 2).reshape(len(synthetic), -1)
    counts = []  # (1 + repetitions, readers, levels): as they are, then with images drawn again
    for which in (~synthetic, synthetic):
        n = int(which.sum())
        drawn = np.vstack([np.ones((1, n), np.int64), rng.multinomial(n, np.full(n, 1 / n), REPETITIONS)])
        counts.append((drawn @ levels[which]).reshape(len(drawn), readers, LEVELS))
    real, made = counts
    right = real[..., :LEVELS // 2].sum(-1) + made[..., LEVELS // 2:].sum(-1)
    who = np.vstack([np.ones((1, readers), np.int64),
                     rng.multinomial(readers, np.full(readers, 1 / readers), REPETITIONS)])
    # Divided last: sums of six sixths scatter by 1e-16, which is no interval.
    accuracy = (who * right).sum(1) / (readers * len(synthetic))
    area = (who * _area(real, made)).sum(1) / readers
    rarer = min(int(synthetic.sum()), int((~synthetic).sum()))
    return _share(accuracy, ratings.size, len(synthetic)), _share(area, ratings.size, rarer)


def _share(values: NDArray[np.float64], n: int, images: int) -> Share:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    if low == high:
        return replace(wilson(min(float(values[0]), 1.0) * images, images), n=n)
    return Share(value=float(values[0]), low=float(low), high=float(high), n=n)
