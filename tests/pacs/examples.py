"""A synthetic series to send, and the tables that transfers leave behind."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

from radsynth.image import Image
from radsynth.io import Provenance, write

URL = "https://pacs.example:8443/dicom-web"


class DicomWeb(BaseHTTPRequestHandler):
    """A DICOMweb service that holds nothing, and says nothing at the terminal."""

    def do_GET(self) -> None:
        self.answer(200, b"[]")

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def series(folder: Path, seed: int = 0, slices: int = 3) -> list[Path]:
    """A synthetic CT series as radsynth writes it."""
    pixels = np.random.default_rng(seed).integers(-1000, 1000, (1, slices, 16, 12))
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(2.0, 1.0, 1.0))
    origin = Provenance(model="example", weights="00", seed=seed, index=seed)
    return write(image, folder, provenance=origin, format="dicom")
