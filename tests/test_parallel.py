"""Data-parallel training: two processes against one, shared batch statistics, a killed process, an interrupted run."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, nn

from radsynth import cli
from radsynth.arrays import Prepared
from radsynth.device import Device
from radsynth.errors import Interrupted, MissingExtra, SettingsError, TrainingError
from radsynth.parallel import Ranks, join, launch, launched, share_batch_norm
from radsynth.run_folder import RunFolder
from radsynth.settings import resolve
from radsynth.stopping import SIGNALS, stop_signals
from radsynth.tasks import build
from radsynth.verbs._training import checks
from radsynth.verbs._training.checks import processes_of, tried
from radsynth.verbs._training.loop import Loop
from radsynth.verbs._training.options import Settings
from radsynth.verbs.run import run
from radsynth.verbs.train import train

SMALL = ("train.batch=8", "train.images=64", "train.previews=1", "train.precision=32-true", "model.width=8",
         "model.latent=8")
Make = Callable[..., Path]


def _gradients(data: Path, runs: Path, variants: Sequence[tuple[str, ...]]) -> None:
    """The gradients of both networks after one step of each variant, which hardly moves them, into a file a process."""
    ranks, prepared, found = join(), Prepared(data), dict[str, torch.Tensor]()
    for more in variants:
        settings = resolve(overrides=(*SMALL, *more, "train.rate=1e-9", "train.doctor=false"))
        task = build(settings, prepared.spec)
        loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(runs / "run"), settings.seed, ranks)
        loop.images = 32  # past the warm start
        loop.take_step()
        found |= {f"{settings.kind('model')}.{part}.{name}": weight.grad.cpu()
                  for part in ("generator", "discriminator")
                  for name, weight in loop.networks[part].named_parameters() if weight.grad is not None}
    torch.save(found, runs / f"{ranks.size}.{ranks.rank}.pt")


VARIANTS = (
    ("model.kind=sngan", "task.warm_start=0.2", "task.anchor=10", "task.consistency=1", "train.batch_end=16"),
    ("model.kind=dcgan", "model.discriminator_norm=none", "task.penalty=r1_r2"),
)


def check_gradients(variants: Sequence[tuple[str, ...]], data: Path, runs: Path) -> None:
    _gradients(data, runs, variants)
    launch(_gradients, 2, (data, runs, variants))
    one, first, second = (torch.load(runs / f"{name}.pt", weights_only=True) for name in ("1.0", "2.0", "2.1"))
    assert one.keys() == first.keys() and len({name.split(".generator.")[0] for name in one
                                               if ".generator." in name}) == len(variants)
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(value, first[name], rtol=1e-3, atol=1e-3 * float(value.abs().max()) + 1e-7), name


def test_two_processes_find_the_gradients_of_one(make_prepared: Make, tmp_path: Path) -> None:
    check_gradients(VARIANTS, make_prepared(labels=("small", "large")), tmp_path)


def _aborts_at_its_end() -> None:
    join().wait()  # one may be through while the other still connects to it
    atexit.register(os.abort)
    print("done", flush=False)


def test_an_interpreter_that_ends_badly_costs_nothing_that_is_finished(capfd: pytest.CaptureFixture[str]) -> None:
    launch(_aborts_at_its_end, 2, ())
    assert capfd.readouterr().out.count("done") == 2


@pytest.mark.gpu
def test_two_gpus_find_the_gradients_of_one(make_prepared: Make, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs here")
    check_gradients([("model.kind=sngan", "task.warm_start=0.2", "train.graphs=false")],
                    make_prepared(labels=("small", "large")), tmp_path)


def test_a_run_of_two_processes_is_whole_and_goes_on_in_one(make_prepared: Make, tmp_path: Path) -> None:
    data = make_prepared()
    run = train(data, tmp_path / "run", settings=resolve(overrides=(*SMALL, "model.kind=sngan", "train.processes=2")))
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if "event" in line] == ["trained"]
    assert run.load_weights()[1]["images"] == 64 and list(run.previews.glob("*.png"))
    train(data, run.path, settings=resolve(overrides=(*SMALL, "model.kind=sngan", "train.images=80")))
    assert run.load_weights()[1]["images"] == 80 and '"resumed"' in (run.path / "log.jsonl").read_text()


def _two_parts(folder: Path, images: torch.Tensor) -> None:
    """One process's part of a batch through shared batch normalisation; its results go into a file. Then a turn to
    which the other process has nothing to say."""
    ranks = join()
    layer = share_batch_norm(nn.Sequential(nn.BatchNorm2d(3)))
    part = images[ranks.part(len(images))].clone().requires_grad_()
    made = layer(part)
    (made.square() * torch.arange(made.numel()).view(made.shape)).mean().backward()
    terms = ranks.average(layer.parameters(), {"both": float(ranks.rank), f"of {ranks.rank}": 1.0})
    assert terms == {"both": 0.5, "of 0": 1.0, "of 1": 1.0} and ranks.average(layer.parameters(), {}) == {}
    assert ranks.told(f"rank {ranks.rank}") == "rank 0"
    state = {name: value for name, value in layer.state_dict().items()}
    plain = share_batch_norm(nn.Sequential(nn.BatchNorm2d(3, affine=False)))(part).detach()
    found = {"made": made.detach(), "plain": plain, "weight": layer[0].weight.grad, "state": state}
    torch.save(found, folder / f"{ranks.rank}.pt")
    weight = nn.Parameter(torch.ones(2))
    if ranks.first:
        weight.grad = torch.tensor([2.0, 4.0])
    assert ranks.average([weight], {"loss": 3.0} if ranks.first else {}) == {"loss": 3.0}
    assert weight.grad is not None and weight.grad.tolist() == [1.0, 2.0]


def test_shared_batch_norm_is_that_of_the_whole_batch_and_an_empty_turn_keeps_in_step(tmp_path: Path) -> None:
    images = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    images[:, 2] += 3000
    launch(_two_parts, 2, (tmp_path, images))
    found: list[dict[str, Any]] = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    layer = nn.Sequential(nn.BatchNorm2d(3))
    made = layer(images)
    factors = torch.arange(made.numel() // 2).view(3, *made.shape[1:]).repeat(2, 1, 1, 1)
    (made.square() * factors).mean().backward()
    assert torch.allclose(torch.cat([part["made"] for part in found]), made.detach(), atol=2e-4)
    assert torch.allclose(torch.cat([part["plain"] for part in found]), made.detach(), atol=2e-4)
    for part in found:
        assert torch.allclose(part["weight"], layer[0].weight.grad, rtol=1e-3)
        for name, value in layer.state_dict().items():
            assert torch.allclose(part["state"]["0." + name[2:]].float(), value.float(), rtol=1e-5), name


def _die(folder: Path) -> None:
    if join().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)  # longer than a test may take: it must be ended


def test_a_killed_process_ends_training_with_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsynth.parallel.PATIENCE", 1.0)
    with pytest.raises(TrainingError, match=r"SIGKILL.*repeat the command"):
        launch(_die, 2, (tmp_path,))


def _answer_no_more(folder: Path) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    (folder / str(join().rank)).touch()
    time.sleep(600)


def test_a_second_ctrl_c_ends_processes_that_answer_no_more(tmp_path: Path) -> None:
    def press() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.5)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(Interrupted, match="Stopped at once"):
        launch(_answer_no_more, 2, (tmp_path,))
    thread.join()


def _come(folder: Path) -> None:
    (folder / str(join().rank)).touch()


def _when_started(act: Callable[[list[int]], None]) -> threading.Thread:
    """Act on the processes that `launch` starts in their first moments, while they load."""
    def wait() -> None:
        while len(started := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        act([process.pid or 0 for process in started])

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_still_load_are_stopped_without_a_traceback(
    how: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def press(started: list[int]) -> None:
        time.sleep(0.5)
        for process in (os.getpid(), *started):  # as a terminal does
            with suppress(ProcessLookupError):
                os.kill(process, how)

    thread = _when_started(press)
    with pytest.raises(Interrupted, match=r"Stopped\. Repeat the command to go on"):
        launch(_come, 2, (tmp_path,))
    thread.join()
    assert not list(tmp_path.iterdir()) and capfd.readouterr().err == ""


ORPHANED = """
import os, signal, sys
from pathlib import Path
from radsynth.parallel import launch
from tests import test_parallel

