"""Every data set: its example is found, loads, says of itself what it is, and can be prepared."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest

import radsynth.datasets
from radsynth.arrays import Prepared
from radsynth.datasets import Dataset, Record, Rejected
from radsynth.errors import DataError, RejectedFile
from radsynth.image import Image
from radsynth.settings import Resolved
from radsynth.verbs.inspect import inspect
from radsynth.verbs.prepare import prepare

KINDS = sorted(path.stem for path in Path(radsynth.datasets.__path__[0]).glob("*.py") if not path.stem.startswith("_"))

TOLD_BEFORE = ("channels", "labels", "conditions", "partly_masked", "modality", "units", "bits")
"""What `inspect` says of the specification of prepared images before they are prepared."""


@pytest.fixture(params=KINDS)
def module(request: pytest.FixtureRequest) -> Dataset:
    return importlib.import_module(f"radsynth.datasets.{request.param}")  # type: ignore[return-value]


def found(module: Dataset, folder: Path) -> list[Record]:
    rejected: list[Rejected] = []
    records = list(module.records(module.example(folder), rejected))
    assert not [line for line in rejected if not line.skipped]
    return records


def test_settings_name_their_kind_first_and_explain_every_field(module: Dataset) -> None:
    fields = dataclasses.fields(module.Settings)
    kind = module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    assert fields[0].name == "kind" and fields[0].default == kind
    described = module.Settings.__pydantic_fields__
    assert all(described[field.name].description for field in fields[1:])


def test_records_come_in_a_fixed_order_with_names(module: Dataset, tmp_path: Path) -> None:
    settings = module.example(tmp_path)
    first, second = (list(module.records(settings, [])) for _ in range(2))
    assert len(first) >= 3 and len({record.source for record in first}) == len(first)
    assert [(r.source, r.patient, r.label) for r in first] == [(r.source, r.patient, r.label) for r in second]
    for record in first:
        assert record.mask_names == first[0].mask_names and set(record.conditions) == set(first[0].conditions)
        assert record.source.isprintable() and str(tmp_path) not in record.source and record.patient
        assert record.split in (None, "train", "validation", "test")
        assert all(Path(name).is_file() for name in (*record.files, *record.masks))


def test_an_image_is_what_its_header_says_in_any_process(module: Dataset, tmp_path: Path) -> None:
    for record in found(module, tmp_path):
        image = pickle.loads(pickle.dumps(record.load))()  # what a pool of processes does with it
        assert isinstance(image, Image) and len(image.pixels) == len(image.channels)
        np.testing.assert_array_equal(image.pixels, record.load().pixels)
        assert image.mask is not None or not record.masks
        assert np.ptp(image.pixels) > 0 and np.isfinite(image.pixels).all()
        if record.header is not None:
            said = record.header
            assert (said.size, said.channels, said.modality) == (image.space, len(image.channels), image.modality)
            assert (said.units, said.bits) == (image.units, image.bits)
            assert said.spacing is None or said.spacing == pytest.approx(image.spacing)


def test_damaged_files_are_rejected_or_refused(module: Dataset, tmp_path: Path) -> None:
    settings = module.example(tmp_path)
    for file in [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]:
        content = file.read_bytes()
        for damaged in (b"", content[:len(content) // 2], content[::-1]):
            file.write_bytes(damaged)
            rejected: list[Rejected] = []
            with contextlib.suppress(DataError, RejectedFile):
                for record in module.records(settings, rejected):
                    record.load()
            assert all(line.reason for line in rejected)
        file.write_bytes(content)


def test_it_recognises_its_own_path(module: Dataset, tmp_path: Path) -> None:
    settings = module.example(tmp_path)
    path = getattr(settings, "path", None)
    assert module.matches(Path(path)) if path is not None else not module.matches(tmp_path)


def test_it_can_be_prepared(module: Dataset, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    data = module.example(tmp_path / "in")
    made = prepare(data, tmp_path / "out", settings=Resolved(0, {"prepare": {"size": [16, 16]}}, {}), workers=1)
    again = Prepared(tmp_path / "out")
    assert sum(made.manifest.counts.values()) == len(made.rows) == len(again.rows) > 0
    assert made.manifest.rejected == 0
    looked_at = inspect(data).spec
    assert looked_at and all(getattr(looked_at, name) == getattr(made.spec, name) for name in TOLD_BEFORE)
    assert set(made.spec.mask_values) <= set(looked_at.mask_values)  # the smallest parts are lost in small images
    assert bool(made.spec.mask_values) == bool(looked_at.mask_values)
    assert made.images(np.arange(len(made.rows))).shape == (len(made.rows), len(made.spec.channels), 16, 16)
    assert made.spec.virtual == getattr(module, "VIRTUAL", False)
