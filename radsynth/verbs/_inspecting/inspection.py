"""What `inspect` finds in data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from radsynth.datasets import Rejected
from radsynth.image import ImageSpec
from radsynth.verbs._inspecting.page import Thumbnail, lines

if TYPE_CHECKING:
    from radsynth.plan import Fingerprint


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Values of the sampled pixels: extremes, the 1st, 50th and 99th percentile, and a histogram.

    tops: the 99th percentile of the median image and of the brightest one; usual_tops: of the 5 % darkest and brightest
    """

    images: int
    low: float
    high: float
    percentiles: tuple[float, float, float]
    tops: tuple[float, float]
    usual_tops: tuple[float, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect` found.

    n_images: images (or slices, or volumes) that can be used; n_patients: their patients
    modality, channels, dimensions (2 or 3), median_size, bits, units, spacing: the usual one; spacing: median in mm,
    None where unknown; virtual: made-up patients; labels, splits: images of each class and of each official split
    formats, modalities, sizes, bits_found, series: how many images of each; notes: what is odd, with its number
    grey_in_colour: the colour images of the sample are grey in truth
    ct_by_values: no file says what it is, and the sample's volumes have air and tissue at Hounsfield values
    spec: what `prepare` would make of it, at the median size; None where that cannot be told
    mapping: how it would map intensities ("window", "percentiles", "bits"), "" likewise
    masks: label values in the sampled masks, () without masks; unmasked: images without a mask where others have one
    masked_patients: those of whom an image has a mask; mask_names: what label values of masks mean, as far as told
    duplicates: groups of equal files
    added: images that `prepare.extra` adds to the training split; none of them is in the numbers above
    rejected: files that cannot be used; skipped: files that are no images
    mixed: why `prepare` and `run` refuse the data as a whole, empty if they do not
    planned: what `radsynth run` would choose, with its reason
    """

    data: str
    kind: str
    n_images: int
    n_patients: int
    modality: str
    channels: int
    dimensions: int
    median_size: tuple[int, ...]
    bits: int
    units: str
    spacing: tuple[float, ...] | None
    virtual: bool
    labels: dict[str, int]
    splits: dict[str, int]
    formats: dict[str, int]
    modalities: dict[str, int]
    sizes: dict[str, int]
    bits_found: dict[str, int]
    series: dict[str, int]
    grey_in_colour: bool
    masks: tuple[int, ...]
    unmasked: int
    masked_patients: int
    mask_names: dict[int, str]
    empty_slices: int
    intensity: Intensity | None
    notes: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    rejected: tuple[Rejected, ...]
    skipped: tuple[Rejected, ...]
    ct_by_values: bool = False
    mixed: str = ""
    added: int = 0
    spec: ImageSpec | None = None
    mapping: str = ""
    planned: tuple[dict[str, Any], ...] = ()
    pictures: tuple[Thumbnail, ...] = field(default=(), repr=False)

    @property
    def fingerprint(self) -> Fingerprint:
        """What the plan looks at."""
        from radsynth.plan import Fingerprint

        return Fingerprint(
            images=self.n_images,
            patients=self.n_patients,
            modality=self.modality,
            channels=1 if self.grey_in_colour else self.channels,
            size=self.median_size,
            labels=self.labels,
            masked=self.masked_patients,
            virtual=self.virtual,
            spacing=self.spacing,
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for JSON, without the pictures."""
        document = asdict(self)
        del document["pictures"]
        return document

    def without_names(self) -> Inspection:
        """Without paths, file names and series descriptions, which may name patients: what a run folder keeps."""
        return replace(self, data="", series={}, duplicates=(), rejected=(), skipped=(), mixed="", pictures=())

    def text(self) -> str:
        """For a person at a terminal."""
        return "\n".join(lines(self))
