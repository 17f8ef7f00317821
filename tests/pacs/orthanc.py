"""A running Orthanc and what its own interface answers."""

from __future__ import annotations

import base64
import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "somebody", "correct-horse"


class Orthanc(NamedTuple):
    """A running test server."""

    web: str
    port: int
    dicom: int
    start: Callable[[], None]
    stop: Callable[..., None]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a port takes connections; Orthanc opens it when all is ready."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def asked(orthanc: Orthanc, path: str, body: str = "") -> bytes:
    """What Orthanc's own interface answers; with a body by POST."""
    request = urllib.request.Request(f"http://127.0.0.1:{orthanc.port}/{path}", data=body.encode() or None)
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def ask(orthanc: Orthanc, path: str, body: str = "") -> Any:
    return json.loads(asked(orthanc, path, body))
