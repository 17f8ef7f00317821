"""What this machine has, and the numeric format and memory layout that are fast on it.

On a CPU bf16 pays only together with channels-last memory and only where the processor multiplies bf16 itself
(AMX or AVX-512-BF16); elsewhere it is slower than fp32. See docs/benchmarks-speed.md.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["bf16-mixed", "32-true"]
_AS_IT_LIES: ContextVar[bool] = ContextVar("as_it_lies", default=False)


@dataclass(frozen=True, kw_only=True)
class Device:
    """The machine as planning sees it. cores: that this process may use; count: GPUs, or 1 for the processor."""

    accelerator: Literal["cpu", "cuda"]
    name: str
    cores: int
    bf16: bool
    count: int = 1

    @property
    def precision(self) -> Precision:
        """Lightning Fabric's name of the numeric format to train in."""
        return "bf16-mixed" if self.bf16 else "32-true"


def here() -> Device:
    """The device that this process would train on."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(accelerator="cuda", name=properties.name, cores=cores(), count=torch.cuda.device_count(),
                      bf16=torch.cuda.is_bf16_supported(including_emulation=False))
    return Device(accelerator="cpu", name=_processor(), cores=cores(), bf16=_cpu_multiplies_bf16())


def torch_device() -> torch.device:
    """Where this process computes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def moved(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device; to a GPU in its own time, so that the processor need not wait for what it does now."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


@contextmanager
def memory_as_it_lies() -> Iterator[None]:
    """Within it `channels_last` changes nothing: torch.func.vmap knows no layouts."""
    before = _AS_IT_LIES.set(True)
    try:
        yield
    finally:
        _AS_IT_LIES.reset(before)


def channels_last(thing: Tensor) -> Tensor:
    """The tensor (n, c, *space) in channels-last memory; other ranks unchanged."""
    if _AS_IT_LIES.get():
        return thing
    if thing.ndim == 4:
        return thing.contiguous(memory_format=torch.channels_last)
    if thing.ndim == 5:
        return thing.contiguous(memory_format=torch.channels_last_3d)
    return thing


def module_channels_last(module: nn.Module, dimensions: int) -> nn.Module:
    """The module with its convolution weights in channels-last memory, for 2 or 3 dimensions."""
    layout = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    for weight in module.parameters():  # not `module.to`, which for volumes fails at weights with four axes
        if weight.ndim == dimensions + 2:
            # Not `contiguous`, to which one channel counts as laid out either way: convolutions look at the strides.
            weight.data = torch.empty_like(weight.data, memory_format=layout).copy_(weight.data)
    return module


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "CPU"


def _cpu_multiplies_bf16() -> bool:
    """Whether the processor has AMX or AVX-512-BF16 instructions; False where this cannot be known."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks for the next training step; False where the C library has no such setting.

    Otherwise every activation of some 100 kB is mapped and unmapped anew, and a quarter of a step on a CPU goes into
    page faults. Costs up to 1 GB of memory that is not given back before the process ends.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(mmap_threshold, 32 << 20) and mallopt(trim_threshold, 1 << 30))  # 32 MB is glibc's limit
