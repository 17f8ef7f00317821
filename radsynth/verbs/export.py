"""Exports: a trained run as a bundle for others: ONNX with its check, PyTorch weights, scripts for NumPy and Keras.

The graph gives values in the units of the training images, so that nobody has to map intensities again. The bundle is
a run folder, too, without anything of the training data: `radsynth generate BUNDLE OUT` works on it.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radsynth.errors import FolderError, MissingExtra, SettingsError, in_command
from radsynth.files import check_new, is_free, whole_folder, write_atomically
from radsynth.progress import Progress
from radsynth.run_folder import RunFolder
from radsynth.tasks import registers, segments
from radsynth.verbs._applying.trained_on import TrainedOn
from radsynth.verbs._export_graphs import EXAMPLES, FromImages, FromMasks, FromNoise, Graph, graph_of
from radsynth.verbs._journal import begun
from radsynth.verbs._made_before import HOLDS_OTHER
from radsynth.verbs._sampler import Sampler

BUNDLE = Path(__file__).resolve().parent.parent / "templates" / "bundle"
"""Files that go into every bundle as they are."""
KEPT = ("settings.yaml", "spec.json", "versions.json", "generator.safetensors", "generator.json")
"""Files of the run that make the bundle a run folder. None of them holds anything of an image or a patient."""
GRAPH = "generator.onnx"
TOLERANCE = 1e-3
"""Largest allowed difference between ONNX Runtime and PyTorch, as a share of the intensity range."""


def export(run: Path, out: Path, *, target: str | None = None) -> dict[str, Any]:
    """Write the new folder `out`; returns what export.json says: inputs, output, the check against PyTorch.

    target: the domain to go to, for unpaired translation; by default the one that `apply` goes to

    Raises MissingExtra without the packages of the extra `onnx`, SettingsError for a run that cannot be exported,
    FolderError when `out` holds something else or the graph does not compute what PyTorch computes. A folder that holds
    the same bundle already is left as it is.
    """
    if missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]:
        raise MissingExtra(f"export ({', '.join(missing)})", "onnx")
    run, out = Path(run), Path(out)
    check_new(out)
    sampler = Sampler(run)
    if registers(sampler.task):
        raise SettingsError(f"{run} warps one image onto another, which is not exported. Use 'radsynth apply "
                            f"{in_command(run)}'.")
    if any(getattr(part, "asks", False) for part in sampler.network.modules()):
        raise SettingsError(f"{run}: its generator draws noise of its own in PyTorch, which a graph cannot repeat. "
                            "Train with model.noise=false to export it.")
    graph = graph_of(sampler, target)
    if not is_free(out):
        return _held(out, sampler, RunFolder(run), graph)
    request: dict[str, object] = {"bundle": True, "weights": sampler.facts["sha256"], "target": target}
    with whole_folder(out, keep=lambda partial: begun(partial, request)) as partial, Progress(None, "exporting"):
        return _write(sampler, RunFolder(run), partial, graph)


def _held(out: Path, sampler: Sampler, run: RunFolder, graph: Graph) -> dict[str, Any]:
    """What export.json says of the same bundle, made by a command that was perhaps killed in its last moment;
    FolderError where `out` holds anything else."""
    try:
        document = dict(json.loads((out / "export.json").read_text(encoding="utf-8")))
        same = (document["weights"], document["target"]) == (sampler.facts["sha256"], graph.target)
        same = same and (out / GRAPH).stat().st_size > 0 and all(
            (out / file.name).read_bytes() == file.read_bytes() for file in _copied(run, graph))
    except (OSError, ValueError, TypeError, KeyError):
        same = False
    if not same:
        raise FolderError(HOLDS_OTHER.format(out))
    return document


def _copied(run: RunFolder, graph: Graph) -> list[Path]:
    """The files that go into a bundle as they are: scripts where nothing but noise goes in."""
    scripts = [file for file in sorted(BUNDLE.iterdir()) if isinstance(graph, FromNoise) or file.suffix == ".md"]
    return [*(run.path / name for name in KEPT), *scripts]


def _write(sampler: Sampler, run: RunFolder, folder: Path, graph: Graph) -> dict[str, Any]:
    path = folder / GRAPH
    _to_onnx(graph, path)
    for file in _copied(run, graph):
        shutil.copyfile(file, folder / file.name)
    run.check_weights(sampler.facts["sha256"])
    kind = "noise" if isinstance(graph, FromNoise) else "mask" if isinstance(graph, FromMasks) else "image"
    document = {
        "version": 1, "kind": kind,
        "weights": sampler.facts["sha256"], "model": sampler.facts["model"], "task": sampler.facts["task"],
        "inputs": {name: _described(name, tensor, sampler) for name, tensor in graph.inputs.items()},
        "outputs": _outputs(graph, sampler), "labels": list(sampler.spec.labels), "learned": list(sampler.learned),
        "mask_values": list(graph.mask_values), "target": graph.target, "numbers": sampler.numbers.quantiles,
        "modality": sampler.spec.modality, "spacing": sampler.spec.spacing,
        "intensity": _intensity(sampler, run), "virtual": sampler.spec.virtual, "synthetic": True,
        "check": _check(graph, path),
    }
    write_atomically(folder / "export.json", json.dumps(document, indent=1))
    return document


@torch.no_grad()
def _to_onnx(graph: Graph, path: Path) -> None:
    """Batch sizes are free."""
    any_number = torch.export.Dim("n", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it complains that torchvision is not there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations inside torch
        graph(**graph.inputs)  # what networks keep of their first pass must not be the tracer's stand-ins for tensors
        program = torch.onnx.export(
            graph, (), kwargs=graph.inputs, input_names=list(graph.inputs), output_names=graph.outputs,
            dynamo=True, dynamic_shapes={name: {0: any_number} for name in graph.inputs}, verbose=False,
        )
    assert program is not None, "dynamo gives one"
    for node in program.model.graph:
        node.metadata_props.clear()  # which say at what places of whose computer each line of the code lies
    program.save(str(path), external_data=False)


def _intensity(sampler: Sampler, run: RunFolder) -> dict[str, Any]:
    """The intensity map and, where each image is mapped by its own range, the percentiles that are its ends."""
    found = dict(vars(sampler.intensity))
    if sampler.intensity.method == "percentiles":
        found["percentiles"] = TrainedOn.of(run.path, sampler.spec).percentiles
    return found


def _described(name: str, tensor: Tensor, sampler: Sampler) -> dict[str, Any]:
    lacks = "; a channel that an image lacks is -1" if getattr(sampler.task, "may_lack", False) else ""
    meaning = {"latent": "standard normal numbers", "mask": "label values, of mask_values",
               "label": "index into labels, of a class in learned: others had no training image",
               "numbers": f"{', '.join(sampler.numbers.quantiles)}, within the range of the training images",
               "images": f"intensities of {', '.join(getattr(sampler.task, 'inputs', ()))} in [-1, 1], see intensity"
                         + lacks}
    return {"shape": ["n", *tensor.shape[1:]], "type": str(tensor.dtype).removeprefix("torch."),
            "meaning": meaning[name]}


def _outputs(graph: Graph, sampler: Sampler) -> dict[str, dict[str, Any]]:
    spec = sampler.spec
    if isinstance(graph, FromImages):
        made = list(graph.task.outputs)
        units = "label values" if segments(graph.task) else "[-1, 1], see intensity"
        return {"results": {"shape": ["n", len(made), *spec.size], "channels": made, "units": units}}
    images = {"shape": ["n", len(spec.channels), *spec.size], "channels": list(spec.channels), "units": spec.units}
    masks = {"shape": ["n", *spec.size], "units": "label values"}
    return dict(zip(graph.outputs, (images, masks), strict=False))


@torch.no_grad()
def _check(graph: Graph, path: Path) -> dict[str, Any]:
    """Compute the examples by ONNX Runtime, in two batch sizes, and by PyTorch; FolderError where they differ."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, EXAMPLES):
        some = {name: tensor[:count] for name, tensor in graph.inputs.items()}
        expected = graph(**some)
        made = session.run(None, {name: tensor.numpy() for name, tensor in some.items()})
        for one, other, whole in zip(expected if isinstance(expected, tuple) else (expected,), made, graph.ranges,
                                     strict=True):
            worst = max(worst, _difference(one.numpy(), other, whole))
    if not worst <= TOLERANCE:
        raise FolderError(f"The exported graph differs from PyTorch by {worst:.2g} of the intensity range: not kept.")
    return {"against": f"PyTorch {torch.__version__}", "runtime": f"ONNX Runtime {onnxruntime.__version__}",
            "images": EXAMPLES, "largest_difference": worst, "of": "the intensity range"}


def _difference(one: NDArray[Any], other: NDArray[Any], whole: float) -> float:
    """The largest, as a share of the range; of label values the share of places with another one.

    Where two labels are equally likely the last digit decides: among millions of voxels some differ.
    """
    return float((one != other).mean() if one.dtype.kind == "i" else np.abs(one - other).max() / whole)
