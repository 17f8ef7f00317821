"""Numbers of pairs: how far results are from the truth of the same patient, image by image (Wang et al. 2004 for SSIM).

They do not follow the contract of this folder, which compares two sets of images that are no pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.metrics import Better, Estimate
from radsynth.metrics._resampling import estimate, halves, units

Images = NDArray[np.float32]
SSIM_WINDOW = 7


# mean |y - x| over pixels, as a share of the range from -1 to 1
def absolute_error(results: Images, truths: Images) -> NDArray[np.float64]:
    """(n,) mean absolute differences of (n, c, *space) in [-1, 1], as shares of the range: 1 is black for white."""
    return np.asarray(np.abs(results - truths).mean(axis=tuple(range(1, truths.ndim)), dtype=np.float64) / 2)


# 10 log10(L^2 / mean (y - x)^2), L = 2 the range
def peak_signal_to_noise(results: Images, truths: Images) -> NDArray[np.float64]:
    """(n,) peak signal-to-noise ratios in dB; equal images count as 100 dB."""
    squares = np.square(results - truths, dtype=np.float64).mean(axis=tuple(range(1, truths.ndim)))
    return np.asarray(10 * np.log10(4 / np.maximum(squares, 4e-10)))


def structural_similarity(results: Images, truths: Images) -> NDArray[np.float64]:
    """(n,) SSIM, the mean over channels, scikit-image's window of 7 pixels (smaller on smaller images; NaN where a
    side is shorter than 3).

    On values from 0 to 2: the paper's begin at 0, and of those from -1 a change of brightness would count most, and
    even with the wrong sign, at mid-grey.
    """
    from skimage import metrics

    similarity: Any = metrics.structural_similarity

    window = min(SSIM_WINDOW, *truths.shape[2:])
    window -= 1 - window % 2
    if window < 3:
        return np.full(len(truths), np.nan)
    return np.asarray([
        similarity(truth, result, data_range=2, channel_axis=0, win_size=window)
        for result, truth in zip(results + 1, truths + 1, strict=True)
    ], dtype=np.float64)


def multi_scale_similarity(results: Images, truths: Images) -> NDArray[np.float64]:
    """(n,) MS-SSIM (Wang et al. 2003), the mean over channels; NaN where a side is shorter than its window of 11."""
    from radsynth.metrics._similarity import WINDOW, ms_ssim

    if min(truths.shape[2:]) < WINDOW:
        return np.full(len(truths), np.nan)
    channels = [ms_ssim(results[:, c:c + 1], truths[:, c:c + 1]) for c in range(truths.shape[1])]
    return np.asarray(np.mean(channels, axis=0))


@dataclass(frozen=True, kw_only=True)
class PairNumber:
    """What is measured of each pair, as `radsynth.metrics.Number`; `measure` gives one value an image. bounds: what it
    cannot lie outside of, whatever its unit."""

    name: str
    title: str
    unit: str
    better: Better
    meaning: str
    measure: Callable[[Images, Images], NDArray[np.float64]]
    bounds: tuple[float, float] = (-math.inf, math.inf)


NUMBERS = (
    PairNumber(name="absolute_error", title="Mean absolute error", unit="units", better="lower", measure=absolute_error,
               bounds=(0, math.inf), meaning="How far a pixel is from the truth on average."),
    PairNumber(name="psnr", title="Peak signal-to-noise ratio", unit="dB", better="higher",
               measure=peak_signal_to_noise,
               meaning="How far the range of intensities stands above the error; 6 dB more is half the error."),
    PairNumber(name="ssim", title="Structural similarity (SSIM)", unit="", better="higher",
               measure=structural_similarity, bounds=(-1, 1),
               meaning="How well local brightness, contrast and structure agree with the truth; 1 is the truth."),
    PairNumber(name="ms_ssim", title="Multi-scale structural similarity (MS-SSIM)", unit="", better="higher",
               measure=multi_scale_similarity, bounds=(0, 1),
               meaning="The same on ever coarser images, together; 1 is the truth."),
)


def over_patients(values: NDArray[np.float64], patients: NDArray[np.int64], repetitions: int, seed: int) -> Estimate:
    """The mean of (n,) values with its 95 % interval over patients; it has no ends where there is one value."""
    rows = halves(patients, repetitions, seed)
    means = [float(values[half].mean()) for half in rows]
    return estimate(float(values.mean()), means, units(patients, rows[0]))
