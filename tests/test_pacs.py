"""The PACS client: what it refuses needs no server; round trips run against a real Orthanc (marker pacs)."""

from __future__ import annotations

import base64
import csv
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from radsynth import pacs
from radsynth.cli import app
from radsynth.errors import DataError, FolderError, MissingExtra, PacsError, RejectedFile, SettingsError
from radsynth.image import RGB, Image
from radsynth.io import Provenance, write
from radsynth.pacs import (
    Credentials,
    Found,
    Storage,
    Web,
    _account,
    _waiting,
    checked_address,
    checked_uid,
    checked_url,
)
from radsynth.settings import resolve
from radsynth.verbs._transfers import Table, Transfer
from radsynth.verbs.pull import pull
from radsynth.verbs.push import push

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "somebody", "correct-horse"
URL = "https://pacs.example:8443/dicom-web"
ASK_KEYRING = _account._from_keyring


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (pacs.USER, pacs.PASSWORD, pacs.TOKEN, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_waiting, "PAUSES", (0.05, 0.05))
    monkeypatch.setattr(_account, "_from_keyring", lambda *_: None)


def series(folder: Path, seed: int = 0, slices: int = 3) -> list[Path]:
    """A synthetic CT series as radsynth writes it."""
    pixels = np.random.default_rng(seed).integers(-1000, 1000, (1, slices, 16, 12))
    image = Image(pixels=pixels, modality="CT", units="HU", bits=12, spacing=(2.0, 1.0, 1.0))
    origin = Provenance(model="example", weights="00", seed=seed, index=seed)
    return write(image, folder, provenance=origin, format="dicom")


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


BAD_UIDS = ["", "../../etc/passwd", "1.2/3", "1..2", ".1", "1.2.", "1.2\n", "1" * 65, None, "\N{FULLWIDTH DIGIT ONE}"]


@pytest.mark.parametrize("uid", BAD_UIDS)
def test_what_is_no_uid_never_names_a_file(uid: str | None) -> None:
    with pytest.raises(RejectedFile):
        checked_uid(uid)
    assert checked_uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"


@pytest.mark.parametrize("url", ["ftp://host/x", "https://", "https://host:port/x", "host:80", "https://host/x?a=b", "http://[1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        checked_url(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match=pacs.PASSWORD) as raised:
        checked_url("https://somebody:s3cret@host/dicom-web")
    assert "s3cret" not in str(raised.value) and "somebody" not in str(raised.value)


def test_addresses_of_c_store() -> None:
    assert checked_address("ORTHANC@127.0.0.1:4242") == ("ORTHANC", "127.0.0.1", 4242)
    assert checked_address("MY PACS@[::1]:104") == ("MY PACS", "::1", 104)
    for text in ("ORTHANC", "ORTHANC@host", "@host:104", "X@host:0", "X@host:99999", "A" * 17 + "@h:104", "A\\B@h:1"):
        with pytest.raises(SettingsError, match="is no address"):
            checked_address(text)
    with pytest.raises(SettingsError, match="--calling"):
        Storage("X@host:104", "A" * 17, [])


def test_credentials_come_from_the_environment_and_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Credentials.of(URL) == Credentials()
    monkeypatch.setenv(pacs.USER, "somebody")
    with pytest.raises(SettingsError, match=r"keyring set radsynth:pacs\.example:8443 somebody"):
        Credentials.of(URL)
    monkeypatch.setenv(pacs.PASSWORD, "s3cret")
    found = Credentials.of(URL)
    assert (found.user, found.password) == ("somebody", "s3cret") and "s3cret" not in repr(found)
    monkeypatch.setenv(pacs.TOKEN, "line\nbreak")
    with pytest.raises(SettingsError, match="control character"):
        Credentials.of(URL)
    monkeypatch.delenv(pacs.TOKEN)
    monkeypatch.delenv(pacs.USER)
    with pytest.raises(SettingsError, match=f"{pacs.USER} is not"):
        Credentials.of(URL)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], str]]:
    """A keyring in memory: (service, user) -> password."""
    keyring = pytest.importorskip("keyring")
    monkeypatch.setattr(_account, "_from_keyring", ASK_KEYRING)
    kept: dict[tuple[str, str], str] = {}

    class Memory(keyring.backend.KeyringBackend):  # type: ignore[misc, name-defined]  # keyring is an optional package
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

        def get_credential(self, service: str, username: str | None) -> Any:
            names = [user for place, user in kept if place == service and username in (None, user)]
            return keyring.credentials.SimpleCredential(names[0], kept[service, names[0]]) if names else None

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    yield kept
    keyring.set_keyring(before)


