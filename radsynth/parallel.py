"""Data-parallel training: several processes hold the same networks, and each takes an equal part of every batch.

What one process would have computed on the whole batch is put together from the parts: gradients and logged terms are
averaged, batch normalisation takes the statistics of all parts. No wrapper around the networks is needed for that, so
that penalties with a second derivative work as they do in one process. SLURM and torchrun are understood; on one
machine `launch` starts the processes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import ProcessException, start_processes

from radsynth.errors import Interrupted, RadsynthError, TrainingError
from radsynth.stopping import stop_signals
from radsynth.streams import open_streams

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds that the other processes get to end by themselves when one has died; then they are ended."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Which of how many processes this is. local: its place on this machine, which is its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def part(self, items: int) -> slice:
        """This process's part of a batch of so many items, which `size` divides."""
        share = items // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average(self, parameters: Iterable[nn.Parameter], values: dict[str, float]) -> dict[str, float]:
        """Replace the gradients by their mean over all processes; returns the mean of the values by name.

        A process without values has left the turn out, and counts as gradients of zero; {} when all have. Else a
        weight without a gradient (a layer that has not grown yet) has none in every process.
        """
        if self.size == 1:
            return values
        told: list[dict[str, float]] = [{} for _ in range(self.size)]
        distributed.all_gather_object(told, values)
        if not any(told):
            return {}
        if not values:
            for parameter in (parameters := list(parameters)):
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.float().reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start:start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()
        by_name: dict[str, list[float]] = {}
        for name, value in (term for terms in told for term in terms.items()):
            by_name.setdefault(name, []).append(value)
        return {name: sum(found) / len(found) for name, found in by_name.items()}

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first process's clock, and whether any process was asked to stop: schedules must not drift apart."""
        if self.size == 1:
            return seconds, stop
        # Doubles: a clock of some 1e5 seconds in single precision ticks in hundredths.
        told = torch.tensor([seconds if self.first else 0.0, float(stop)], dtype=torch.float64, device=_device())
        distributed.all_reduce(told)
        return float(told[0]), bool(told[1] > 0)

    def told(self, value: T) -> T:
        """The first process's value in every process, for decisions that must be the same in all."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def wait(self) -> None:
        """Wait until every process is here: what the first one wrote is there for all."""
        if self.size > 1:
            distributed.barrier(device_ids=[self.local] if torch.cuda.is_available() else None)


def launched() -> bool:
    """Whether something (torchrun, SLURM, `launch`) has started this process as one of several."""
    return bool(_told())


def together() -> int:
    """How many processes something has started together, this one included."""
    return int(_told().get("WORLD_SIZE", "1"))


def speaks() -> bool:
    """Whether this process prints what all that were started together have to say."""
    return _told().get("RANK", "0") == "0"


def join() -> Ranks:
    """Take this process's place among those that were started together; alone if nothing started several."""
    told = _told()
    if not told:
        return Ranks()
    # SLURM may show each process its own GPU alone, as the first one.
    local = int(told["LOCAL_RANK"]) % max(1, torch.cuda.device_count())
    ranks = Ranks(rank=int(told["RANK"]), size=int(told["WORLD_SIZE"]), local=local)
    if ranks.size > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(ranks.local)
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo", rank=ranks.rank, world_size=ranks.size,
            init_method=f"tcp://{told['MASTER_ADDR']}:{told['MASTER_PORT']}",
        )
    return ranks


def _told() -> dict[str, str]:
    """What torchrun, or SLURM in other words, says of the processes that it has started together; {} if none did."""
    given = os.environ
    if distributed.is_torchelastic_launched():
        return dict(given)
    # A script of `sbatch` knows the number of tasks, too, but runs once: it is `srun` that starts them all, as a step.
    # An interactive shell (srun --pty) is one, in which nothing more is started; what is started from it inherits its
    # variables, and not its terminal.
    several = "SLURM_STEP_ID" in given and int(given.get("SLURM_NTASKS", "1")) > 1
    shell = "SLURM_PTY_PORT" in given and sys.stdin is not None and sys.stdin.isatty()
    if not several or shell or given.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return {}
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    return {
        "RANK": given["SLURM_PROCID"], "LOCAL_RANK": given["SLURM_LOCALID"], "WORLD_SIZE": given["SLURM_NTASKS"],
        "MASTER_ADDR": SLURMEnvironment.resolve_root_node_address(given.get("SLURM_NODELIST", "127.0.0.1")),
        "MASTER_PORT": str(15000 + int(given.get("SLURM_JOB_ID", "0")[-4:])), **_chosen("MASTER_ADDR", "MASTER_PORT")}


