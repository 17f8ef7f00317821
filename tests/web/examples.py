"""How tests visit the pages: in this process, and as a command that serves."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from starlette.testclient import TestClient

from radsynth.web.app import make_app
from radsynth.web.explorer import Explorer
from radsynth.web.serve import LOOPBACK
from radsynth.web.study import Study

KEYS = ("organiser-key", "reader-key")
ADDRESS = "http://localhost"


def client(run: Path, key: str | None = None, study: Study | None = None) -> TestClient:
    app = make_app(Explorer(run), study, "none was made", KEYS, LOOPBACK)
    browser = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    if key:
        assert browser.get(f"/study?key={key}", follow_redirects=False).status_code == 303
    return browser


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(content)))


@contextmanager
def served(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """`radsynth serve` as a process, with the organiser's and the readers' address."""
    command = [sys.executable, "-m", "radsynth", "serve", str(run), "--port", "0", "study.images=10", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = list[str]()
        while "Ctrl-C" not in "".join(lines[-1:]):  # those of a study that is being made come first
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        *_, organiser, readers, _ = lines
        assert "?key=" in organiser and "/study?key=" in readers, lines
        yield process, organiser.split()[-1], readers.split()[-1]
    finally:
        process.kill()
        process.wait(20)
