"""A trained generator that images are drawn from. Image k depends on (seed, k) alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.arrays import scaled
from radsynth.batch import Batch
from radsynth.device import module_channels_last, torch_device
from radsynth.errors import FolderError, SettingsError
from radsynth.models._blocks import classes_of
from radsynth.run_folder import RunFolder
from radsynth.settings import nearest, resolve
from radsynth.tasks import BUILT_OF, build, draws_masks, paints
from radsynth.tasks.semantic import Semantic
from radsynth.verbs._mask_source import DrawnMasks, MaskSource, need_run
from radsynth.verbs._numbers import Numbers
from radsynth.verbs._writing import Drawn

if TYPE_CHECKING:
    from radsynth.verbs._steering.latents import LatentSpace

REDRAWN = 2**32
"""Image k is drawn again as item k + REDRAWN, then k + 2 REDRAWN: so it still depends on (seed, k) alone."""
CHUNK = 16
"""Images computed at once. Chunks begin at multiples of it, so that rounding does not depend on what was asked for."""


class Sampler:
    """A trained generator with everything that sampling needs, read from a run folder."""

    def __init__(self, run: Path, data: Path | None = None, at: Mapping[str, float] | None = None,
                 masks: Path | None = None) -> None:
        """data: the prepared folder of the training, where masks come from if the run paints them; default RUN/data.

        masks: a run folder whose generator draws them instead; SettingsError if the run paints none, or it draws none.
        at: numbers that images are to have, of a run that learned with numbers; SettingsError for others.
        """
        folder = RunFolder(run)
        self.data = Path(data) if data is not None else folder.path / "data"
        state, self.facts = folder.load_weights()
        self.spec, self.intensity = folder.spec()
        self.preparing: dict[str, Any] = folder.settings().get("prepare") or {}
        description = folder.description()
        self.label_counts: dict[str, int] = description["labels"]
        self.learned = tuple(name for name in self.spec.labels if self.label_counts[name])
        """Classes that training images have; others are of held-out patients alone."""
        self.data_hash: str = description["data_hash"]
        self.numbers = Numbers(description.get("conditions", {}), at or {})
        self.task = build(resolve(folder.settings(), sections=BUILT_OF), self.spec)
        self.network = self.task.networks()[self.task.keeps]
        try:
            self.network.load_state_dict(state)
        except RuntimeError:  # other names or shapes
            raise FolderError(f"{folder.weights} holds the weights of another network than settings.yaml beside it "
                              "describes: one of the two was changed. Put a copy of it back, or train a new run."
                              ) from None
        self.device = torch_device()
        module_channels_last(self.network, self.spec.dimensions).to(self.device).eval()
        if masks is not None and not paints(self.task):
            raise SettingsError(f"{run} paints no masks (task.kind=semantic does): leave --masks out.")
        if masks is not None:
            need_run(masks)
        self.drawing = None if masks is None else DrawnMasks(self.data_hash, Sampler(masks), masks)

    def index_of(self, label: str) -> int:
        """A class's place in the specification; SettingsError for one that the run does not know or has not learned."""
        names = self.spec.labels
        if label not in self.learned:
            allowed = ", ".join(self.learned) if names else "none, the run has no classes"
            why = ("has no training image, so it was not learned" if label in names else
                   f"is no class of this run{nearest(label, self.learned)}")
            do = (" To learn it, train a new run on data that was prepared with images of it in training."
                  if label in names else "")
            raise SettingsError(f"label={label!r} {why}; there are: {allowed}.{do}")
        return names.index(label)

    def labels(self, items: range, seed: int, label: str | None) -> NDArray[np.int64]:
        """Class indices: the one asked for, or drawn as often as in the training data, by (seed, item) alone."""
        names = self.spec.labels
        if label is not None:
            return np.full(len(items), self.index_of(label), np.int64)
        if len(names) < 2:
            return np.full(len(items), len(names) - 1, np.int64)
        shares = np.cumsum([self.label_counts[name] for name in names], dtype=np.float64)
        draw = Batch(images=torch.empty(len(items), 0), seed=seed, items=tuple(items)).uniform("label", 1)[:, 0]
        return np.searchsorted(shares / shares[-1], draw.numpy(), side="right").clip(0, len(names) - 1)

    def images(self, first: int, count: int, *, seed: int, label: str | None = None, truncation: float = 1.0,
               ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Chunks of images (n, c, *space) in [-1, 1] and their class indices (n,), items `first` to `first + count`."""
        for drawn in self.drawn(first, count, seed=seed, label=label, truncation=truncation):
            yield drawn.images, drawn.labels

    @torch.no_grad()
    def drawn(self, first: int, count: int, *, seed: int, label: str | None = None, truncation: float = 1.0,
              ) -> Iterator[Drawn]:
        """As `images`, with masks where the run makes them."""
        for start in range(first - first % CHUNK, first + count, CHUNK):
            items = range(start, start + CHUNK)
            labels = self.labels(items, seed, label)
            masks = self.mask_source(items, labels, seed).to(self.device) if paints(self.task) else None
            made = self.made(items, labels, seed, truncation, masks)
            wanted = slice(max(first - start, 0), min(first + count - start, CHUNK))
            made, masks = made[wanted], None if masks is None else masks[wanted]
            if draws_masks(self.task):
                made, masks = self.task.parted(made)
            # As files hold them: some networks (r3gan) do not limit their images.
            yield Drawn(images=made.float().clamp(-1, 1).cpu().numpy(), labels=labels[wanted],
                        masks=None if masks is None else masks.cpu().numpy().astype(np.uint8))

    def made(self, items: range, labels: NDArray[np.int64], seed: int, truncation: float = 1.0,
             masks: Tensor | None = None) -> Tensor:
        """What the network makes of items, of the given classes and masks: (n, c, *space)."""
        batch = Batch(images=torch.empty(len(items), 0, device=self.device), seed=seed, items=tuple(items), masks=masks,
                      labels=torch.from_numpy(labels).to(self.device), truncation=truncation,
                      conditions=self.conditions(items, seed))
        if truncation == 1 or paints(self.task):
            return self.task.sample(self.network, batch)
        space, classes = self.latent_space, batch.labels if classes_of(self.spec) else None
        given = (classes,) if batch.conditions is None else (classes, batch.conditions)
        return space.truncated(space.latents(items, seed), truncation, *given)

    @functools.cached_property
    def latent_space(self) -> LatentSpace:
        """What the network's first layer sees of noise."""
        from radsynth.verbs._steering.latents import LatentSpace

        return LatentSpace(self.network, classes_of(self.spec))

    def conditions(self, items: range, seed: int) -> Tensor | None:
        """The numbers (n, k) that items are made with, as networks take them; None for a run that learned none."""
        if not self.numbers.quantiles:
            return None
        drawn = self.numbers.of([item % REDRAWN for item in items], seed)  # an image drawn again keeps its numbers
        return torch.from_numpy(scaled(drawn, self.numbers.quantiles)).to(self.device)

    @functools.cached_property
    def mask_source(self) -> MaskSource | DrawnMasks:
        """Where the masks come from that a run paints which needs some; FolderError without the training's data."""
        return self.drawing or MaskSource(cast(Semantic, self.task), self.data, self.data_hash)
