"""Where training starts from when not from chance: a trained run, or one of radsynth's base generators.

Few images are learned better from there than from nothing. The discriminator's lower layers may be kept as they are
(FreezeD: Mo, Cho and Shin 2020): what edges and textures look like is the same, and few images cannot spoil it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from radsynth.bases import Base, names, read_base
from radsynth.checkpoints import load_checkpoint
from radsynth.errors import FolderError, SettingsError
from radsynth.image import ImageSpec
from radsynth.models import Networks
from radsynth.models._blocks import classes_of
from radsynth.models._greys import as_many
from radsynth.run_folder import RunFolder
from radsynth.settings import SECTIONS, Resolved, nearest, resolve
from radsynth.tasks import Recalling, Task

UNITS = ("background.", "net.background.", "greys.", "net.greys.")
"""The grey values of each class, which older generators and discriminators do not have."""
CLASSES = "embedding."
"""What the names of the vectors that tell classes apart have in every network, spectrally normalised ones too."""


@dataclass(frozen=True, kw_only=True)
class Start(Base):
    """What a training begins with: a base, or a run, whose name is the beginning of its hash, never its path.

    weights: a state of each network, averaged where the source has averaged it
    studied: what a `Recalling` task has taken from the source's data, {} if it took nothing
    """

    def suit(self, task: Task, spec: ImageSpec, freeze: int) -> None:
        """Try the weights on networks for images of `spec`; SettingsError with what to change where they do not fit, or
        where so many frozen layers of a discriminator leave nothing to learn."""
        networks = task.networks()
        try:
            self.give(task, networks, spec)
        except SettingsError:
            if spec.size == self.spec.size:
                raise
            have, make = ("x".join(map(str, one)) for one in (spec.size, self.spec.size))
            raise SettingsError(f"train.start makes images of {make}, and these are {have}: prepare them with "
                                f"prepare.size={list(self.spec.size)}.") from None
        judges = {name: network for name, network in networks.items() if name.startswith("discriminator")}
        if freeze and not judges:
            raise SettingsError(f"train.freeze={freeze} keeps lower layers of a discriminator, and none is trained "
                                "here: set train.freeze=0.")
        for name, network in judges.items():
            if freeze >= (count := len(layers_of(network))):
                raise SettingsError(f"train.freeze={freeze} keeps all {count} layers of the {name}: set less.")

    def give(self, task: Task, networks: Networks, spec: ImageSpec) -> None:
        """Put the weights into networks that were freshly made for images of `spec`, and what was studied into the
        task. SettingsError: no fit."""
        others = classes_of(spec) != classes_of(self.spec)
        for name, network in networks.items():
            fit(network, self.weights.get(name, {}), f"the {name} of train.start", others)
        if isinstance(task, Recalling):
            task.recall(self.studied)


def started(settings: Resolved) -> tuple[Resolved, Start | None]:
    """What training is to start from, if anything, and the settings with its network where they name no other."""
    source = settings.section("train").start
    if not source:
        return settings, None
    start = read_start(source)
    given = {name: settings.given(name) for name in SECTIONS if settings.given(name)}
    return resolve({"model": start.model}, {**given, "seed": settings.seed}, sections=("train",)), start


def read_start(source: str) -> Start:
    """A base by its name, or the run in this folder; FolderError when it is neither, or not trained.

    Read once, though the plan, the checks and the training each ask for it; again when the run has other weights.
    """
    if source in names():
        return _base(source)
    folder = RunFolder(Path(source))
    if not folder.begun:
        raise FolderError(f"train.start={source} is neither a trained run nor a base{nearest(source, names())}; bases "
                          f"are {', '.join(names()) or 'none'}.")
    facts = folder.weights.with_suffix(".json")
    return _run(folder.path, facts.read_bytes() if facts.is_file() else b"")


@lru_cache(maxsize=1)
def _base(name: str) -> Start:
    return Start(**vars(read_base(name)))


@lru_cache(maxsize=1)
def _run(path: Path, known: bytes) -> Start:
    """known: the facts of its weights, their hash among them, by which they are told from others in the same folder."""
    folder = RunFolder(path)
    weights, facts = folder.load_weights()
    found = load_checkpoint(folder.checkpoints)
    if found is None:
        raise FolderError(f"train.start={path} has no checkpoint any more, and with it no discriminator. Start from a "
                          "run that has one.")
    state, settings = found[0], resolve(path=folder.path / "settings.yaml", sections=("model",))
    return Start(name=f"run {facts['sha256'][:16]}", weights={**state["networks"], facts["keeps"]: weights},
                 studied=state["studied"], model=settings.document()["model"], spec=folder.spec()[0])


@torch.no_grad()
def fit(network: nn.Module, state: dict[str, Tensor], what: str, others: bool = False) -> None:
    """Load what fits. others: the source has other classes; then every class begins as the mean of the source's.

    The vectors that tell classes apart stay fresh where the source has none; an older one has no background or greys.
    SettingsError when anything else differs.
    """
    strange, fitted = [], {}
    for name, own in network.state_dict().items():
        given = state.get(name)
        if name.startswith(UNITS):
            fitted[name] = own if given is None else as_many(given, own)
        elif given is not None and given.shape == own.shape:
            fitted[name] = given
        elif others and given is not None and own.ndim and given.shape[1:] == own.shape[1:]:
            fitted[name] = given.float().mean(0, keepdim=True).expand_as(own)
        elif CLASSES not in name:
            strange.append(name)
    if strange:
        more = f" and {len(strange) - 1} more weights" if len(strange) > 1 else ""
        raise SettingsError(
            f"{what} is of another shape ({strange[0]}{more}): the size of the images, their channels, "
            "task.kind, task.masks, task.styles and the settings of model must be those it was trained with."
        )
    network.load_state_dict({**network.state_dict(), **fitted})


def lower_layers(network: nn.Module, count: int) -> list[nn.Parameter]:
    """The weights of a network's first `count` convolutions or linear layers, in the order of its definition."""
    return [weight for layer in layers_of(network)[:count] for weight in layer.parameters()]


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The convolutions and linear layers of a network, in the order of its definition."""
    # Without asking for `layer.weight`: under spectral normalisation that would be a step of its power iteration. What
    # has parts is no layer, though it may have a weight of its own, as r3gan's discriminator has.
    def weighs(layer: nn.Module) -> bool:
        return not list(layer.children()) and any(weight.ndim > 1 for weight in layer.parameters())

    return [layer for layer in network.modules()
            if is_parametrized(layer) or (weighs(layer) and not isinstance(layer, ParametrizationList))]
