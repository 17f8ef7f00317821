"""Pulls images from a PACS by DICOMweb into a folder. The same command again goes on where it stopped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from radsynth.errors import DataError, FolderError, PacsError, RejectedFile, SettingsError
from radsynth.files import check_writable, write_atomically
from radsynth.pacs import Credentials, Found, Trust, Web, checked_uid, checked_url
from radsynth.progress import track
from radsynth.verbs._transfers import Table, Transfer

__all__ = ["Pulled", "pull"]

TABLE = "pull.csv"
DATE = re.compile(r"\d{8}|\d{8}-(\d{8})?|-\d{8}")
MODALITY = re.compile(r"[A-Z0-9_]{1,16}")


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """How many instances were found, pulled, there before, and not given; `table` has a line for each."""

    folder: Path
    found: int
    pulled: int
    present: int
    failed: int
    table: Path
    failures: tuple[dict[str, str], ...] = ()


def pull(
    url: str,
    out: Path,
    *,
    study: str = "",
    series: str = "",
    modality: str = "",
    date: str = "",
    ca: str = "",
    certificate: str = "",
) -> Pulled:
    """Pull what matches into OUT/study/series/instance.dcm, and write OUT/pull.csv.

    url: the root of a DICOMweb service. study, series: UIDs; modality: CT, MR, ...; date: of the study, YYYYMMDD or
    YYYYMMDD-YYYYMMDD. At least one is needed. ca: PEM file of the authorities to trust, "" for the system's;
    certificate: PEM file with our own certificate and key. Passwords come from the environment or the keyring (see
    `radsynth.pacs`). The files are as the PACS has them, with patients' names. DataError when nothing matches;
    SettingsError, PacsError, MissingExtra.
    """
    _check(study, series, modality, date)
    trust = Trust(ca=ca, certificate=certificate)
    check_writable(Path(out))
    out, web = Path(out), Web(url, Credentials.of(checked_url(url)), trust)
    try:
        found = web.find(study=study, series=series, modality=modality, date=date)
    except RejectedFile as error:
        raise PacsError(
            f"{web.url} cannot be searched: {error}. Is it the root of a DICOMweb service, such as https://host/dicom-web?"
        ) from None
    if not found:
        raise DataError(f"{web.url} has no instance that matches. Check --study, --series, --modality and --date.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{out} cannot be made: {error.strerror}") from None
    with Table(out / TABLE) as table:
        for number, one in enumerate(track(found, len(found), "pulling", "instances")):
            if isinstance(one, Found):
                table.add(_pull_one(web, one, out))
            else:
                number_of = {"instance": f"answer {number}", "study": "", "series": "", "file": ""}
                table.add(Transfer(where=web.url, result="failed", reason=one, **number_of))
    return Pulled(folder=out, found=len(found), **table.outcome("pulled"))


def _check(study: str, series: str, modality: str, date: str) -> None:
    problems = []
    for name, uid in (("study", study), ("series", series)):
        try:
            _ = uid and checked_uid(uid)
        except RejectedFile as error:
            problems.append(f"--{name}: {error}")
    if modality and not MODALITY.fullmatch(modality):
        problems.append(f"--modality {modality!r} is no DICOM code, such as CT, MR, DX")
    if date and not DATE.fullmatch(date):
        problems.append(f"--date {date!r} is neither YYYYMMDD nor YYYYMMDD-YYYYMMDD")
    if not (study or series or modality or date):
        problems.append("Say what to pull: at least one of --study, --series, --modality, --date.")
    if problems:
        raise SettingsError("; ".join(problems))


def _pull_one(web: Web, wanted: Found, out: Path) -> Transfer:
    file = f"{wanted.study}/{wanted.series}/{wanted.uid}.dcm"
    result, reason = "present", ""
    if not (out / file).is_file():
        try:
            content = web.fetch(wanted)
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out / file, content)
            result = "pulled"
        except RejectedFile as error:
            result, reason = "failed", str(error)
        except OSError as error:
            raise FolderError(f"{out / file} cannot be written: {error.strerror}") from None
    return Transfer(
        where=web.url,
        study=wanted.study,
        series=wanted.series,
        instance=wanted.uid,
        file=file,
        result=result,
        reason=reason,
    )