def test_the_keyring_is_asked_for_what_the_environment_leaves_out(
    stored: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Credentials.of(URL) == Credentials()
    stored["radsynth:pacs.example:8443", "somebody"] = "kept-s3cret"
    stored["radsynth:elsewhere.example", "token"] = "kept-token"
    found = Credentials.of(URL)
    assert (found.user, found.password, found.token) == ("somebody", "kept-s3cret", "")
    assert "kept-s3cret" not in repr(found) + str(found)
    assert Credentials.of("https://elsewhere.example/dicom-web").token == "kept-token"
    assert Credentials.of("https://other.example/dicom-web") == Credentials(), "an account is for its own host alone"
    monkeypatch.setenv(pacs.USER, "somebody")
    assert Credentials.of(URL).password == "kept-s3cret"
    monkeypatch.setenv(pacs.PASSWORD, "from-outside")
    assert Credentials.of(URL).password == "from-outside", "the environment comes first"
    monkeypatch.delenv(pacs.PASSWORD)
    monkeypatch.setenv(pacs.USER, "somebody-else")
    with pytest.raises(SettingsError, match="there is no password") as raised:
        Credentials.of(URL)
    assert "kept" not in str(raised.value)


def test_a_keyring_that_is_missing_locked_or_broken_is_as_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    monkeypatch.setattr(_account, "_from_keyring", ASK_KEYRING)

    def broken(*_: object) -> None:
        raise keyring.errors.KeyringLocked("locked")

    monkeypatch.setattr(keyring, "get_password", broken)
    monkeypatch.setattr(keyring, "get_credential", broken)
    assert Credentials.of(URL) == Credentials()
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert Credentials.of(URL) == Credentials()


def test_pull_says_all_that_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Say what to pull"):
        pull("http://127.0.0.1:1", tmp_path / "out")
    with pytest.raises(SettingsError) as raised:
        pull("http://127.0.0.1:1", tmp_path / "out", study="../x", modality="c t", date="2020-01-01")
    assert all(name in str(raised.value) for name in ("--study", "--modality", "--date"))
    assert not (tmp_path / "out").exists()


def test_push_refuses_what_is_not_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = series(tmp_path / "made")
    dataset = pydicom.dcmread(files[1])
    for value in (None, "NO", ""):
        if value is None:
            del dataset.SyntheticData
        else:
            dataset.SyntheticData = value
        dataset.save_as(files[1])
        monkeypatch.setattr(Web, "store", lambda *_: pytest.fail("something was sent"))
        monkeypatch.setattr(Storage, "__enter__", lambda *_: pytest.fail("a connection was made"))
        for target in ("http://127.0.0.1:1/dicom-web", "X@127.0.0.1:1"):
            with pytest.raises(DataError, match=r"Nothing was sent: 1 of[\s\S]*0008,001C"):
                push(tmp_path / "made", target)
    assert not (tmp_path / "made" / "push.csv").exists()


def test_a_file_that_loses_its_mark_on_the_way_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = series(tmp_path / "made", slices=2)

    def present(*_: object) -> set[str]:
        for file in files:
            dataset = pydicom.dcmread(file)
            dataset.SyntheticData = "NO"
            dataset.save_as(file)
        return set()

    monkeypatch.setattr(Web, "present", present)
    monkeypatch.setattr(Web, "store", lambda *_: pytest.fail("something was sent"))
    assert push(tmp_path / "made", "http://127.0.0.1:1/dicom-web").failed == 2


def test_push_needs_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="--format dicom"):
            push(path, "http://127.0.0.1:1")
    (tmp_path / "cut.dcm").write_bytes(series(tmp_path / "made")[0].read_bytes()[:140])
    with pytest.raises(DataError, match="Nothing was sent"):
        push(tmp_path, "http://127.0.0.1:1")


