"""Describes the sides of a comparison once and measures every synthetic set with every metric that can be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.arrays import IntensityMap, Prepared
from radsynth.errors import DataError
from radsynth.metrics import Comparison, Measurement, Sample, modules
from radsynth.metrics._features import NAME, describe, keep
from radsynth.progress import Progress
from radsynth.verbs._evaluating.sides import Chosen, Sides

Extractor = Callable[[NDArray[np.float32]], NDArray[np.float32]]
CLASS_METRICS = ("coverage", "fidelity")
"""What is measured for every class."""
MOST_CLASSES = 20
"""Classes that are measured by themselves; of more those with the most held-out images."""
LEAST_LABELLED = 10
"""Training images of a class below which no classifier is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """intensity: from [-1, 1] to the images' own values, in `units`; labels: names of the classes, () without."""

    intensity: IntensityMap | None = None
    units: str = "of the range from -1 to 1"
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, prepared: Prepared) -> Scale:
        """Of the images of a prepared folder."""
        units = "grey levels" if prepared.spec.units == "stored" else prepared.spec.units
        return cls(intensity=prepared.intensity, units=units, labels=prepared.spec.labels)

    @property
    def factor(self) -> float | NDArray[np.float64]:
        """Units per unit of [-1, 1], (c,) of each channel where each has its own."""
        if self.intensity is None:
            return 1.0
        low, high = np.transpose(self.intensity.ranges or [(self.intensity.low, self.intensity.high)])
        return np.asarray(high - low, np.float64) / 2


