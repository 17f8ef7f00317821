"""A format to write that there is not: refused with the nearest and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from radsynth.errors import SettingsError
from radsynth.verbs.apply import apply
from radsynth.verbs.generate import generate


@pytest.mark.parametrize(("given", "meant"), [
    ("jpg", "png"), ("jpeg", "png"), ("PNG", "png"), ("tif", "tiff"), ("dcm", "dicom"), ("nii", "nifti"),
    ("nii.gz", "nifti"), (".mha", "metaimage"), ("niffti", "nifti"),
])
def test_an_unknown_format_is_refused_with_the_nearest_and_all(given: str, meant: str, tmp_path: Path) -> None:
    allowed = "dicom, metaimage, nifti, npz, picture, png, tiff"
    for make in (generate, apply):
        with pytest.raises(SettingsError) as refused:
            if make is generate:
                generate(tmp_path, tmp_path / "out", count=3, format=given)
            else:
                apply(tmp_path, tmp_path, tmp_path / "out", format=given)
        assert f"there is no format {given!r} to write (did you mean {meant}?); the formats are {allowed}" in str(
            refused.value)
        assert ("JPEG is read, but not written" in str(refused.value)) == given.startswith("jp")