def test_hostile_answers_stay_inside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers with paths instead of UIDs, with other series than asked for, and with another instance."""

    def item(**values: str) -> dict[str, Any]:
        tags = {"study": "0020000D", "series": "0020000E", "modality": "00080060", "instance": "00080018"}
        return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}

    class Hostile:
        def search_for_studies(self, **_: object) -> list[Any]:
            return [item(study="1.2"), item(study="../../evil"), {"0020000D": "nonsense"}, "nonsense"]

        def search_for_series(self, study: str, **_: object) -> list[Any]:
            return [item(series="1.2.3", modality="CT"), item(series="1.2.4", modality="MR"), item(series="/etc")]

        def search_for_instances(self, *_: object, **__: object) -> list[Any]:
            return [item(instance="1.2.3.4"), item(instance="..")]

        def retrieve_instance(self, *_: object) -> Any:
            return pydicom.dcmread(series(tmp_path / "other", slices=2)[0])

    web = Web("http://127.0.0.1:1", Credentials())
    web._client = Hostile()
    found = web.find(modality="CT")
    assert [one for one in found if isinstance(one, Found)] == [Found(study="1.2", series="1.2.3", uid="1.2.3.4")]
    assert len([one for one in found if isinstance(one, str)]) == 4
    monkeypatch.setattr("radsynth.verbs.pull.Web", lambda *_: web)
    done = pull("http://127.0.0.1:1", tmp_path / "out", modality="CT")
    assert (done.found, done.pulled, done.failed) == (5, 0, 5)
    assert "another instance" in " ".join(line["reason"] for line in lines(done.table))
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["pull.csv"]


def test_every_page_of_an_answer_is_read() -> None:
    """A server that gives two at once, whatever is asked for, and repeats one of them."""
    uids = [f"1.2.3.{number}" for number in range(7)]

    class Capped:
        def search_for_instances(self, *_: object, offset: int, **__: object) -> list[Any]:
            page = uids[max(0, offset - 1) : offset + 2]
            return [{"00080018": {"Value": [uid]}} for uid in page] if offset < len(uids) else []

    web = Web("http://127.0.0.1:1", Credentials())
    web._client = Capped()
    assert web.present("1.2", "1.2.3") == set(uids)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtra, match=r"radsynth\[pacs\]"):
        Web("http://127.0.0.1:1", Credentials())
    with pytest.raises(MissingExtra, match=r"radsynth\[pacs\]"):
        Storage("X@127.0.0.1:1", "RADSYNTH", [])


def test_a_pacs_that_is_down_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(PacsError, match="does not answer"):
        pull(f"http://127.0.0.1:{port}/dicom-web", tmp_path / "out", modality="CT")
    series(tmp_path / "made", slices=2)
    for target in (f"http://127.0.0.1:{port}/dicom-web", f"X@127.0.0.1:{port}"):
        for tls in (False, True):
            with pytest.raises(PacsError, match="does not answer"):
                push(tmp_path / "made", target, tls=tls)
    result = CliRunner().invoke(app, ["pull", f"http://127.0.0.1:{port}", str(tmp_path / "out"), "--modality", "CT"])
    assert isinstance(result.exception, PacsError) and result.exception.exit_code == 5


class Answers(http.server.BaseHTTPRequestHandler):
    """A DICOMweb service that holds nothing, is busy at first, and refuses the second instance that it is sent."""

    uids: ClassVar[list[str]] = []
    calls: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.answer(200, b"[]")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (uid,) = [uid for uid in self.uids if uid.encode() in body]
        self.calls.append(uid)
        if self.calls.count(self.uids[0]) == 1 and uid == self.uids[0]:
            self.answer(503)
        else:
            self.answer(400 if uid == self.uids[1] else 200, b"{}")

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_busy_pacs_is_asked_again_and_one_refused_instance_costs_itself_alone(tmp_path: Path) -> None:
    files = sorted(series(tmp_path / "made"))
    Answers.uids[:] = [str(pydicom.dcmread(file).SOPInstanceUID) for file in files]
    Answers.calls.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        done = push(tmp_path / "made", f"http://127.0.0.1:{server.server_address[1]}/dicom-web")
        server.shutdown()
    assert (done.pushed, done.failed) == (2, 1) and "HTTP 400" in done.failures[0]["reason"]
    assert Answers.calls == [Answers.uids[0], *Answers.uids], "busy is tried again, a refusal is not"
    assert {line["instance"]: line["result"] for line in lines(done.table)} == dict(
        zip(Answers.uids, ("pushed", "failed", "pushed"), strict=True)
    )


def test_the_table_keeps_the_last_result_of_each_place_and_is_no_formula(tmp_path: Path) -> None:
    def line(where: str, result: str, reason: str = "") -> Transfer:
        return Transfer(where=where, study="1", series="2", instance="3", file="a", result=result, reason=reason)

    with Table(tmp_path / "push.csv") as table:
        table.add(line("one", "failed", "=cmd()\nline"))
        table.add(line("two", "failed"))
    assert lines(tmp_path / "push.csv")[0]["reason"] == "'=cmd() line"
    with Table(tmp_path / "push.csv") as table:
        table.add(line("one", "pushed"))
        assert [table.result(*key) for key in (("one", "3"), ("two", "3"), ("one", "4"))] == ["pushed", "failed", ""]
        assert (table.count("pushed"), table.count("failed")) == (1, 0)
    assert len(lines(tmp_path / "push.csv")) == 2
    (tmp_path / "push.csv").write_text("mine\n1\n")
    with pytest.raises(FolderError, match="Move it away"):
        Table(tmp_path / "push.csv")


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


@pytest.mark.pacs
def test_push_and_pull_twice_by_dicomweb(orthanc: Orthanc, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [*series(tmp_path / "made" / "one"), *series(tmp_path / "made" / "two", seed=1)]
    for pushed, present in ((6, 0), (0, 6)):
        done = push(tmp_path / "made", orthanc.web)
        assert (done.found, done.pushed, done.present, done.failed) == (6, pushed, present, 0)
    first = pydicom.dcmread(files[0])
    for pulled, present in ((3, 0), (0, 3)):
        got = pull(orthanc.web, tmp_path / "out", series=first.SeriesInstanceUID)
        assert (got.found, got.pulled, got.present, got.failed) == (3, pulled, present, 0)
    for file in files[:3]:
        sent = pydicom.dcmread(file)
        back = tmp_path / "out" / sent.StudyInstanceUID / sent.SeriesInstanceUID / f"{sent.SOPInstanceUID}.dcm"
        received = pydicom.dcmread(back)
        np.testing.assert_array_equal(received.pixel_array, sent.pixel_array)
        assert received.SyntheticData == "YES" and received.ImagePositionPatient == sent.ImagePositionPatient
    assert [line["result"] for line in lines(got.table)] == ["present"] * 3
    back.unlink()
    assert pull(orthanc.web, tmp_path / "out", study=first.StudyInstanceUID, modality="CT").pulled >= 1
    with pytest.raises(DataError, match="no instance that matches"):
        pull(orthanc.web, tmp_path / "none", modality="MR")
    captured = capfd.readouterr()
    assert PASSWORD not in captured.out + captured.err
    assert all(PASSWORD not in path.read_text() for path in (done.table, got.table))


@pytest.mark.pacs
def test_dates_and_wrong_passwords(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path / "made")
    for file in (tmp_path / "made").rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        dataset.StudyDate = "20200615"
        dataset.save_as(file)
    push(tmp_path / "made", orthanc.web)
    assert pull(orthanc.web, tmp_path / "a", date="20200101-20201231").pulled == 3
    assert pull(orthanc.web, tmp_path / "b", date="20200615").pulled == 3
    with pytest.raises(DataError, match="no instance"):
        pull(orthanc.web, tmp_path / "c", date="20210101-")
    with pytest.raises(PacsError, match="cannot be searched"):
        pull(orthanc.web.replace("dicom-web", "wrong"), tmp_path / "c", modality="CT")
    monkeypatch.setenv(pacs.PASSWORD, "wr0ng-s3cret")
    with pytest.raises(PacsError, match="HTTP 401") as raised:
        pull(orthanc.web, tmp_path / "c", modality="CT")
    assert "wr0ng-s3cret" not in str(raised.value)
    with pytest.raises(PacsError, match="HTTP 401"):
        push(tmp_path / "made", orthanc.web)


@pytest.mark.pacs
def test_push_by_c_store_and_wrong_titles(orthanc: Orthanc, tmp_path: Path) -> None:
    files = series(tmp_path / "made")
    target = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    for pushed, present in ((3, 0), (0, 3)):
        done = push(tmp_path / "made", target)
        assert (done.pushed, done.present, done.failed) == (pushed, present, 0)
    got = pull(orthanc.web, tmp_path / "out", series=pydicom.dcmread(files[0]).SeriesInstanceUID)
    assert got.pulled == 3
    (tmp_path / "made" / "push.csv").unlink()
    with pytest.raises(PacsError, match="is not called WRONG"):
        push(tmp_path / "made", f"WRONG@127.0.0.1:{orthanc.dicom}")
    with pytest.raises(PacsError, match=r"AE\s+title"):
        push(tmp_path / "made", target, calling="STRANGER")


@pytest.mark.pacs
def test_a_refused_instance_costs_itself_alone(orthanc: Orthanc, tmp_path: Path) -> None:
    files = series(tmp_path / "made")
    dataset = pydicom.dcmread(files[1])
    dataset.PatientID = ""
    del dataset.PatientID, dataset.SOPClassUID
    dataset.SOPClassUID = "1.2.3.4"
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    dataset.save_as(files[1])
    done = push(tmp_path / "made", f"ORTHANC@127.0.0.1:{orthanc.dicom}")
    assert (done.pushed, done.failed) == (2, 1) and len(done.failures) == 1
    assert [line["result"] for line in lines(done.table)].count("failed") == 1


@pytest.mark.pacs
def test_a_pacs_that_stops_in_between_is_gone_on_with(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "made")
    store, sent = Web.store, 0

    def stop_after_one(self: Web, dataset: Any) -> None:
        nonlocal sent
        if sent == 1:
            orthanc.stop()
        store(self, dataset)
        sent += 1

    with monkeypatch.context() as patch:
        patch.setattr(Web, "store", stop_after_one)
        with pytest.raises(PacsError, match="does not answer"):
            push(tmp_path / "made", orthanc.web)
    assert [line["result"] for line in lines(tmp_path / "made" / "push.csv")] == ["pushed"]
    orthanc.start()
    done = push(tmp_path / "made", orthanc.web)
    assert (done.pushed, done.present) == (2, 1)


@pytest.mark.pacs
def test_pull_train_generate_push_and_read_back(orthanc: Orthanc, tmp_path: Path) -> None:
    import radsynth

    for number in range(8):
        series(tmp_path / "made" / str(number), seed=number)
    push(tmp_path / "made", orthanc.web)
    assert pull(orthanc.web, tmp_path / "scans", modality="CT").pulled == 24
    given = {"data": {"kind": "folder", "path": str(tmp_path / "scans")}, "prepare": {"size": [16, 16]}}
    words = ("model.kind=dcgan", "model.width=8", "train.batch=8", "train.images=64", "train.previews=0")
    settings = resolve(given, overrides=words)
    prepared = radsynth.prepare(settings.section("data"), tmp_path / "data", settings=settings, workers=1)
    radsynth.train(prepared.folder, tmp_path / "run", settings=settings)
    radsynth.generate(tmp_path / "run", tmp_path / "synthetic", count=3)
    done = push(tmp_path / "synthetic", f"ORTHANC@127.0.0.1:{orthanc.dicom}")
    assert (done.pushed, done.failed) == (3, 0)
    sent = [pydicom.dcmread(path) for path in sorted((tmp_path / "synthetic").rglob("*.dcm"))]
    known = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "scans").rglob("*.dcm")}
    for dataset in sent:
        pull(orthanc.web, tmp_path / "back", study=dataset.StudyInstanceUID)
        name = f"{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}.dcm"
        back = pydicom.dcmread(tmp_path / "back" / name)
        np.testing.assert_array_equal(back.pixel_array, dataset.pixel_array)
        assert back.SyntheticData == "YES" and back.Modality == "CT" and back.SOPInstanceUID not in known


@pytest.mark.pacs
def test_the_command_line_tells_of_failures_by_its_exit_code(orthanc: Orthanc, tmp_path: Path) -> None:
    series(tmp_path / "made")
    runner = CliRunner()
    result = runner.invoke(app, ["push", str(tmp_path / "made"), orthanc.web, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["pushed"] == 3
    result = runner.invoke(app, ["pull", orthanc.web, str(tmp_path / "out"), "--modality", "CT", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["pulled"] == 3
    assert os.listdir(tmp_path / "out")


@pytest.fixture
def encrypted(tmp_path: Path) -> dict[str, Any]:
    """Configuration of an Orthanc that takes C-STORE by TLS alone, from those who show a certificate.

    HTTPS is left out: Debian 12's civetweb closes every connection. tests/test_pacs_tls.py has it.
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


