"""The run folder: everything that one training leaves behind, and the only thing that later verbs need.

RUN/settings.yaml  every setting, resolved;  plan.json  which were chosen, and why;  versions.json;  spec.json  (with
the intensity map and the data hash);  log.jsonl  course and events;  tensorboard/;  previews/;  checkpoints/;
generator.safetensors + .json  averaged weights, written when training ends;  earlier/  what was made with former ones.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from radsynth.arrays import IntensityMap, Manifest
from radsynth.checkpoints import load_tensors, save_tensors
from radsynth.device import here
from radsynth.errors import FolderError, SettingsError
from radsynth.files import in_use, locked, own_folder, write_atomically
from radsynth.image import ImageSpec
from radsynth.progress import tell
from radsynth.settings import read_yaml

PACKAGES = ("radsynth", "torch", "numpy", "lightning-fabric", "pydicom", "nibabel", "scikit-image")

TRAINING = ("task", "model", "augment", "train")
"""The sections of the settings that `train` takes, and that must be the same when a run is continued."""
EARLIER = "earlier"
UNFINISHED = ".synthetic.part"
"""Images that `generate` was stopped at, see `files.whole_folder`."""
IMAGES = ("synthetic", UNFINISHED)
OF_WEIGHTS = (*IMAGES, "pictures", "results.json", "audit.json", "utility.json", "utility.png", "control", "explain",
              "study", "report.html", "report.json", "README.md", "CLAIM.md")
"""What verbs leave in a run folder that is true of one state of the weights alone."""
HELD = ".command.lock"
"""The file of a run folder that `RunFolder.held` holds."""
_held: set[Path] = set()
"""The run folders that this process holds."""
OF_PROCESSES = ("resumed", "interrupted", "stopped", "stays ended", "damaged checkpoint", "set aside", "trained")
"""Events that say how a process began and ended: one that goes on from the same checkpoint does not say them again."""


class RunFolder:
    """A run on disk. Nothing is created before `begin`. writes: False for a process that leaves writing to another."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.checkpoints = self.path / "checkpoints"
        self.previews = self.path / "previews"
        self.weights = self.path / "generator.safetensors"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def begun(self) -> bool:
        """Whether training has begun here."""
        return (self.path / "spec.json").exists()

    def check_own(self, data: Path | None) -> None:
        """FolderError where the folder is no place for a run: it holds the images to learn from, or other results."""
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set[str]()
        own, holds = own_folder(names), ""
        if own == "prepared":
            holds = "prepared data"
        elif "generate.json" in names:
            holds = "synthetic images"
        elif data is not None and names and Path(data).exists() and self.path.samefile(data):
            holds = "the images to learn from"
        if holds and own != "run":
            raise FolderError(f"{self.path} holds {holds}: a run needs a folder of its own. Choose another output "
                              "folder, such as runs/NAME.")

    @property
    def trained(self) -> bool:
        """Whether training has come to its end here."""
        return self.weights.with_suffix(".json").exists()

    def begin(self, settings_yaml: str, manifest: Manifest, labels: dict[str, int]) -> None:
        """Write down what the run is: settings, specification, intensity map, versions. spec.json comes last.

        labels: training images of each class
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "settings.yaml", settings_yaml)
        write_atomically(self.path / "versions.json", json.dumps(versions(), indent=1))
        document = {
            "spec": manifest.spec.to_json(), "intensity": vars(manifest.intensity), "data_hash": manifest.data_hash,
            "counts": manifest.counts, "patients": manifest.patients, "added": manifest.added,
            "labels": labels, "conditions": manifest.conditions, "few_values": manifest.few_values,
        }
        write_atomically(self.path / "spec.json", json.dumps(document, indent=1))

    def description(self) -> dict[str, Any]:
        """spec.json as a dictionary."""
        text = self._read("spec.json")
        try:
            document: dict[str, Any] = json.loads(text)
        except ValueError:
            document = {}
        if not isinstance(document, dict) or not {"spec", "intensity", "labels", "data_hash"} <= document.keys():
            raise FolderError(f"{self.path}/spec.json is damaged or of another version of radsynth. Train a new run.")
        return document

    def settings(self) -> dict[str, Any]:
        """settings.yaml as a dictionary; FolderError when it is missing, damaged or cut short."""
        try:
            found = read_yaml(self.path / "settings.yaml")
            if lost := [name for name in TRAINING if not isinstance(found.get(name), dict)]:
                raise SettingsError(f"settings.yaml is damaged, it has no {', '.join(lost)}.")
        except SettingsError as error:
            raise FolderError(f"{self.path} does not say what was trained there. {error} Put a copy of it back, from "
                              "a backup or a bundle of 'radsynth export', or train a new run.") from None
        return found

    def spec(self) -> tuple[ImageSpec, IntensityMap]:
        """What the run's images are, and how their intensities map back to real units."""
        document = self.description()
        return ImageSpec.from_json(document["spec"]), IntensityMap.from_json(document["intensity"])

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError:
            raise self.no_run(f"it has no {name}") from None

    def no_run(self, why: str) -> FolderError:
        """The error for a folder that is none of a run; why: unless it does not even exist."""
        why = why if self.path.exists() else "it does not exist"
        return FolderError(f"{self.path} is not a run folder: {why}. 'radsynth run' makes one.")

    @property
    def weights_hash(self) -> str | None:
        """The SHA-256 of the trained weights as it stands beside them; None without."""
        try:
            return str(json.loads(self.weights.with_suffix(".json").read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def check_weights(self, before: str | None) -> None:
        """FolderError where others have come since `before` was their hash: what was made or measured is of those."""
        if not self.path.exists():  # moved away
            raise self.no_run("")
        if self.weights_hash != before:
            raise FolderError(f"{self.path} was trained further in the meantime: what was made or measured is of the "
                              "former weights, and is not written. Repeat the command when training has ended.")

    def made(self, folder: Path) -> bool:
        """Whether the images in a folder are known to be of this run's weights: `generate` says so beside them."""
        try:
            said = json.loads((folder / "generate.json").read_text(encoding="utf-8"))
            return bool(said["weights"] == self.weights_hash)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def save_weights(self, state: dict[str, Any], facts: dict[str, Any]) -> str:
        """Write the averaged generator; returns its SHA-256."""
        return save_tensors(self.weights, state, facts)

    def set_aside(self) -> None:
        """Move the weights, if there are any, and all that was made and measured with them to earlier/HASH: of new ones
        it is not true. What a process that was killed in the middle of it has begun is ended.

        Until new ones are written the run counts as untrained.
        """
        facts = self.load_weights()[1] if self.trained else self._half_set_aside()
        if facts is None:
            return
        busy = IMAGES if in_use(self.path / UNFINISHED) else ()  # `set_images_aside` comes when they are made
        for name in (*OF_WEIGHTS, self.weights.with_suffix(".json").name, self.weights.name):
            if (self.path / name).exists() and name not in busy:
                earlier = self._move_aside(facts["sha256"][:16], name, self.weights.name)
        self.event("set aside", facts["images"], (
            f"Training went on: the former weights, and what was made and measured with them, are in {EARLIER}/"
            f"{earlier.name}."))

    def set_images_aside(self) -> None:
        """Move images in `synthetic` that are known to be of other weights to earlier/HASH: `generate` was making them
        when these here were delivered, and has ended since."""
        made = self.path / "synthetic"
        with suppress(OSError, ValueError, KeyError, TypeError):
            of = str(json.loads((made / "generate.json").read_text(encoding="utf-8"))["weights"])
            if of != self.weights_hash and not in_use(self.path / UNFINISHED):
                earlier = self._move_aside(of[:16], made.name)
                tell(f"mind: {made} held images of other weights; they are in {earlier} now")

    def _move_aside(self, of: str, name: str, last: str = "") -> Path:
        """Move what has this name to the folder, which is returned, of what belongs to these weights: the first one
        that has none of that name, nor the file that is to come last. What was made when the same weights were there
        before stays, and so does what was moved already."""
        as_told = "synthetic-unfinished" if name == UNFINISHED else name
        earlier, times = self.path / EARLIER / of, 1
        while (earlier / as_told).exists() or (last and (earlier / last).exists()):
            times += 1
            earlier = earlier.with_name(f"{of}-{times}")
        earlier.mkdir(parents=True, exist_ok=True)
        (self.path / name).rename(earlier / as_told)
        return earlier

    def _half_set_aside(self) -> dict[str, Any] | None:
        """The facts, set aside already, of weights that still lie in the run folder."""
        if not self.weights.exists():
            return None
        digest = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        for kept in (self.path / EARLIER).glob(f"{digest[:16]}*/{self.weights.with_suffix('.json').name}"):
            if not kept.with_name(self.weights.name).exists():
                return dict(json.loads(kept.read_text(encoding="utf-8")))
        return None

    def load_weights(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The averaged generator's state and facts; FolderError when training has not ended or the file is damaged."""
        if not self.trained and not self.begun:
            raise self.no_run("nothing was trained there")
        if not self.trained:
            raise FolderError(f"{self.path} holds no trained generator yet: repeat the command that trains it. With a "
                              "shorter --budget it ends with what has been learned so far.")
        try:
            return load_tensors(self.weights)
        except FolderError as error:
            if not self.checkpoints.exists():
                raise
            raise FolderError(f"{error} Remove it and {self.weights.with_suffix('.json').name}, and repeat the command "
                              "that trains: the last checkpoint has the same weights.") from None

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to log.jsonl. FolderError when that fails (disk full, ...)."""
        if not self.writes:
            return
        path = self.path / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self.not_written(path, error) from None

    @staticmethod
    def not_written(path: Path, error: OSError) -> FolderError:
        """What to raise where a file of the training's course cannot be written (disk full, ...)."""
        return FolderError(f"{path} could not be written: {error.strerror}. Free some space or check the permissions, "
                           "then repeat the command: it goes on from the last checkpoint.")

    def event(self, event: str, images: int, text: str, *, silent: bool = False) -> None:
        """Append an event in plain words to log.jsonl, and say it on stderr unless it is said there otherwise."""
        self.log({"event": event, "images": images, "text": text})
        if self.writes and not silent:
            tell(f"{text[:-1]} ({images:,} images)." if images and f"{images:,}" not in text else text)

    def logged(self) -> int:
        """Bytes of log.jsonl until now: a checkpoint notes how far the log had come."""
        path = self.path / "log.jsonl"
        return path.stat().st_size if path.exists() else 0

    def rewind(self, images: int, logged: int | None = None) -> None:
        """Drop measurements and previews made after the checkpoint that training goes on from.

        logged: see there, as the checkpoint noted it; events after it are then dropped, too, for they are said again.
        Those of processes that ended stay, and what was said of weights that were delivered. Without it all stay.
        """
        if not self.writes:
            return
        for preview in self.previews.glob("*.png"):
            if preview.stem.isdigit() and int(preview.stem) > images:
                preview.unlink()
        path = self.path / "log.jsonl"
        if not path.exists():
            return
        content = path.read_bytes()
        kept, after = _entries(content[:logged]), _entries(content[logged:]) if logged is not None else []
        delivered = max((place for place, entry in enumerate(after, 1) if entry.get("event") == "trained"), default=0)
        kept += after[:delivered]
        kept += [entry for entry in after[delivered:] if "event" not in entry or entry["event"] in OF_PROCESSES]
        write_atomically(path, "".join(json.dumps(entry) + "\n" for entry in kept
                                       if "event" in entry or entry.get("images", 0) <= images))

    def lock(self) -> AbstractContextManager[None]:
        """Keep a second process from training here at the same time. The lock ends with the process."""
        return locked(self.path, self._busy)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from planning, training or measuring here from now on; again within it, it is held.

        Beside `lock`, which the process takes that trains: it may be another one than the one that started it.
        """
        place = self.path.absolute()
        if place in _held:
            yield
            return
        with locked(self.path, self._busy, HELD):
            _held.add(place)
            try:
                yield
            finally:
                _held.remove(place)

    @property
    def _busy(self) -> str:
        return (f"{self.path} is in use: another process trains or measures there. Wait for it or stop it, then repeat "
                "the command, or choose another run folder.")


def _entries(text: bytes) -> list[dict[str, Any]]:
    """The lines of a log that can be read; the last one of a killed process may be cut."""
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return [entry for entry in found if isinstance(entry, dict)]


def version_of(package: str) -> str:
    """The version of an installed package; of radsynth run from its source tree there may be none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """Versions of what decides the numbers; no host or user name."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        found[package] = version_of(package)
    found["threads"] = str(torch.get_num_threads())
    found["cores"] = str(os.cpu_count())
    device = here()
    found["processor"] = device.name
    if device.accelerator == "cuda":
        found["gpus"] = str(device.count)
    return found