test_parallel._when_started(lambda started: os.kill(os.getpid(), signal.SIGKILL))
launch(test_parallel._come, 2, (Path(sys.argv[1]),))
"""


def test_processes_end_when_the_one_that_started_them_is_killed_while_they_load(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHANED, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=100)  # the pipe is theirs, too
    assert done.returncode == -signal.SIGKILL and not list(tmp_path.iterdir())


def _refuse(folder: Path) -> None:
    raise SettingsError("never so")


def _fail(folder: Path) -> None:
    raise KeyError("a fault of ours")


def test_an_error_of_a_process_is_raised_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="never so"):
        launch(_refuse, 1, (tmp_path,))
    error = MissingExtra("reading", "wavelets")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # how it comes out of another process
    with pytest.raises(TrainingError, match="KeyError: 'a fault of ours'"):
        launch(_fail, 1, (tmp_path,))


class Second(Ranks):
    """The second of two processes, whose own samples are at another distance than the first one's."""

    def told(self, value: Any) -> Any:
        return replace(value, distance=0.125)


def test_the_doctor_decides_by_what_the_first_process_has_found(make_prepared: Make, tmp_path: Path) -> None:
    settings, prepared = resolve(overrides=SMALL), Prepared(make_prepared())
    task = build(settings, prepared.spec)
    loop = Loop(task, settings.section("train", Settings), prepared, RunFolder(tmp_path / "run"), settings.seed)
    assert loop.doctor
    loop.ranks = Second()
    loop.doctor.examine(loop)
    assert loop.doctor.measured["doctor/distance"] == loop.doctor.signs.distance == 0.125


