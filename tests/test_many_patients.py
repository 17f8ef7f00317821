"""As many patients as possible, whatever number of images is taken."""

from __future__ import annotations

import numpy as np

from radsynth.verbs._many_patients import in_turns


def test_the_first_image_of_every_patient_comes_before_the_second_of_any() -> None:
    patients = np.array([7, 7, 3, 7, 5, 3])
    assert in_turns(patients).tolist() == [0, 2, 4, 1, 5, 3]
    assert in_turns(patients[:0]).tolist() == []
