"""Pushes synthetic DICOM to a PACS by STOW-RS or C-STORE. The same command again goes on where it stopped.

Nothing is sent, to nobody, unless every file says that it is synthetic: Synthetic Data (0008,001C) is YES. What `apply`
made of a patient's image is synthetic in part, may show the patient (Patient Identity Removed is NO), and stays.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radsynth.errors import DataError, RejectedFile
from radsynth.pacs import Credentials, Storage, Trust, Web, checked_address, checked_uid, checked_url, is_url
from radsynth.progress import track
from radsynth.verbs._transfers import Table, Transfer

__all__ = ["Pushed", "push"]

TABLE = "push.csv"
CALLING = "RADSYNTH"
TAGS = (
    "SyntheticData", "PatientIdentityRemoved", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """How many instances there are, were pushed, were there before, and were refused; `table` has a line for each."""

    target: str
    found: int
    pushed: int
    present: int
    failed: int
    table: Path
    failures: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    kind: str
    syntax: str
    uid: str
    study: str
    series: str


def push(
    synthetic: Path, target: str, *, calling: str = CALLING, tls: bool = False, ca: str = "", certificate: str = ""
) -> Pushed:
    """Push every DICOM file below a folder, and write SYNTHETIC/push.csv.

    target: https://host:port/dicom-web (STOW-RS) or TITLE@host:port (C-STORE, with `calling` as our own AE title).
    tls: encrypt C-STORE; ca: PEM file of the authorities to trust, "" for the system's; certificate: PEM file with our
    own certificate and key. Either file asks for TLS, too.
    Instances that the PACS has (STOW-RS), or that the table says it took (C-STORE), are not sent again. DataError when
    a file is not marked synthetic; SettingsError, PacsError, MissingExtra.
    """
    synthetic = Path(synthetic)
    trust = Trust(ca=ca, certificate=certificate)
    web = Web(target, Credentials.of(checked_url(target)), trust) if is_url(target) else None
    if web is None:
        checked_address(target)
        trust.context()  # says what is wrong with the files before any image is looked at
    files = _marked_files(synthetic)
    folder = synthetic if synthetic.is_dir() else synthetic.parent
    where = web.url if web else target
    with Table(folder / TABLE) as table:
        if web is not None:
            _push_web(web, files, table, folder)
        else:
            _push_storage(target, calling, trust if tls or trust.given else None, files, table, folder)
    return Pushed(target=where, found=len(files), **table.outcome("pushed"))


def _push_web(web: Web, files: list[_File], table: Table, folder: Path) -> None:
    known: dict[tuple[str, str], set[str]] = {}
    for file in track(files, len(files), "pushing", "instances"):
        series = (file.study, file.series)
        if series not in known:
            known[series] = web.present(*series)
        if file.uid in known[series]:
            table.add(_line(web.url, file, folder, "present"))
        else:
            table.add(_send(web.store, web.url, file, folder))


def _push_storage(
    target: str, calling: str, trust: Trust | None, files: list[_File], table: Table, folder: Path
) -> None:
    rest = []
    for file in files:
        if table.result(target, file.uid) in ("pushed", "present"):
            table.add(_line(target, file, folder, "present"))
        else:
            rest.append(file)
    if rest:
        with Storage(target, calling, [(file.kind, file.syntax) for file in rest], trust) as storage:
            for file in track(rest, len(rest), "pushing", "instances"):
                table.add(_send(storage.store, target, file, folder))


def _marked_files(path: Path) -> list[_File]:
    """Every DICOM file, sorted. DataError unless there is one and all of them are marked."""
    if not path.exists():
        raise DataError(f"{path} does not exist. Give a folder that 'radsynth generate ... --format dicom' wrote.")
    names = [path] if path.is_file() else [Path(at) / name for at, _, own in os.walk(path) for name in own]
    files, wrong = [], []
    for name in sorted(names):
        try:
            file = _marked_file(name)
        except (RejectedFile, OSError) as error:
            wrong.append(f"\n  {os.path.relpath(name, path) if name != path else name.name}: {error}")
            continue
        if file is not None:
            files.append(file)
    if wrong:
        raise DataError(
            f"Nothing was sent: {len(wrong)} of the DICOM files in {path} must not leave, because they do not say that "
            f"they are synthetic, not acquired from a patient.{''.join(wrong[:5])}"
        )
    if not files:
        raise DataError(f"{path} holds no DICOM file. Make some with 'radsynth generate RUN OUT --format dicom'.")
    return files


def _marked_file(path: Path) -> _File | None:
    """What must be known of a DICOM file, None for any other file. RejectedFile unless it is marked synthetic."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
    dataset = _read(path, specific_tags=list(TAGS), stop_before_pixels=True)
    return _File(
        path=path,
        kind=checked_uid(dataset.get("SOPClassUID")),
        syntax=checked_uid(dataset.file_meta.get("TransferSyntaxUID")),
        uid=checked_uid(dataset.get("SOPInstanceUID")),
        study=checked_uid(dataset.get("StudyInstanceUID")),
        series=checked_uid(dataset.get("SeriesInstanceUID")),
    )


def _read(path: Path, **more: Any) -> Any:
    """A data set that says that it is synthetic; RejectedFile for any other."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, **more)
            marked = str(dataset.get("SyntheticData", "")).strip()
            derived = str(dataset.get("PatientIdentityRemoved", "")).strip() == "NO"
    except Exception as error:
        raise RejectedFile(f"it cannot be read: {' '.join(str(error).split())[:200]}") from None
    if marked != "YES":
        raise RejectedFile(f"Synthetic Data (0008,001C) is {marked or 'missing'}, not YES")
    if derived:
        raise RejectedFile("it was derived from an image and may show its patient (Patient Identity Removed is NO)")
    return dataset


def _send(store: Callable[[Any], None], where: str, file: _File, folder: Path) -> Transfer:
    try:
        store(_read(file.path))
    except RejectedFile as error:
        return _line(where, file, folder, "failed", str(error))
    return _line(where, file, folder, "pushed")


def _line(where: str, file: _File, folder: Path, result: str, reason: str = "") -> Transfer:
    return Transfer(
        where=where,
        study=file.study,
        series=file.series,
        instance=file.uid,
        file=os.path.relpath(file.path, folder).encode("utf-8", "backslashreplace").decode("utf-8"),
        result=result,
        reason=reason,
    )
