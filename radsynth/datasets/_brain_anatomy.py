"""The anatomy behind the virtual brain cohort: the MNI152 template of the nilearn wheel, and invertible warps of it.

Template: Fonov et al. 2009 (ICBM 2009a nonlinear symmetric). Warps: scaling and squaring of a stationary velocity
field, Arsigny et al. 2006. Coordinates are (z, y, x) in mm, LPS: z to the head, y to the back, x to the left.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import DataError

Array = NDArray[np.float32]

ORIGIN = np.array([-72.0, -98.0, -98.0])
"""Position of the first voxel of the 1-mm template after its axes were turned to (head, back, left)."""

FIELD_STEP = 8.0
"""mm between the nodes on which velocities are integrated: less than half of the finest wave that they carry."""

HALVINGS = 5
"""Scaling and squaring begins with steps of 1 / 2^5 of the velocity: below half a mm."""

FIELD_START = np.array([-114.0, -108.0, -114.0])
FIELD_NODES = (30, 32, 29)
VENTRICLES = np.array([14.0, 18.0, 0.0])
"""Middle of the side ventricles; the dark region around it grows and shrinks from patient to patient."""

CENTRE = np.array([10.0, 17.0, 0.0], dtype=np.float32)
"""Middle of the head; patients are turned and scaled about it, and the field of view is centred on it."""

CROWN_DISTANCE = 40.0
"""mm from the brain's hull up to which the distance is kept; the head is drawn within it."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """The template on a grid of `step` mm, smoothed for images with pixels of a given size.

    maps: (5, z, y, x): T1 value, grey, white matter, brain (all 0 to 1), distance outside the brain's hull in mm
    """

    maps: Array
    origin: NDArray[np.float64]
    step: float

    def sample(self, points: Array) -> Array:
        """The maps at template positions (n, 3): (5, n), linear between voxels, the border's value outside."""
        from scipy.ndimage import map_coordinates

        index = ((points - self.origin) / self.step).astype(np.float32).T
        return np.stack([map_coordinates(m, index, order=1, mode="nearest", output=np.float32) for m in self.maps])


def _template(name: str) -> NDArray[np.uint8]:
    """One template file, axes turned to (head, back, left). Read directly: importing nilearn.datasets takes seconds."""
    import nibabel

    package = importlib.util.find_spec("nilearn")
    folder = Path((package.submodule_search_locations or ["."])[0]) if package else Path()
    path = folder / "datasets" / "data" / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise DataError(
            f"The virtual brain cohort needs the MNI152 template of nilearn 0.10.4 or later, but "
            f"{path.name} is not in the installed package. Install it with: pip install 'nilearn>=0.10.4'"
        )
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    return np.asarray(image.dataobj, dtype=np.uint8).transpose(2, 1, 0)[:, ::-1, ::-1]


@lru_cache(maxsize=2)
def atlas(pixel: float) -> Atlas:
    """The template for images with pixels of `pixel` mm, kept in memory for this process (22 MB from 3 mm on)."""
    from scipy.ndimage import gaussian_filter

    t1, grey, white = (_template(name).astype(np.float32) / np.float32(255) for name in ("t1", "gm", "wm"))
    brain = (t1 > 0).astype(np.float32)
    step = 2 if pixel >= 3 else 1
    fine = [_halve(m) if step == 2 else m for m in (t1, grey, white, brain)]
    spread = 0.4 * pixel / step if pixel > 1.2 else 0.0
    maps = [gaussian_filter(m, spread) for m in fine] if spread else fine
    origin = ORIGIN + (step - 1) / 2
    return Atlas(np.stack([*maps, _outside(brain, step)]), origin, float(step))