def _chosen(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def launch(function: Callable[..., None], size: int, arguments: tuple[Any, ...]) -> None:
    """Run `function(*arguments)` in `size` processes on this machine and wait for them.

    Their first error of ours is raised here; TrainingError when a process is killed. A first signal to stop is
    passed on, Interrupted when they end of it; a second SIGINT ends them all.
    """
    asked: list[int] = []
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    try:
        with stop_signals(asked.append):
            running = _started((function, arguments, size, _free_port(), errors), size)
            while not (asked or running.join(timeout=0.2, grace_period=PATIENCE)):
                pass
            for process in running.processes:
                process.terminate()  # one that trains takes it as a request, one that is not so far ends without a word
            while not running.join(timeout=1.0, grace_period=PATIENCE):
                pass
    except Interrupted:
        for process in running.processes:
            process.kill()  # it may wait for another one that answers no more
        raise
    except ProcessException as error:
        if not errors.empty():
            raise errors.get() from None
        if asked:
            raise Interrupted("Stopped. Repeat the command to go on.") from None
        raise TrainingError(  # the last line of what torch says names the signal or the error
            f"One of the {size} training processes ended ({str(error).strip().splitlines()[-1][:200]}), and the others "
            "were stopped. The last checkpoint is kept: repeat the command to go on."
        ) from error


def _started(arguments: tuple[Any, ...], size: int) -> Any:
    """Processes that enter with these arguments. While they load, for seconds, they are deaf to a terminal's Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
    try:
        return start_processes(  # type: ignore[no-untyped-call]
            _enter, arguments, nprocs=size, join=False, start_method="spawn")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(rank: int, function: Callable[..., None], arguments: tuple[Any, ...], size: int, port: int,
           errors: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                   "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "TORCHELASTIC_RUN_ID": "radsynth"}
    open_streams()
    os.setpgrp()  # a terminal sends Ctrl-C to its whole group; here the process that started this one passes it on
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which comes when that process dies, too
        if not (parent := parent_process()) or not parent.is_alive():  # killed before such a signal could come
            raise KeyboardInterrupt
        function(*arguments)
    except KeyboardInterrupt:
        errors.put(Interrupted("Stopped. Repeat the command to go on."))
        raise SystemExit(Interrupted.exit_code) from None  # torch would let it end as if it were done
    except RadsynthError as error:
        errors.put(error)
        raise SystemExit(error.exit_code) from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of gloo may still let go of tensors, and abort a process whose interpreter is being taken down meanwhile.
    os._exit(0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Sum(torch.autograd.Function):
    """The sum over all processes; every process's loss depends on every part, so that the gradient is a sum, too."""

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _sum_over_processes(part: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
    return total


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the parts of all processes; torch's own needs a GPU. Same weights and buffers."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes of space."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        values, count = x.float(), x.numel() // x.shape[1] * distributed.get_world_size()
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = _sum_over_processes(values.sum(axes)) / count
        centred = values - mean.view(shape)  # E[x^2] - E[x]^2 would lose small deviations from a large mean
        variance = _sum_over_processes(centred.square().sum(axes)) / count
        self._keep(mean.detach(), variance.detach(), count)
        normalised: Tensor = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Take the statistics into the running ones, as torch does: with the unbiased variance."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(count - 1, 1), share)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """The network with every batch normalisation over the parts of all processes."""
    for name, layer in network.named_children():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            shared = _SharedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine)
            shared.load_state_dict(layer.state_dict())
            setattr(network, name, shared.to(next(iter(layer.state_dict().values())).device))
        else:
            share_batch_norm(layer)
    return network
