"""Exports: a trained run as a bundle for others: ONNX with its check, PyTorch weights, scripts for NumPy and Keras.

The graph gives values in the units of the training images, so that nobody has to map intensities again. The bundle is
a run folder, too, without anything of the training data: `radsynth generate BUNDLE OUT` works on it.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from radsynth.arrays import Batch, IntensityMap
from radsynth.errors import FolderError, MissingExtra, SettingsError
from radsynth.files import write_atomically
from radsynth.models.progressive import Growing
from radsynth.progress import Progress
from radsynth.run_folder import RunFolder
from radsynth.tasks import registers, segments, takes_images
from radsynth.verbs.generate import Sampler

BUNDLE = Path(__file__).resolve().parent.parent / "templates" / "bundle"
"""Files that go into every bundle as they are."""
KEPT = ("settings.yaml", "spec.json", "versions.json", "generator.safetensors", "generator.json")
"""Files of the run that make the bundle a run folder. None of them holds anything of an image or a patient."""
TOLERANCE = 1e-3
"""Largest allowed difference between ONNX Runtime and PyTorch, as a share of the intensity range."""
CHECKED = 8
"""Images that are computed by both."""


class FromNoise(nn.Module):
    """Latents (n, latent) [and class indices (n,)] to images (n, c, *space) in the units of the training images."""

    def __init__(self, network: nn.Module, intensity: IntensityMap) -> None:
        super().__init__()
        self.network, self.low, self.range = network, intensity.low, intensity.high - intensity.low

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the images."""
        images: Tensor = self.network(latent, label)
        return (images.float().clamp(-1, 1) + 1) / 2 * self.range + self.low