@lru_cache(maxsize=1)
def deep_white_matter() -> Array:
    """Positions (n, 3) in mm well inside the white matter of the cerebrum, where a lesion may sit."""
    from scipy.ndimage import uniform_filter

    white = _halve(_template("wm").astype(np.float32) / 255)
    places = np.argwhere(uniform_filter(white, 5) > 0.9) * 2.0 + ORIGIN + 0.5
    reach = (places[:, 0] > -2) & (places[:, 0] < 46) & (np.abs(places[:, 2]) > 14)
    return np.asarray(places[reach], dtype=np.float32)


def _halve(volume: NDArray[Any]) -> Array:
    """Means of blocks of 2x2x2 voxels; an odd last plane is dropped (it is air)."""
    z, y, x = (s // 2 for s in volume.shape)
    blocks: Array = volume[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5), dtype=np.float32)
    return blocks


def _outside(brain: Array, step: int) -> Array:
    """Distance in mm outside the brain's hull, 0 inside, on the grid of `step` mm. The hull bridges gaps up to 24 mm.

    It is measured on a 4-mm grid: a head is smooth on that scale.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

    room = np.pad(_halve(_halve(brain)) > 0.4, 8)
    hull = distance_transform_edt(distance_transform_edt(~room) <= 3) > 3
    signed = np.where(hull, 2 - 4 * distance_transform_edt(hull), 4 * distance_transform_edt(~hull) - 2)
    distance = np.clip(gaussian_filter(signed, 1), 0, CROWN_DISTANCE).astype(np.float32)
    axes = [(np.arange(side // step) * step + (step - 1) / 2 - 1.5) / 4 + 8 for side in brain.shape]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.asarray(map_coordinates(distance, grid, order=1, mode="nearest", output=np.float32))


def _waves(rng: np.random.Generator, spacing: float) -> Array:
    """Three smooth random components on the field's nodes, unit variance: cubic B-splines `spacing` mm apart."""
    weights = [_spline_weights(nodes, spacing) for nodes in FIELD_NODES]
    knots = rng.standard_normal((3, *(w.shape[1] for w in weights)), dtype=np.float32)
    # Plain einsum: it does not go through BLAS, whose sums may depend on the number of threads.
    field = np.einsum("czyx,Zz->cZyx", knots, weights[0])
    field = np.einsum("cZyx,Yy->cZYx", field, weights[1])
    field = np.einsum("cZYx,Xx->cZYX", field, weights[2])
    return np.asarray(field / field.std(), dtype=np.float32)


@lru_cache(maxsize=16)
def _spline_weights(nodes: int, spacing: float) -> Array:
    """(nodes, knots) cubic B-spline weights of equally spaced knots at the field's nodes along one axis."""
    position = np.arange(nodes) * FIELD_STEP / spacing
    distance = np.abs(position[:, None] - (np.arange(int(position[-1]) + 4) - 1)[None])
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.asarray(np.where(distance < 1, inner, outer), dtype=np.float32)


def velocity(rng: np.random.Generator) -> Array:
    """A random stationary velocity field (3, *nodes) in mm: broad and fine waves, and the ventricles' own growth."""
    field = rng.uniform(1.8, 3.2) * _waves(rng, 45.0) + rng.uniform(0.8, 1.6) * _waves(rng, 18.0)
    nodes = np.indices(FIELD_NODES) * FIELD_STEP + FIELD_START[:, None, None, None]
    away = (nodes - VENTRICLES[:, None, None, None]) / np.array([16.0, 32.0, 20.0])[:, None, None, None]
    bump = away * np.exp(-0.5 * (away**2).sum(axis=0) * 2)
    growth = rng.uniform(-3.0, 9.0)
    return np.asarray(field - growth * bump, dtype=np.float32)


