"""Registrations that learn nothing, by SimpleITK (extra `itk`): what a registration network has to beat.

A method maps a moving and a fixed image (*space) to the displacement (d, *space) in pixels, as `tasks._warp` has it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Method = Callable[[Array, Array], Array]

KNOTS = 8
"""Pixels between the knots of the B-spline at its finest."""
LEAST = 16
"""Pixels along the shortest side down to which images are halved for a coarse start."""
SAMPLED = 0.2
"""Share of a volume's voxels that the B-spline compares: at least four times as fast as all of them, about as exact."""


def methods() -> dict[str, Method]:
    """Methods by name; none without SimpleITK."""
    if importlib.util.find_spec("SimpleITK") is None:
        return {}
    return {"B-spline (SimpleITK)": b_spline, "demons (SimpleITK)": demons}


def b_spline(moving: Array, fixed: Array) -> Array:
    """Free-form deformation (Rueckert et al. 1999): cubic B-splines, mutual information, L-BFGS-B, coarse to fine.

    A long step of the search may carry everything out of the image (of slices of 32 pixels one pair in five), where ITK
    gives up: then it is sought again with knots that move by half an image at most. Nothing moves if that fails, too.
    """
    half = min(fixed.shape) / 2
    bounds: list[dict[str, float]] = [{}, {"lowerBound": -half, "upperBound": half}]
    for bound in bounds:
        with suppress(RuntimeError):  # all that SimpleITK raises
            return _b_spline(moving, fixed, bound)
    return np.zeros((fixed.ndim, *fixed.shape), np.float32)


def _b_spline(moving: Array, fixed: Array, bound: dict[str, float]) -> Array:
    itk, one, other = _images(moving, fixed)
    shrinks = _shrinks(fixed.shape)
    mesh = [max(1, round(side / KNOTS)) for side in fixed.shape[::-1]]
    method = itk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    if fixed.ndim == 3:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(SAMPLED, seed=1)
    method.SetOptimizerAsLBFGSB(numberOfIterations=50, maximumNumberOfCorrections=5, **bound)
    method.SetInterpolator(itk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrinks)
    method.SetSmoothingSigmasPerLevel([shrink / 2 if shrink > 1 else 0.0 for shrink in shrinks])
    method.SetInitialTransform(itk.BSplineTransformInitializer(other, mesh, 3), inPlace=True)
    found = method.Execute(other, one)
    field = itk.TransformToDisplacementField(found, itk.sitkVectorFloat64, other.GetSize())
    return _array(itk, field)


def demons(moving: Array, fixed: Array) -> Array:
    """Diffeomorphic demons (Vercauteren et al. 2009) after histogram matching, coarse to fine."""
    itk, one, other = _images(moving, fixed)
    matching = itk.HistogramMatchingImageFilter()
    matching.SetNumberOfHistogramLevels(256)
    matching.SetNumberOfMatchPoints(15)
    matching.ThresholdAtMeanIntensityOn()
    one = matching.Execute(one, other)
    filter = itk.DiffeomorphicDemonsRegistrationFilter()
    filter.SetNumberOfIterations(50)
    filter.SetSmoothDisplacementField(True)
    filter.SetStandardDeviations(1.0)
    field: Any = None
    for shrink in _shrinks(fixed.shape):
        near, far = (itk.Shrink(itk.SmoothingRecursiveGaussian(image, shrink / 2), [shrink] * image.GetDimension())
                     if shrink > 1 else image for image in (other, one))
        if field is None:
            field = filter.Execute(near, far)
        else:
            field = filter.Execute(near, far, itk.Resample(field, near))
    return _array(itk, itk.Resample(field, other))


def _images(moving: Array, fixed: Array) -> tuple[Any, Any, Any]:
    import SimpleITK

    itk: Any = SimpleITK  # it ships no types
    return itk, *(itk.GetImageFromArray(np.asarray(image, np.float32)) for image in (moving, fixed))


def _shrinks(space: tuple[int, ...]) -> list[int]:
    """Factors by which images are made coarser, falling to 1."""
    return [factor for factor in (4, 2, 1) if factor == 1 or min(space) // factor >= LEAST]


def _array(itk: Any, field: Any) -> Array:
    """ITK's vectors (x, y[, z]) of pixels of size 1 as (d, *space)."""
    return np.ascontiguousarray(np.moveaxis(itk.GetArrayFromImage(field), -1, 0)[::-1], np.float32)
