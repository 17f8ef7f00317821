"""DICOMweb: search (QIDO-RS), fetch (WADO-RS), store (STOW-RS), by dicomweb-client."""

from __future__ import annotations

import importlib.util
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from radsynth.errors import MissingExtra, PacsError, RejectedFile, SettingsError
from radsynth.pacs import _waiting
from radsynth.pacs._account import PASSWORD, TOKEN, USER, Credentials, Trust, service, short, untrusted
from radsynth.pacs._names import checked_uid, checked_url
from radsynth.progress import track

T = TypeVar("T")

BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same request may work."""

PAGE = 1000
"""Matches asked for at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One instance of a PACS. Its UIDs are digits and dots, and so are safe as names of files."""

    study: str
    series: str
    uid: str


class Web:
    """A DICOMweb service. Its methods raise PacsError when the service is down or refuses us, whatever we would ask."""

    def __init__(self, url: str, credentials: Credentials, trust: Trust | None = None) -> None:
        self.url, trust = checked_url(url), trust or Trust()
        if trust.given and not self.url.startswith("https:"):
            raise SettingsError(f"{self.url} is not encrypted: certificates (--ca, --certificate) are for https://")
        trust.context()  # says what is wrong with the files
        if importlib.util.find_spec("dicomweb_client") is None:
            raise MissingExtra("DICOMweb", "pacs")
        import requests
        from dicomweb_client.web import DICOMwebClient

        session: Any = requests.Session()
        if trust.ca:
            # requests prefers REQUESTS_CA_BUNDLE to the session's own file: what was asked for comes first
            session.merge_environment_settings = partial(_with_authority, session, trust.ca)
        session.cert = trust.certificate or None
        if credentials.token:
            session.auth = _Bearer(credentials.token)
        elif credentials.user:
            session.auth = (credentials.user, credentials.password)
        self._client: Any = DICOMwebClient(self.url, session=session, timeout=_waiting.TIMEOUT, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # `_ask` repeats, also when there is no answer at all

    def find(self, *, study: str = "", series: str = "", modality: str = "", date: str = "") -> list[Found | str]:
        """Every instance that matches, sorted by the server; a text says what in its answer cannot be used.

        date: YYYYMMDD, or a range YYYYMMDD-YYYYMMDD, either end of which may be missing.
        """
        found: list[Found | str] = []
        own_study = self._study_of(series) if series and not study else study
        if own_study is None:
            return found
        filters = {"StudyInstanceUID": own_study, "StudyDate": date, "ModalitiesInStudy": modality}
        studies = list(self._matches(self._client.search_for_studies, filters, "StudyInstanceUID", found))
        for own in track(studies, len(studies), "searching", "examinations"):
            wanted = {"SeriesInstanceUID": series, "Modality": modality}
            for part in self._matches(self._client.search_for_series, wanted, "SeriesInstanceUID", found, own):
                ask = self._client.search_for_instances
                uids = self._matches(ask, {}, "SOPInstanceUID", found, own, part)
                found += [Found(study=own, series=part, uid=uid) for uid in uids]
        return found

    def _study_of(self, series: str) -> str | None:
        """The study of a series, so that not every study of a hospital is asked for it. None: there is no such series;
        "": the server does not say."""
        ask = partial(self._client.search_for_series, search_filters={"SeriesInstanceUID": series}, limit=PAGE)
        try:
            answer = self._ask(ask)
        except RejectedFile:  # of servers that search series within a study alone
            return ""
        studies = {_value(item, STUDY) for item in answer if _value(item, SERIES) == series}
        return None if not answer else studies.pop() if len(studies) == 1 else ""

    def fetch(self, wanted: Found) -> bytes:
        """The DICOM file of an instance. RejectedFile when the server does not give it, or gives another."""
        import pydicom

        dataset = self._ask(lambda: self._client.retrieve_instance(wanted.study, wanted.series, wanted.uid))
        if str(dataset.get("SOPInstanceUID", "")) != wanted.uid:
            raise RejectedFile("the PACS sent another instance than the one that was asked for")
        dataset.preamble = b"\0" * 128  # a preamble may be a program
        buffer = io.BytesIO()
        try:
            pydicom.dcmwrite(buffer, dataset)
        except Exception as error:
            raise RejectedFile(f"what the PACS sent cannot be written as DICOM: {short(error)}") from None
        return buffer.getvalue()

    def present(self, study: str, series: str) -> set[str]:
        """UIDs of a series' instances that the PACS has; empty when it cannot be asked."""
        try:
            return set(self._matches(self._client.search_for_instances, {}, "SOPInstanceUID", [], study, series))
        except RejectedFile:
            return set()

    def store(self, dataset: Any) -> None:
        """Send one instance. RejectedFile with the reason when the PACS does not take it."""
        answer = self._ask(lambda: self._client.store_instances([dataset]))
        failed = answer.get("FailedSOPSequence") if answer is not None else None
        if failed:
            raise RejectedFile(f"the PACS did not keep it: failure reason {failed[0].get('FailureReason', 'unknown')}")

    def _matches(
        self, search: Callable[..., Any], filters: dict[str, str], key: str, faults: list[Found | str], *above: str
    ) -> Iterator[str]:
        """UIDs of one level, page by page until one brings nothing new. Those that are no UIDs go to `faults`.

        A server may give less than was asked for at once, and may ignore the offset.
        """
        import pydicom.datadict

        tags = {name: f"{pydicom.datadict.tag_for_keyword(name):08X}" for name in (key, *filters)}
        given = {name: value for name, value in filters.items() if value}
        seen: set[str] = set()
        offset, before = 0, -1
        while len(seen) > before:
            ask = partial(search, *above, search_filters=given, limit=PAGE, offset=offset)
            page, before = self._ask(ask), len(seen)
            offset += len(page)
            for item in page:
                uid = _value(item, tags[key])
                if uid in seen:
                    continue
                seen.add(uid)
                if any(_value(item, tags[name]) not in ("", given[name]) for name in given if name in EXACT):
                    continue  # the server ignored a filter
                try:
                    yield checked_uid(uid)
                except RejectedFile as error:
                    faults.append(f"the PACS answered with a {key} that is not used: {error}")

    def _ask(self, request: Callable[[], T]) -> T:
        """Try, and try again after a pause where that may help. PacsError or RejectedFile when it did not."""
        import requests

        for pause in (*_waiting.PAUSES, None):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of servers and files that bend the standard
                    return request()
            except requests.exceptions.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status not in BUSY or pause is None:
                    raise self._refusal(status) from None
            except requests.exceptions.SSLError as error:
                raise untrusted(self.url, short(error)) from None
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
                if pause is None:
                    raise PacsError(
                        f"{self.url} does not answer ({len(_waiting.PAUSES) + 1} tries). Is the PACS running, and the "
                        "address right? The same command goes on from here."
                    ) from None
            except Exception as error:
                raise RejectedFile(f"its answer cannot be used: {short(error)}") from None
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _refusal(self, status: int) -> PacsError | RejectedFile:
        if status in (401, 403):
            return PacsError(
                f"{self.url} refuses us (HTTP {status}). Set {USER} and {PASSWORD}, or {TOKEN}, or the keyring's entry "
                f"{service(self.url)}, to an account that may do this."
            )
        if status in (502, 503, 504):
            return PacsError(f"{self.url} is not available (HTTP {status}). The same command goes on from here.")
        return RejectedFile(f"the PACS answered HTTP {status}")


STUDY, SERIES = "0020000D", "0020000E"
"""Tags of Study Instance UID and Series Instance UID."""

EXACT = ("StudyInstanceUID", "SeriesInstanceUID", "Modality")
"""Filters whose answers are compared again here."""


def _with_authority(session: Any, ca: str, *arguments: Any) -> Any:
    return {**type(session).merge_environment_settings(session, *arguments), "verify": ca}


class _Bearer:
    """A token for every request; requests takes it away when it is led to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _value(item: Any, tag: str) -> str:
    """The first value of a DICOM JSON attribute as text, "" when there is none."""
    values = item.get(tag, {}).get("Value") if isinstance(item, dict) and isinstance(item.get(tag), dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""