def integrate(field: Array) -> Array:
    """Displacement (3, *nodes) in mm after unit time along a stationary velocity field: exp(v) - identity.

    Scaling and squaring: u <- v / 2^5, then five times u(x) <- u(x) + u(x + u(x)).
    """
    from scipy.ndimage import map_coordinates

    nodes = np.indices(FIELD_NODES, dtype=np.float32)
    steps = field / np.float32(FIELD_STEP * 2**HALVINGS)
    for _ in range(HALVINGS):
        moved = nodes + steps
        steps = steps + np.stack([map_coordinates(c, moved, order=1, mode="nearest", output=np.float32) for c in steps])
    return np.asarray(steps * np.float32(FIELD_STEP), dtype=np.float32)


def displaced(points: Array, displacement: Array) -> Array:
    """Positions (n, 3) in mm moved by a displacement given on the field's nodes."""
    from scipy.ndimage import map_coordinates

    index = ((points - FIELD_START) / FIELD_STEP).astype(np.float32).T
    moves = [map_coordinates(c, index, order=1, mode="nearest", output=np.float32) for c in displacement]
    return np.asarray(points + np.stack(moves, axis=1), dtype=np.float32)


def carried(points: Array, field: Array) -> Array:
    """Positions (n, 3) in mm after unit time along a velocity field: the steps of `integrate`, one by one."""
    for _ in range(2**HALVINGS):
        points = displaced(points, field / np.float32(2**HALVINGS))
    return points


def generator(seed: int, index: int, stream: str) -> np.random.Generator:
    """Random numbers of one patient for one purpose."""
    return np.random.default_rng([seed, index, *stream.encode()])


@dataclass(frozen=True, eq=False)
class Patient:
    """A virtual patient's anatomy: a warp of the template, and lesions.

    velocity: (3, *nodes) mm; affine: (3, 3) about CENTRE and shift: (3,) mm, applied after the warp
    """

    seed: int
    index: int
    rare: bool
    velocity: Array
    affine: Array
    shift: Array

    def to_template(self, points: Array) -> Array:
        """Where positions (n, 3), (z, y, x) in mm, lie in the template."""
        there: Array = np.einsum("nj,ij->ni", displaced(points, self._forward) - CENTRE, self.affine)
        return there + CENTRE + self.shift

    def from_template(self, points: Array) -> Array:
        """The inverse of `to_template`, up to the interpolation of the field."""
        before = (points - CENTRE - self.shift) @ np.linalg.inv(self.affine).T + CENTRE
        return carried(before.astype(np.float32), -self.velocity)

    @cached_property
    def _forward(self) -> Array:
        return integrate(self.velocity)

    @cached_property
    def lesions(self) -> Array:
        """(n, 2, 3): centre and radii in mm of each lesion, in the patient's own space; none in the healthy."""
        if not self.rare:
            return np.empty((0, 2, 3), np.float32)
        rng = generator(self.seed, self.index, "lesions")
        deep = deep_white_matter()
        count = int(rng.integers(1, 4))
        centres = self.from_template(deep[rng.choice(len(deep), count, replace=False)])
        radii = rng.uniform(6.0, 13.0, (count, 1)) * rng.uniform(0.85, 1.15, (count, 3))
        return np.stack([centres, radii], axis=1).astype(np.float32)


@lru_cache(maxsize=2)
def patient(seed: int, index: int, rare: bool) -> Patient:
    """The anatomy of one virtual patient. It follows from the arguments alone; the last two are kept in memory."""
    rng = generator(seed, index, "anatomy")
    field = velocity(rng)
    turn = np.deg2rad(rng.normal(0, (3.5, 2.5, 3.5)))
    scale = 1 / np.clip(rng.normal(1.0, 0.03) * rng.normal(1, (0.03, 0.035, 0.035)), 0.88, 1.1)
    affine = np.asarray(_rotation(turn) * scale, dtype=np.float32)
    return Patient(seed, index, rare, field, affine, rng.normal(0, (2.0, 2.5, 2.0)).astype(np.float32))


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation about the three axes in turn, angles in radians."""
    total = np.eye(3)
    for axis, angle in enumerate(angles):
        plane = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[np.ix_(plane, plane)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        total = total @ turn
    return total
