"""Pull and push without a server, or against one that lies, is busy or is down."""

from __future__ import annotations

import http.server
import socket
import threading
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest
from typer.testing import CliRunner

from radsynth.cli import app
from radsynth.errors import DataError, FolderError, MissingExtra, PacsError, SettingsError
from radsynth.pacs import (
    Credentials,
    Found,
    Storage,
    Web,
)
from radsynth.verbs._transfers import Table, Transfer
from radsynth.verbs.pull import pull
from radsynth.verbs.push import push
from tests.pacs.examples import DicomWeb, series
from tests.tables import lines

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")


def test_pull_says_all_that_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Say what to pull"):
        pull("http://127.0.0.1:1", tmp_path / "out")
    with pytest.raises(SettingsError) as raised:
        pull("http://127.0.0.1:1", tmp_path / "out", study="../x", modality="c t", date="2020-01-01")
    assert all(name in str(raised.value) for name in ("--study", "--modality", "--date"))
    assert not (tmp_path / "out").exists()


def test_pull_refuses_a_folder_that_cannot_be_written_before_it_searches(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file/out cannot be written: .*file is a file"):
        pull("http://127.0.0.1:1", tmp_path / "file" / "out", modality="CT")


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


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/dicom-web", "X@127.0.0.1:1"])
def test_nothing_is_sent_that_the_table_could_not_note(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       ) -> None:
    """Images in a folder for reading alone were sent for ten seconds, and nobody knew which."""
    asked: list[str] = []

    def refused(*_: object) -> None:
        raise FolderError("push.csv could not be written")

    def present(*_: object) -> set[str]:
        asked.append("web")
        return set()

    series(tmp_path / "made", slices=2)
    monkeypatch.setattr("radsynth.verbs._transfers.write_atomically", refused)
    monkeypatch.setattr(Web, "present", present)
    monkeypatch.setattr(Storage, "__enter__", lambda _: asked.append("storage"))
    with pytest.raises(FolderError, match=r"push\.csv could not be written"):
        push(tmp_path / "made", target)
    assert not asked


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


@pytest.mark.parametrize("answer", ["the study", "no study", "another series", "a refusal", "nothing"])
def test_a_series_is_not_sought_in_every_study_if_the_server_knows_where_it_is(
    answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    class Server:
        def search_for_studies(self, search_filters: dict[str, str], offset: int, **_: object) -> list[Any]:
            asked.append(search_filters.get("StudyInstanceUID", "all"))
            studies = ["1.1", "1.2"] if asked[-1] == "all" else [asked[-1]]
            return [] if offset else [{"0020000D": {"Value": [study]}} for study in studies]

        def search_for_series(self, study: str = "", offset: int = 0, **_: object) -> list[Any]:
            known = [{"0020000D": {"Value": [own]}, "0020000E": {"Value": [f"{own}.7"]}} for own in ("1.1", "1.2")]
            if study:
                return [] if offset else [one for one in known if one["0020000D"]["Value"] == [study]]
            if answer == "a refusal":
                raise ValueError("not supported")
            if answer == "no study":
                del known[1]["0020000D"]
            return {"nothing": [], "another series": known[:1]}.get(answer, known)

        def search_for_instances(self, study: str, series: str, offset: int, **_: object) -> list[Any]:
            return [] if offset else [{"00080018": {"Value": [f"{series}.1"]}}]

    web = Web("http://127.0.0.1:1", Credentials())
    web._client = Server()
    there = Found(study="1.2", series="1.2.7", uid="1.2.7.1")
    assert web.find(series="1.2.7") == ([] if answer == "nothing" else [there])
    assert set(asked) == {"the study": {"1.2"}, "nothing": set()}.get(answer, {"all"})
    told = {"the study": "searching: 1 examination", "nothing": ""}.get(answer, "searching: 2 examinations")
    assert capsys.readouterr().err.split(" in ")[0] == told  # a year of a hospital takes minutes


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


class Answers(DicomWeb):
    """A DICOMweb service that holds nothing, is busy at first, and refuses the second instance that it is sent."""

    uids: ClassVar[list[str]] = []
    calls: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        (uid,) = [uid for uid in self.uids if uid.encode() in body]
        self.calls.append(uid)
        if self.calls.count(self.uids[0]) == 1 and uid == self.uids[0]:
            self.answer(503)
        else:
            self.answer(400 if uid == self.uids[1] else 200, b"{}")


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
        assert {"pushed": 1, "failed": 0}.items() <= table.outcome("pushed").items()
    assert len(lines(tmp_path / "push.csv")) == 2
    (tmp_path / "push.csv").write_text("mine\n1\n")
    with pytest.raises(FolderError, match="Move it away"):
        Table(tmp_path / "push.csv")
