"""Records that a test makes up, and what became of them."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from radsynth.arrays import Prepared
from radsynth.datasets import Record
from radsynth.image import Image
from radsynth.io import Header
from radsynth.settings import Resolved

Prepare = Callable[..., Prepared]


def picture(number: int, space: tuple[int, ...] = (20, 20), **fields: Any) -> Image:
    """Noise that only `number` decides."""
    channels = fields.get("channels", ("grey",))
    top = 2 ** min(fields.get("bits", 8), 16) - 1
    pixels = np.random.default_rng(number).integers(0, top + 1, (len(channels), *space))
    return Image(pixels=pixels.astype(np.uint16 if top > 255 else np.uint8), **fields)


def given(image: Image) -> Image:
    return image


def record(number: int, image: Image | Callable[[], Image] | None = None, **fields: Any) -> Record:
    load = image if callable(image) else partial(given, image) if image is not None else partial(picture, number)
    return Record(**{"source": f"file{number:03d}", "patient": f"Doe^Jane{number}", "load": load, **fields})


def with_header(records: Sequence[Record]) -> list[Record]:
    """Records of 2-D pictures that say what they are, so that nothing is loaded before the shards are made."""
    header = Header(format="picture", size=(20, 20))
    return [Record(**{**vars(record), "header": header}) for record in records]


def with_options(**options: Any) -> Resolved:
    return Resolved(0, {"prepare": options}, {})


def rejections(prepared: Prepared) -> dict[str, str]:
    with (prepared.folder / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return {line["path"]: line["reason"] for line in csv.DictReader(file)}


def everything(prepared: Prepared) -> np.ndarray:
    return prepared.stored(np.arange(len(prepared.rows)))


def dies() -> Image:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fails(error: BaseException) -> Image:
    raise error
