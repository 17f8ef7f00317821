"""Training whose batches do not fit into memory: parts of them, and the errors that are left."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from radsynth.errors import OutOfMemory, out_of_memory
from radsynth.verbs._training.parts import more_parts
from radsynth.verbs.train import train
from tests.trained import events, options, weights

Make = Callable[..., Path]


def test_a_batch_that_does_not_fit_into_memory_is_computed_in_parts(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radsynth.tasks.synthesis import Synthesis

    whole = Synthesis.generator_loss

    def greedy(self: Synthesis, nets: Any, batch: Any) -> Any:
        if len(batch.items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return whole(self, nets, batch)

    data = make_prepared()
    train(data, tmp_path / "planned", settings=options("train.accumulate=4", "train.doctor=false"))
    monkeypatch.setattr(Synthesis, "generator_loss", greedy)
    train(data, tmp_path / "run", settings=options("train.doctor=false"))
    assert events(tmp_path / "run").count("less memory") == 2
    planned, found = weights(tmp_path / "planned"), weights(tmp_path / "run")
    moved = max(float(value.abs().max()) for value in planned.values())
    assert all(torch.allclose(planned[name], found[name], atol=0.05 * moved) for name in planned)


def test_memory_that_never_suffices_is_an_error(
    make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radsynth.tasks.synthesis import Synthesis

    def greedy(self: Synthesis, nets: Any, batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(Synthesis, "discriminator_loss", greedy)
    with pytest.raises(OutOfMemory) as error:
        train(make_prepared(), tmp_path / "run", settings=options())
    assert re.search(r"Memory ran out \(.*\) with 1 image at a time. Set a smaller model.width or", str(error.value))
    assert "rate" not in str(error.value)
    assert events(tmp_path / "run") == ["less memory"] * 3 + ["stopped"]  # it is no illness that a lower rate cures


def test_networks_that_memory_does_not_hold_are_refused_by_what_makes_them_large(make_prepared: Make, tmp_path: Path,
                                                                                 ) -> None:
    with pytest.raises(OutOfMemory, match=r"networks of model.kind=mlp with model.latent=2000000000 do not fit into"):
        train(make_prepared(), tmp_path / "run", overrides=["model.kind=mlp", "model.latent=2000000000"], budget="8img")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["Doctor.examine", "Samples.preview", "Samples.calibrate"])
def test_memory_that_runs_out_beside_the_steps_is_an_error(
    where: str, make_prepared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radsynth.verbs._training.doctor import Doctor
    from radsynth.verbs._training.samples import Samples

    def greedy(*_: Any) -> Any:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(Doctor, "due", lambda *_: where.startswith("Doctor"))
    monkeypatch.setattr({"Doctor": Doctor, "Samples": Samples}[where.split(".")[0]], where.split(".")[1], greedy)
    with pytest.raises(OutOfMemory, match=r"Memory ran out .cuDNN.* with 8 images at a time"):
        train(make_prepared(), tmp_path / "run", settings=options("train.previews=2"))


def test_the_errors_of_memory_are_known() -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError(
            "CUDA error: out of memory"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas")):
        assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_batches_are_cut_into_parts_that_all_of_them_can_have() -> None:
    assert [more_parts(now, [16], 1) for now in (1, 2, 8, 16)] == [2, 4, 16, None]
    assert more_parts(4, [12], 1) == 12 and more_parts(2, [16, 24], 1) == 4 and more_parts(4, [16, 18], 1) is None
    assert more_parts(1, [6], 2) == 2 and more_parts(4, [8], 2) is None  # parts of one image would teach nothing