def test_training_in_another_thread_leaves_signals_alone() -> None:
    entered = []

    def enter() -> None:
        with stop_signals(lambda *_: None):
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGINT)]


def test_a_batch_that_cannot_be_shared_is_refused(make_prepared: Make, tmp_path: Path) -> None:
    settings = resolve(overrides=(*SMALL, "model.kind=sngan", "train.processes=3"))
    with pytest.raises(SettingsError, match=r"3 processes must divide train\.batch=8"):
        train(make_prepared(), tmp_path / "run", settings=settings)


def test_interrupted_processes_save_and_go_on(make_prepared: Make, tmp_path: Path) -> None:
    data, run = make_prepared(), tmp_path / "run"
    settings = (*SMALL, "model.kind=dcgan", "model.discriminator_norm=none", "train.processes=2")
    command = [sys.executable, "-m", "radsynth", "train", str(data), str(run), *settings, "train.images=400000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = run / "log.jsonl"
    while process.poll() is None and not (log.exists() and '"images_per_second"' in log.read_text()):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert "interrupted" in [line.get("event") for line in lines]
    reached = next(line["images"] for line in lines if line.get("event") == "interrupted")
    train(data, run, overrides=[*settings, f"train.images={reached + 16}"])
    assert (run / "generator.safetensors").exists()


@pytest.mark.parametrize(("more", "gpus", "expected"), [
    ((), 8, 1), (("train.graphs=false",), 8, 8), (("train.graphs=false",), 3, 2),  # a batch of 8
    (("train.graphs=false", "train.batch_end=12"), 8, 4), (("train.graphs=false", "train.accumulate=2"), 8, 4),
    (("train.accumulate=2",), 8, 4),  # parts are not recorded
    (("train.graphs=false", "train.processes=2"), 8, 2), (("task.kind=cut", "model.kind=unet"), 8, 1),
    (("task.kind=cut", "model.kind=unet", "train.graphs=false"), 8, 4),
    (("task.kind=register", "model.kind=unet", "train.batch=7"), 8, 7),
    (("task.kind=segment", "model.kind=unet", "task.tissues=3"), 8, 8),  # whose steps are not recorded
])
def test_as_many_gpus_share_a_batch_as_divide_it(
    more: tuple[str, ...], gpus: int, expected: int, make_prepared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Device(accelerator="cuda", name="pretended", cores=1, bf16=True, count=gpus)
    monkeypatch.setattr(checks, "here", lambda: machine)
    settings, spec = resolve(overrides=(*SMALL[:2], *more)), Prepared(make_prepared(labels=("one", "two"))).spec
    task = tried(settings, spec, 48, None)
    assert processes_of(settings.section("train", Settings), task) == expected
    with pytest.raises(SettingsError, match=f"this machine has {gpus}. Set train.processes={gpus}"):
        tried(resolve(overrides=(*SMALL[:2], *more, "train.processes=16")), spec, 48, None)


@pytest.mark.parametrize(("rank", "spoken"), [("0", True), ("1", False)])
def test_of_several_processes_one_prints_the_result(
    rank: str, spoken: bool, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["radsynth", "train", str(make_prepared()), str(tmp_path / "run"), *SMALL, "model.kind=dcgan", "--json"]
    train(Path(command[2]), Path(command[3]), overrides=command[4:-1])
    monkeypatch.setattr(sys, "argv", command)
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and bool(capsys.readouterr().out) == spoken


def test_a_process_that_sees_one_gpu_alone_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 3, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": 0,
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1, "TORCHELASTIC_RUN_ID": "test"}.items():
        monkeypatch.setenv(name, str(value))
    for visible, expected in ((4, 3), (1, 0)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda visible=visible: visible)
        assert join().local == expected


def test_slurm_is_understood(make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": 4, "JOB_NAME": "train", "JOB_ID": 20123, "PROCID": 0, "LOCALID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert join() == Ranks(), "a script of sbatch is one process, however many tasks it may start"
    train(make_prepared(), tmp_path / "run", settings=resolve(overrides=(*SMALL, "model.kind=dcgan")))
    met: dict[str, Any] = {}
    monkeypatch.setattr(distributed, "init_process_group", lambda backend, **options: met.update(options))
    for name, value in {"STEP_ID": 0, "PROCID": 3, "LOCALID": 1, "NODELIST": "gpu[07-08]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert launched() and join().rank == 3
    assert met == {"rank": 3, "world_size": 4, "init_method": "tcp://gpu07:15123"}
    with pytest.raises(SettingsError, match=r"started 4 times together.*Start it once"):  # each would wait for others
        run(tmp_path / "data", tmp_path / "job")
    monkeypatch.setenv("SLURM_PTY_PORT", "40123")
    assert launched(), "by srun in such a shell"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert not launched(), "a shell of srun --pty is one process, whatever its name"


def test_one_process_is_alone() -> None:
    assert join() == Ranks() and Ranks().part(6) == slice(0, 6)
    assert Ranks().average([], {"loss": 1.0}) == {"loss": 1.0} and Ranks().agree(2.0, True) == (2.0, True)
