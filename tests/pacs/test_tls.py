"""Encrypted transfers: an authority of our own, the name of the host, a certificate of the client's, by both ways."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from radsynth.cli import app
from radsynth.errors import DataError, PacsError, SettingsError
from radsynth.image import Image
from radsynth.io import Provenance, write
from radsynth.pacs import Trust, _storage
from radsynth.verbs.pull import pull
from radsynth.verbs.push import push
from tests.pacs.examples import DicomWeb

pytest.importorskip("dicomweb_client")
pynetdicom = pytest.importorskip("pynetdicom")
trustme = pytest.importorskip("trustme")

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not understood is not waited for."""
    monkeypatch.setattr(_storage, "REFUSAL", 0.3)


@pytest.fixture(scope="module")
def authority() -> Any:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """ca, another authority, our certificate with its key, and one of the other authority's, as PEM files."""
    folder, other = tmp_path_factory.mktemp("pem"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    other.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(folder / "stranger.pem")
    return {path.stem: str(path) for path in folder.iterdir()}


def context(authority: Any, host: str, *, asks: bool) -> ssl.SSLContext:
    """A server's certificate for `host`; `asks`: the client must show one of the authority's."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(made)
    if asks:
        made.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(made)
    return made


@pytest.fixture
def archive(authority: Any) -> Iterator[Callable[..., tuple[str, list[Any]]]]:
    """Starts a PACS for C-STORE with TLS: (its address, what it was sent)."""
    running = []

    def start(host: str = "127.0.0.1", *, asks: bool = False) -> tuple[str, list[Any]]:
        received: list[Any] = []

        def keep(event: Any) -> int:
            received.append(event.dataset)
            return 0

        entity = pynetdicom.AE(ae_title="ARCHIVE")
        entity.add_supported_context(CT_STORAGE)
        server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            ssl_context=context(authority, host, asks=asks),
            evt_handlers=[(pynetdicom.evt.EVT_C_STORE, keep)],
        )
        running.append(server)
        return f"ARCHIVE@127.0.0.1:{server.server_address[1]}", received

    yield start
    for server in running:
        server.shutdown()


@pytest.fixture
def web(authority: Any) -> Iterator[Callable[..., str]]:
    """Starts a DICOMweb service over https that has nothing: its address."""

    running = []

    def start(host: str = "127.0.0.1", *, asks: bool = False) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), DicomWeb)
        server.socket = context(authority, host, asks=asks).wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are what is tested
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        running.append(server)
        return f"https://127.0.0.1:{server.server_address[1]}/dicom-web"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A synthetic CT series of two slices."""
    pixels = np.random.default_rng(0).integers(-1000, 1000, (1, 2, 16, 12))
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(2.0, 1.0, 1.0))
    origin = Provenance(model="example", weights="00", seed=0, index=0)
    write(image, tmp_path / "made", provenance=origin, format="dicom")
    return tmp_path / "made"


def test_c_store_by_tls_with_an_authority_of_our_own(archive: Any, files: dict[str, str], made: Path) -> None:
    address, received = archive()
    done = push(made, address, tls=True, ca=files["ca"])
    assert (done.pushed, done.failed) == (2, 0)
    sent = {str(pydicom.dcmread(path).SOPInstanceUID) for path in made.rglob("*.dcm")}
    assert {str(dataset.SOPInstanceUID) for dataset in received} == sent


def test_c_store_sends_nothing_to_a_pacs_that_it_does_not_trust(
    archive: Any, files: dict[str, str], made: Path
) -> None:
    address, received = archive()
    for more in ({"tls": True}, {"ca": files["other"]}):
        with pytest.raises(PacsError, match=r"no trusted connection: .*certificate verify failed"):
            push(made, address, **more)
    elsewhere, received_there = archive("another.example")
    with pytest.raises(PacsError, match=r"no trusted connection: .*IP address mismatch"):
        push(made, elsewhere, ca=files["ca"])
    with pytest.raises(PacsError, match=r"Does it want --tls\?"):
        push(made, address)
    assert not received and not received_there


def test_c_store_with_a_certificate_of_ours(archive: Any, files: dict[str, str], made: Path) -> None:
    address, received = archive(asks=True)
    for own in ("", files["stranger"]):
        with pytest.raises(PacsError, match=r"no trusted connection: .*(certificate required|unknown ca)"):
            push(made, address, ca=files["ca"], certificate=own)
    assert not received
    assert push(made, address, ca=files["ca"], certificate=files["client"]).pushed == 2 == len(received)


def test_dicomweb_by_https(
    web: Any, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web()
    with pytest.raises(PacsError, match="no trusted connection"):
        pull(url, tmp_path / "out", modality="CT")
    with pytest.raises(PacsError, match="no trusted connection"):
        pull(web("another.example"), tmp_path / "out", modality="CT", ca=files["ca"])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", files["other"])
    with pytest.raises(DataError, match="no instance that matches"):
        pull(url, tmp_path / "out", modality="CT", ca=files["ca"])
    with pytest.raises(PacsError, match="no trusted connection"):
        pull(url, tmp_path / "out", modality="CT")


def test_dicomweb_with_a_certificate_of_ours(web: Any, files: dict[str, str], tmp_path: Path) -> None:
    url = web(asks=True)
    with pytest.raises(PacsError):
        pull(url, tmp_path / "out", modality="CT", ca=files["ca"])
    with pytest.raises(DataError, match="no instance that matches"):
        pull(url, tmp_path / "out", modality="CT", ca=files["ca"], certificate=files["client"])


def test_files_that_are_no_certificates_are_told(files: dict[str, str], made: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("nothing")
    text, gone = str(tmp_path / "text.pem"), str(tmp_path / "gone.pem")
    for target in ("X@127.0.0.1:1", "https://127.0.0.1:1/x"):
        for more in ({"ca": text}, {"certificate": text}, {"certificate": files["ca"]}):
            with pytest.raises(SettingsError, match="cannot be used"):
                push(made, target, **more)
        with pytest.raises(SettingsError, match="there is no such file"):
            push(made, target, ca=gone)
    with pytest.raises(SettingsError, match="not encrypted"):
        push(made, "http://127.0.0.1:1/x", ca=files["ca"])


def test_a_key_with_a_passphrase_asks_nobody(authority: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    issued = authority.issue_cert("client.example")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"unknown"),
    )
    (tmp_path / "locked.pem").write_bytes(locked + issued.cert_chain_pems[0].bytes())
    with pytest.raises(SettingsError, match="without a passphrase"):
        Trust(certificate=str(tmp_path / "locked.pem")).context()


def test_the_command_line_takes_the_files(archive: Any, files: dict[str, str], made: Path) -> None:
    address, received = archive(asks=True)
    words = ["push", str(made), address, "--tls", "--ca", files["ca"], "--certificate", files["client"], "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and len(received) == 2, result.output
