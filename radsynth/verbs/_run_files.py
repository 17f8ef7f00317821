"""The files of a run folder as a reader finds them: what is missing or damaged is left out, with a sentence."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsynth.errors import RadsynthError
from radsynth.settings import constant, kinds, read_yaml
from radsynth.verbs._grid import in_colour

OUTDATED = {"utility.json": (
    "Tested by an earlier version, in which synthetic images were learned from without the classical augmentation that "
    "real ones had: repeat 'radsynth utility'.")}
"""What is told in place of a first version of a file that measured something else."""


class Missing(Exception):
    """A part has to be left out; the text says why."""


class RunFiles:
    """Reads a run folder. Nothing here raises anything but Missing."""

    def __init__(self, run: Path, *, without: tuple[str, ...] = ()) -> None:
        """without: names of JSON files that are not looked at."""
        self.run, self.without = Path(run), without

    def need(self, name: str, otherwise: str) -> Any:
        """A JSON file; Missing with the text `otherwise` when there is none."""
        if name in self.without:
            raise Missing(otherwise)
        try:
            found = json.loads((self.run / name).read_text(encoding="utf-8"))
        except OSError:
            raise Missing(otherwise) from None
        except ValueError:
            raise Missing(f"{name} is damaged.") from None
        if name in OUTDATED and isinstance(found, dict) and found.get("version") == 1:
            raise Missing(OUTDATED[name])
        return found

    def get(self, name: str) -> dict[str, Any]:
        """A JSON file that holds a dictionary; an empty one when it is missing, damaged or something else."""
        try:
            found = self.need(name, "")
        except Missing:
            return {}
        return found if isinstance(found, dict) else {}

    def array(self, name: str) -> NDArray[np.uint8] | None:
        """Kept pictures (n, ..., rows, columns), display values; None when there are none."""
        try:
            array = np.load(self.run / "pictures" / f"{name}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array if array.dtype == np.uint8 and array.ndim >= 4 and len(array) else None

    def _of_images(self, key: str) -> Any:
        """What the run, or the results of a comparison without one, tell of the images; None where neither does."""
        found = [self.get(name).get(section) for name, section in (("spec.json", "spec"), ("results.json", "context"))]
        return next((one[key] for one in found if isinstance(one, dict) and one.get(key)), None)

    @property
    def spacing(self) -> list[float] | None:
        """Steps between the slices (of volumes), rows and columns of the images; None where nobody knows them."""
        steps = self._of_images("spacing")
        known = isinstance(steps, list) and all(isinstance(step, int | float) and step > 0 for step in steps)
        return steps if known else None

    @functools.cached_property
    def channels(self) -> list[str]:
        """Names of the images' channels, [] where nobody knows them."""
        names = self._of_images("channels")
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def colour(self) -> bool:
        """Whether images of three channels are coloured; where nobody knows they are taken for it."""
        return not self.channels or in_colour(self.channels)

    def settings(self) -> dict[str, Any]:
        """settings.yaml; empty when it is missing or damaged."""
        try:
            found = read_yaml(self.run / "settings.yaml")
        except RadsynthError:
            return {}
        return found

    def picture(self, name: str) -> str:
        """A PNG of the run folder as a data address; empty when there is none."""
        try:
            data = (self.run / name).read_bytes()
        except OSError:
            return ""
        return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}" if data[:4] == b"\x89PNG" else ""

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl that can be read; the last may be half written."""
        try:
            texts = (self.run / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        lines = []
        for text in texts:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
        return lines

    @functools.cached_property
    def virtual(self) -> bool:
        """Whether the images learned from are nobody's: of a virtual cohort."""
        return bool(self._of_images("virtual"))

    @functools.cached_property
    def of_images(self) -> str:
        """What the results of a task from image to image are called; "" for other tasks."""
        return self._of_task("RESULTS") or ""

    @property
    def shows_patients(self) -> bool:
        """Whether results, and so previews, show whom the images that they are made of show."""
        return bool(self.of_images) and not self.virtual

    @property
    def unpaired(self) -> bool:
        """Whether results are compared with images of another class, because there is no truth."""
        return bool(self._of_task("UNPAIRED"))

    @property
    def of_crops(self) -> bool:
        """Whether images were cut into crops, so that what is counted in training and in tests are crops."""
        return bool(self.settings().get("prepare", {}).get("fit") == "patches")

    @property
    def of_masks(self) -> bool:
        """Whether images are painted of masks, so that there is no code of noise alone to be steered."""
        return self.get("generator.json").get("task") == "semantic"

    @property
    def paired(self) -> bool:
        """Whether results are compared with the truth."""
        return bool(self.of_images) and not self.unpaired

    def _of_task(self, name: str) -> Any:
        task = self.get("generator.json").get("task")
        return constant("tasks", task, name) if task in kinds("tasks") else None