@pytest.mark.pacs
@pytest.mark.parametrize("orthanc", ["encrypted"], indirect=True)
def test_push_by_c_store_with_tls(orthanc: Orthanc, tmp_path: Path) -> None:
    series(tmp_path / "one")
    target, ca = f"ORTHANC@127.0.0.1:{orthanc.dicom}", str(tmp_path / "ca.pem")
    with pytest.raises(PacsError, match="Does it want --tls"):
        push(tmp_path / "one", target)
    with pytest.raises(PacsError, match="no trusted connection"):
        push(tmp_path / "one", target, tls=True)
    with pytest.raises(PacsError, match="--certificate FILE"):
        push(tmp_path / "one", target, ca=ca)
    assert push(tmp_path / "one", target, ca=ca, certificate=str(tmp_path / "client.pem")).pushed == 3
    assert pull(orthanc.web, tmp_path / "out", modality="CT").pulled == 3


@pytest.mark.pacs
def test_c_store_that_breaks_in_between_is_gone_on_with(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "made")
    target = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    store, sent = Storage.store, 0

    def stop_after_one(self: Storage, dataset: Any) -> None:
        nonlocal sent
        if sent == 1:
            orthanc.stop(signal.SIGKILL)
        store(self, dataset)
        sent += 1

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "store", stop_after_one)
        with pytest.raises(PacsError, match="goes on from here"):
            push(tmp_path / "made", target)
    assert [line["result"] for line in lines(tmp_path / "made" / "push.csv")] == ["pushed"]
    orthanc.start()
    done = push(tmp_path / "made", target)
    assert (done.pushed, done.present) == (2, 1)