class FromImages(nn.Module):
    """Images (n, inputs, *space) in [-1, 1] to what the task makes of them, in [-1, 1] (label maps: class indices)."""

    def __init__(self, task: Any, network: nn.Module) -> None:
        super().__init__()
        self.task, self.network = task, network

    def forward(self, images: Tensor) -> Tensor:
        """Compute the results."""
        made: Tensor = self.task.convert(self.network, self.task.enlarge(images))
        return made.float()


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write the new folder `out`; returns what export.json says: inputs, output, the check against PyTorch.

    Raises MissingExtra without the packages of the extra `onnx`, SettingsError for a run that cannot be exported,
    FolderError when `out` exists or the graph does not compute what PyTorch computes.
    """
    if missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise MissingExtra(f"export ({', '.join(missing)})", "onnx")
    run, out = Path(run), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FolderError(f"{out} exists and is not empty. Choose another output folder, or remove it first.")
    sampler = Sampler(run)
    if registers(sampler.task):
        raise SettingsError(f"{run} warps one image onto another, which is not exported. Use 'radsynth apply {run}'.")
    if getattr(sampler.network, "noise", None) is not None:
        raise SettingsError(f"{run}: its generator draws noise of its own in PyTorch, which a graph cannot repeat. "
                            "Train with model.noise=false to export it.")
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with Progress(None, "exporting"):
            document = _write(sampler, RunFolder(run), partial)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise FolderError(f"{out} could not be written: {error.strerror}. Nothing was left there; try again.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return document


def _write(sampler: Sampler, run: RunFolder, folder: Path) -> dict[str, Any]:
    module, inputs = _graph(sampler)
    module.eval()
    path = folder / "generator.onnx"
    draws = not takes_images(sampler.task)
    _to_onnx(module, inputs, "images" if draws else "results", path)
    for name in KEPT:
        shutil.copyfile(run.path / name, folder / name)
    for file in sorted(BUNDLE.iterdir()):
        if draws or file.suffix == ".md":
            shutil.copyfile(file, folder / file.name)
    document = {
        "version": 1, "kind": "noise" if draws else "image", "weights": sampler.facts["sha256"],
        "model": sampler.facts["model"], "task": sampler.facts["task"],
        "inputs": {name: _described(tensor, draws) for name, tensor in inputs.items()},
        "output": _output(sampler), "labels": list(sampler.spec.labels), "modality": sampler.spec.modality,
        "spacing": sampler.spec.spacing, "intensity": vars(sampler.intensity), "virtual": sampler.spec.virtual,
        "synthetic": True, "check": _check(module, inputs, path, sampler.intensity if draws else None),
    }
    write_atomically(folder / "export.json", json.dumps(document, indent=1))
    return document


def _graph(sampler: Sampler) -> tuple[nn.Module, dict[str, Tensor]]:
    """What is exported, and an example of each of its inputs."""
    network: Any = copy.deepcopy(sampler.network).cpu()
    if takes_images(sampler.task):
        generator = torch.Generator().manual_seed(0)
        space = [side // fine for side, fine in zip(sampler.spec.size, sampler.task.finer, strict=True)]
        images = torch.rand(CHECKED, len(sampler.task.inputs), *space, generator=generator) * 2 - 1
        return FromImages(sampler.task, network), {"images": images}
    if isinstance(network, Growing):  # what it has grown to, as constants: a graph cannot look into a buffer to branch
        fades = network.fades()
        network.fades = lambda: fades  # type: ignore[method-assign]
    items = tuple(range(CHECKED))
    noise = Batch(images=torch.empty(CHECKED, 0), seed=0, items=items).normal("latent", network.latent)
    inputs = {"latent": noise}
    if len(sampler.spec.labels) > 1:
        inputs["label"] = torch.arange(CHECKED) % len(sampler.spec.labels)
    return FromNoise(network, sampler.intensity), inputs


def _to_onnx(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """Batch sizes are free. Channels-last is left: it is a layout of torch's, not of the graph."""
    any_number = torch.export.Dim("n", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it complains that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations inside torch
        torch.onnx.export(
            module, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=[output], dynamo=True,
            dynamic_shapes=tuple({0: any_number} for _ in inputs), external_data=False, verbose=False,
        )


def _described(tensor: Tensor, draws: bool) -> dict[str, Any]:
    meaning = ("standard normal numbers" if draws else "intensities in [-1, 1], see intensity") if (
        tensor.is_floating_point()) else "index into labels"
    return {"shape": ["n", *tensor.shape[1:]], "type": str(tensor.dtype).removeprefix("torch."), "meaning": meaning}


def _output(sampler: Sampler) -> dict[str, Any]:
    spec, task = sampler.spec, sampler.task
    if takes_images(task):
        return {"name": "results", "shape": ["n", len(task.outputs), *spec.size], "channels": list(task.outputs),
                "units": "label scores" if segments(task) else "[-1, 1], see intensity"}
    return {"name": "images", "shape": ["n", len(spec.channels), *spec.size], "channels": list(spec.channels),
            "units": spec.units}


@torch.no_grad()
def _check(module: nn.Module, inputs: dict[str, Tensor], path: Path, intensity: IntensityMap | None) -> dict[str, Any]:
    """Compute the examples by ONNX Runtime, in two batch sizes, and by PyTorch; FolderError where they differ."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    whole = 2.0 if intensity is None else intensity.high - intensity.low
    worst = 0.0
    for count in (1, CHECKED):
        some = {name: tensor[:count] for name, tensor in inputs.items()}
        expected = module(*some.values()).numpy()
        (made,) = session.run(None, {name: tensor.numpy() for name, tensor in some.items()})
        worst = max(worst, float(np.abs(made - expected).max()) / whole)
    if not worst <= TOLERANCE:
        raise FolderError(f"The exported graph differs from PyTorch by {worst:.2g} of the intensity range: not kept.")
    return {"against": f"PyTorch {torch.__version__}", "runtime": f"ONNX Runtime {onnxruntime.__version__}",
            "images": CHECKED, "largest_difference": worst, "of": "the intensity range"}