class Measuring:
    """Everything that several synthetic sets share: the real sides and what was seen of them."""

    def __init__(self, sides: Sides, scale: Scale, *, cache: Path | None, inception: Path | None = None) -> None:
        """Describe all sides, with a bar. inception: the original network's weights."""
        self.sides, self.scale, self.cache = sides, scale, cache
        self.owns: dict[tuple[str, str], NDArray[np.float32]] = {}
        self.inception: Any = None
        if inception is not None and len(sides.shape) == 3:
            from radsynth.metrics._inception import InceptionFeatures

            self.inception = InceptionFeatures(inception)
        self.samples = self._describe()
        self.score_refused = ""
        self.score_name, self.score = self._classifier()

    def _describe(self) -> dict[str, Sample]:
        sides: dict[str, Chosen] = {"training": self.sides.training, "held_out": self.sides.held_out,
                                    **{f"set {name}": side for name, side in self.sides.synthetic.items()}}
        samples, done = {}, 0
        with Progress(sum(map(len, sides.values())), "looking at images", "images") as progress:
            for name, side in sides.items():
                content = side.content if self.cache is not None else ""
                samples[name] = describe(side, side.patients, cache=self.cache, content=content,
                                         progress=lambda n, before=done: progress.update(before + n))  # type: ignore[misc]  # the default binds now
                done += len(side)
        samples["floor"] = samples["training"].take(self.sides.floor)
        return samples

    def comparison(self, name: str) -> Comparison:
        """One synthetic set against the held-out images."""
        return Comparison(real=self.samples["held_out"], synthetic=self.samples[f"set {name}"],
                          floor=self.samples["floor"], training=self.samples["training"], features=NAME,
                          scale=self.scale.factor, units=self.scale.units)

    def measure(self, name: str, *, copies: bool, repetitions: int, seed: int,
                ) -> tuple[list[Measurement], list[dict[str, str]]]:
        """All measurements of one set, and the metrics that refused with their reasons."""
        comparison = self.comparison(name)
        if not copies:
            comparison = dataclasses.replace(comparison, training=None)
        measurements: list[Measurement] = []
        refused = []
        for kind, module in modules().items():
            try:
                with_own = self._with_own(kind, module, name, comparison, seed)
                if with_own is not None:
                    measurements += module.measure(with_own, repetitions=repetitions, seed=seed)
            except DataError as error:
                refused += [{"name": n.name, "title": n.title, "reason": str(error)} for n in module.NUMBERS]
        return measurements, refused

    def classes(self, name: str, *, repetitions: int, seed: int) -> dict[str, Any]:
        """The numbers of every class that has images on any side, MOST_CLASSES at most; equally many of each side."""
        comparison, sides = self.comparison(name), self._labels(name)
        found: dict[str, Any] = {}
        present = [k for k in range(len(self.scale.labels)) if any((side == k).any() for side in sides)]
        if len(present) < 2 or any((side < 0).all() for side in sides):
            return {}
        present = sorted(present, key=lambda k: -int((sides[0] == k).sum()))[:MOST_CLASSES]
        generator = np.random.default_rng(seed)
        for label in sorted(present):
            rows = [generator.permutation(np.flatnonzero(side == label)) for side in sides]
            count = min(map(len, rows))
            patients = len(np.unique(self.sides.held_out.patients[rows[0][:count]]))
            one: dict[str, Any] = {"images": count, "held_out_patients": patients, "measurements": [], "refused": []}
            found[self.scale.labels[label]] = one
            for module in (modules()[kind] for kind in CLASS_METRICS):
                if count < module.MINIMUM:
                    reason = (f"The class {self.scale.labels[label]} needs at least {module.MINIMUM} held-out real, "
                              f"{module.MINIMUM} training and {module.MINIMUM} synthetic images among those compared; "
                              f"there are {len(rows[0])}, {len(rows[2])} and {len(rows[1])}.")
                    one["refused"] += [{"name": n.name, "title": n.title, "reason": reason} for n in module.NUMBERS]
                    continue
                parts = [sample.take(np.sort(row[:count])) for sample, row in zip(
                    (comparison.real, comparison.synthetic, comparison.floor), rows, strict=True)]
                thin = dataclasses.replace(comparison, real=parts[0], synthetic=parts[1], floor=parts[2])
                one["measurements"] += [m.to_json() for m in module.measure(thin, repetitions=repetitions, seed=seed)]
        return found

    def _labels(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        sides = self.sides
        return sides.held_out.labels, sides.synthetic[name].labels, sides.training.labels[sides.floor]

    def _with_own(self, kind: str, module: ModuleType, name: str, comparison: Comparison, seed: int,
                  ) -> Comparison | None:
        """The comparison as this metric wants it: with its own description, of no more images; None: leave it out."""
        if not hasattr(module, "OWN"):
            return comparison
        if hasattr(module, "applies") and not module.applies(self.sides.shape):
            return None
        found = self._extractor(kind, module)
        if found is None:
            return None
        own_name, extractor = found
        most = min(len(comparison), getattr(module, "IMAGES", len(comparison)))
        keys = {"real": "held_out", "synthetic": f"set {name}", "floor": "floor"}
        samples: dict[str, Any] = {}
        for part, key in keys.items():
            # The same rows of the real sides for every set: they are described once.
            rows = np.sort(np.random.default_rng(seed).permutation(len(comparison))[:most])
            sample: Sample = getattr(comparison, part).take(rows)
            if (own_name, key) not in self.owns:
                self.owns[own_name, key] = extractor(sample, self._side(key).take(rows))
            samples[part] = dataclasses.replace(sample, own=self.owns[own_name, key])
        return dataclasses.replace(comparison, **samples, own=own_name)

    def _side(self, key: str) -> Chosen:
        if key == "held_out":
            return self.sides.held_out
        return self.sides.training.take(self.sides.floor) if key == "floor" else self.sides.synthetic[key[4:]]

    def _extractor(self, kind: str, module: ModuleType,
                   ) -> tuple[str, Callable[[Sample, Chosen], NDArray[np.float32]]] | None:
        """The name and the maker of a metric's own description; None when nothing here can make it."""
        if hasattr(module, "describe"):
            return module.OWN, self._pixels(module.OWN, module.describe)
        if kind == "inception_score":
            if self.score_refused:
                raise DataError(self.score_refused)
            return None if self.score is None else (self.score_name, self.score)
        wanted = {"fid": True, "inception_distance": False}.get(kind)
        if self.inception is None or wanted is not self.inception.original:
            return None
        return self.inception.name, self._pixels(self.inception.name, self.inception.features)

    def _pixels(self, name: str, extractor: Extractor) -> Callable[[Sample, Chosen], NDArray[np.float32]]:
        def make(_: Sample, images: Chosen) -> NDArray[np.float32]:
            content = images.content if self.cache is not None else ""
            return keep(name, {"own": extractor}, images, cache=self.cache, content=content)["own"]

        return make

    def _classifier(self) -> tuple[str, Callable[[Sample, Chosen], NDArray[np.float32]] | None]:
        """Who gives classes to images, for the Inception Score."""
        if self.inception is not None:
            seen = self._pixels(self.inception.name, self.inception.features)
            return (f"{self.inception.name}, its 1008 classes",
                    lambda sample, images: self.inception.probabilities(seen(sample, images)))
        labels, held_out = self.sides.training.labels, self.sides.held_out.labels
        counts = np.bincount(labels[labels >= 0], minlength=1)
        if (counts >= LEAST_LABELLED).sum() < 2:
            return "", None
        from radsynth.metrics._classifier import better_than_guessing, fit

        usable = np.flatnonzero(np.isin(labels, np.flatnonzero(counts >= LEAST_LABELLED)))
        rows = np.random.default_rng(0).permutation(usable)[:3000]
        classifier = fit(self.samples["training"].features[rows], labels[rows])
        known = held_out >= 0
        right = classifier.probabilities(self.samples["held_out"].features[known]).argmax(1) == held_out[known]
        if len(right) and not better_than_guessing(right, held_out[known]):
            self.score_refused = (
                f"A linear classifier that was trained on {len(rows):,} real images names the class of "
                f"{100 * right.mean():.0f} % of {len(right):,} held-out ones, no more than by chance or by always "
                "naming the commonest: what it finds in synthetic images says nothing.")
            return "", None
        says = f", right on {100 * right.mean():.0f} % of {len(right):,} held-out images" if len(right) else ""
        name = f"linear classifier trained on {len(rows):,} real training images{says}; features: {NAME}"
        return name, lambda sample, _: classifier.probabilities(sample.features)
