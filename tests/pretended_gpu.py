"""A GPU that is not there: tensors on the device "meta" that hold values, so that code for a GPU runs without one.

An operation that mixes them with tensors of the processor is an error, as it is on a GPU, and so is taking them as an
array without bringing them back. Numeric formats and speed of a GPU are not imitated.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")
ACROSS = ("aten::copy_", "aten::_to_copy", "aten::to", "aten::_foreach_copy_")
"""Operations that take tensors of two devices."""
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
           "aten::unique_consecutive", "aten::equal", "aten::bincount", "aten::repeat_interleave",
           "aten::_linalg_check_errors")
"""Operations for whose result the processor waits: none may be in a step that is recorded."""
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
"""Operations whose indices may lie on the processor, from where a GPU fetches them."""


class Remote(Tensor):
    """A tensor on the pretended GPU; `values` holds what it holds."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Remote:
        made: Remote = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            device=GPU)
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]  # torch's takes contents too
        return f"Remote({self.values!r})"

    def tolist(self) -> Any:
        return self.values.tolist()

    def new_tensor(self, values: Any, **options: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=GPU)

    def __getitem__(self, where: Any) -> Tensor:
        # Indices in a list would become a tensor on "meta", without values.
        parts = where if isinstance(where, tuple) else (where,)
        chosen: Tensor = super().__getitem__(tuple(torch.tensor(one) if isinstance(one, list) else one
                                                   for one in parts))
        return chosen

    def __setitem__(self, where: Any, value: Any) -> None:
        places = where if isinstance(where, tuple) else (where,)
        if isinstance(value, float | int) and len(places) == self.ndim and all(type(one) is int for one in places):
            # A GPU gets the number of a single element as a tensor of the processor; those of larger parts are told.
            self[where].copy_(torch.tensor(value))
        else:
            super().__setitem__(where, value)


def _run(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], recording: bool = False) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    remote = [one for one in given if isinstance(one, Remote)]
    assert all(isinstance(one, Remote) or one.device != GPU for one in given), f"{operation}: a tensor without values"
    name = operation._schema.name
    if name == "aten::_has_compatible_shallow_copy_type":
        return False  # weights of a network that is moved become new ones
    stays = isinstance(args[0], Remote) if name in (*INDEXED, "aten::copy_") else bool(remote)
    strangers = [tuple(one.shape) for one in given if not isinstance(one, Remote) and one.ndim]
    if remote and strangers and name not in ACROSS and not (name in INDEXED and stays):
        raise RuntimeError(f"{name}: tensors on two devices; on the processor: {strangers}")
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]) == GPU
        kwargs = {**kwargs, "device": torch.device("cpu")}
    waits = name in WAITING or (name in INDEXED and any(one.dtype == torch.bool for one in given[1:]))
    crosses = name in ACROSS and any(isinstance(one, Remote) != stays for one in given)
    brings = name in INDEXED and stays and bool(strangers)
    if recording and ((remote and waits) or crosses or brings):
        raise RuntimeError(f"{name}: operation not permitted when stream is capturing")
    out = operation(*tree_map(_values, args), **tree_map(_values, kwargs))
    known = {id(one.values): one for one in remote}

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not stays:
            return leaf
        return known[id(leaf)] if id(leaf) in known else Remote(leaf)

    return tree_map(wrapped, out)


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, Remote) else leaf


class Pretending(TorchDispatchMode):
    """While it is entered, tensors can be moved to the pretended GPU and made there.

    recording: as while a CUDA graph is recorded; nothing may go from or to the GPU, or wait for it
    """

    def __init__(self, recording: bool = False) -> None:
        super().__init__()
        self.recording = recording

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {}, self.recording)


class Fabric:
    """What training uses of Lightning Fabric, on the pretended GPU."""

    device = GPU

    def __init__(self, **options: Any) -> None:
        assert options["accelerator"] == GPU.type

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Everything that asks for the device is told that there is this GPU."""
    import lightning_fabric

    from radsynth import device

    autocast, adam, tensor = torch.autocast, torch.optim.Adam, torch.tensor
    found = device.Device(accelerator=GPU.type, name="pretended", cores=1, bf16=False)  # type: ignore[arg-type]
    answers = [(device.here, lambda: found), (device.torch_device, lambda: GPU)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning_fabric, "Fabric", Fabric)
        patch.setattr(torch, "autocast", lambda kind, **options: (
            contextlib.nullcontext() if kind == GPU.type else autocast(kind, **options)))
        patch.setattr(torch.optim, "Adam", lambda weights, **options: adam(weights, **{**options, "fused": False}))
        patch.setattr(torch, "tensor", lambda values, device="cpu", **options: tensor(values, **options).to(device))
        for real, pretended in answers:
            _replace_everywhere(real, pretended)
        try:
            with warnings.catch_warnings(), Pretending():
                warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter")  # these hold values
                yield
        finally:
            for real, pretended in answers:
                _replace_everywhere(pretended, real)


def _replace_everywhere(old: Callable[[], Any], new: Callable[[], Any]) -> None:
    """In all modules of radsynth, those that were loaded in the meantime among them."""
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()) if name.startswith("radsynth") else []:
            if value is old:
                setattr(module, key, new)