def synthetic(kind: str) -> Image:
    """An image of every storage class that is written, with a place in the patient where it has one."""
    rng, affine = np.random.default_rng(0), np.eye(4)
    affine[:3, :3] = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]) * [0.5, 0.7, 2.5]  # leaning in its plane
    affine[:3, 3] = (-12.25, 40.5, -300)
    deep = rng.integers(0, 4096, (1, 5, 14, 12)).astype(np.uint16)
    placed = {"spacing": (2.5, 0.7, 0.5), "affine": affine, "bits": 12}
    return {
        "CT": Image(pixels=deep.astype(np.int16) - 1024, modality="CT", units="HU", **placed),
        "MR": Image(pixels=deep, modality="MR", **placed),
        "SC": Image(pixels=deep, modality="OT", **placed),
        "DX": Image(pixels=deep[:, 0], modality="DX", bits=12, spacing=(0.2, 0.1)),
        "CR": Image(pixels=deep[:, 0], modality="CR", bits=12, spacing=(0.2, 0.1)),
        "US": Image(pixels=rng.integers(0, 256, (3, 14, 12)).astype(np.uint8), modality="US", channels=RGB),
    }[kind]


@pytest.mark.pacs
def test_orthanc_reads_the_same_values_at_the_same_places(orthanc: Orthanc, tmp_path: Path) -> None:
    """Orthanc's own decoder and its own order of slices, asked by its REST interface."""
    for index, kind in enumerate(("CT", "MR", "SC", "DX", "CR", "US")):
        image = synthetic(kind)
        origin = Provenance(model="example", weights="00", seed=7, index=index)
        files = write(image, tmp_path / "made" / f"{kind}.dcm", provenance=origin, format="dicom")
        push(tmp_path / "made", orthanc.web)
        uid = pydicom.dcmread(files[0]).SeriesInstanceUID
        [series_id] = [found["ID"] for found in ask(orthanc, "tools/lookup", uid)]
        order = [path.split("/")[2] for path in ask(orthanc, f"series/{series_id}/ordered-slices").get("Dicom", [])]
        order = order or ask(orthanc, f"series/{series_id}")["Instances"]
        assert len(order) == len(files), kind
        for number, instance in enumerate(order):
            check_instance(orthanc, instance, image, number)


