"""No credentials or proxies of this machine, short pauses, and Debian's Orthanc for the marker pacs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radsynth import pacs
from radsynth.pacs import _account, _waiting
from tests.pacs.orthanc import PASSWORD, PLUGIN, USER, Orthanc, answers, free_port


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (pacs.USER, pacs.PASSWORD, pacs.TOKEN, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_waiting, "PAUSES", (0.05, 0.05))
    monkeypatch.setattr(_account, "_from_keyring", lambda *_: None)


@pytest.fixture
def orthanc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Orthanc]:
    """An empty Orthanc with a user, that knows no AE title but RADSYNTH. Its parameter is more configuration."""
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(program).exists() or not PLUGIN.exists():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    http, dicom = free_port(), free_port()
    config = {
        "StorageDirectory": str(tmp_path / "pacs"),
        "IndexDirectory": str(tmp_path / "pacs"),
        "Plugins": [str(PLUGIN)],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"radsynth": ["RADSYNTH", "127.0.0.1", 11112]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    more = request.getfixturevalue(request.param) if hasattr(request, "param") else {}
    (tmp_path / "orthanc.json").write_text(json.dumps({**config, **more}))
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (tmp_path / "orthanc.log").open("ab") as log:
            running.append(subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log))
        for _ in range(300):
            if answers(http) and answers(dicom):
                return
            assert running[-1].poll() is None, (tmp_path / "orthanc.log").read_text()[-2000:]
            time.sleep(0.1)
        raise AssertionError("Orthanc did not start")

    def stop(how: int = signal.SIGTERM) -> None:
        while running:
            server = running.pop()
            server.send_signal(how)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    monkeypatch.setenv(pacs.USER, USER)
    monkeypatch.setenv(pacs.PASSWORD, PASSWORD)
    start()
    yield Orthanc(web=f"http://127.0.0.1:{http}/dicom-web", port=http, dicom=dicom, start=start, stop=stop)
    stop()


@pytest.fixture
def encrypted(tmp_path: Path) -> dict[str, Any]:
    """Configuration of an Orthanc that takes C-STORE by TLS alone, from those who show a certificate.

    HTTPS is left out: Debian 12's civetweb closes every connection. test_tls.py has it.
    """
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("radsynth.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(tmp_path / "server.pem"),
        "DicomTlsPrivateKey": str(tmp_path / "server.key"),
        "DicomTlsTrustedCertificates": str(tmp_path / "ca.pem"),
        "DicomTlsRemoteCertificateRequired": True,
    }