def check_instance(orthanc: Orthanc, instance: str, image: Image, number: int) -> None:
    """Slice `number` of the image as Orthanc sees it."""
    values = np.load(BytesIO(asked(orthanc, f"instances/{instance}/numpy?rescale=1")))[0]
    mine = image.pixels if image.pixels.ndim == 3 else image.pixels[:, number]
    assert np.array_equal(np.moveaxis(values, -1, 0), mine), image.modality
    tags = ask(orthanc, f"instances/{instance}/simplified-tags")
    assert tags["Modality"] == image.modality
    assert asked(orthanc, f"instances/{instance}/content/0008-001c").strip() == b"YES"  # newer than its dictionary
    if image.spacing is not None:
        assert numbers(tags["PixelSpacing"]) == pytest.approx(image.spacing[-2:])
    if image.affine is not None:
        place = image.affine @ [0, 0, number, 1]
        assert numbers(tags["ImagePositionPatient"]) == pytest.approx(place[:3])
        across, down = image.affine[:3, 0] / 0.5, image.affine[:3, 1] / 0.7
        assert numbers(tags["ImageOrientationPatient"]) == pytest.approx([*across, *down])


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]


def asked(orthanc: Orthanc, path: str, body: str = "") -> bytes:
    """What Orthanc's own interface answers; with a body by POST."""
    request = urllib.request.Request(f"http://127.0.0.1:{orthanc.port}/{path}", data=body.encode() or None)
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def ask(orthanc: Orthanc, path: str, body: str = "") -> Any:
    return json.loads(asked(orthanc, path, body))
