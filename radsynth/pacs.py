"""PACS, as a client: DICOMweb (QIDO-RS, WADO-RS, STOW-RS) by dicomweb-client and C-STORE by pynetdicom (extra `pacs`).

Passwords and tokens come from the environment alone. What a server says is not trusted: UIDs are checked before use.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from radsynth.errors import DataError, MissingExtra, PacsError, RejectedFile, SettingsError

T = TypeVar("T")

USER, PASSWORD, TOKEN = "RADSYNTH_PACS_USER", "RADSYNTH_PACS_PASSWORD", "RADSYNTH_PACS_TOKEN"
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
ADDRESS = re.compile(r"(?P<title>[^@\\\s][^@\\]{0,15})@(?P<host>\[[0-9a-fA-F:]+\]|[^:@/\s]+):(?P<port>\d{1,5})")
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which the same request may work."""

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries; one more try than pauses."""

TIMEOUT = (10, 120)
"""Seconds to connect, and between two bytes of an answer."""

PAGE = 1000
"""Matches asked for at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One instance of a PACS. Its UIDs are digits and dots, and so are safe as names of files."""

    study: str
    series: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the environment holds: a token, or a user and a password, or nothing. Never shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> Credentials:
        """From RADSYNTH_PACS_TOKEN, or RADSYNTH_PACS_USER and RADSYNTH_PACS_PASSWORD. SettingsError for half a pair."""
        user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
        if bool(user) != bool(password):
            raise SettingsError(f"Set both {USER} and {PASSWORD}, or neither; one of them is empty.")
        if any(ord(sign) < 32 for sign in user + password + token):
            raise SettingsError(f"{USER}, {PASSWORD} or {TOKEN} holds a line break or another control character.")
        return cls(user=user, password=password, token=token)


def checked_uid(text: object) -> str:
    """The UID; RejectedFile unless it is one (up to 64 digits and dots), so that it may name a file."""
    uid = str(text or "")
    if len(uid) > 64 or not UID.fullmatch(uid):
        raise RejectedFile(f"{uid[:70]!r} is no DICOM UID")
    return uid


def is_url(target: str) -> bool:
    """A DICOMweb address, not a C-STORE one."""
    return "://" in target


def checked_url(url: str) -> str:
    """The root of a DICOMweb service. SettingsError for anything else, and for a password in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SettingsError("The address of the PACS is no URL. Give it as https://host:port/dicom-web") from None
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"The address holds a user or password, which others can see. Take it out, and set {USER} and {PASSWORD}."
        )
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise SettingsError(f"{url} is no DICOMweb address. Give it as https://host:port/dicom-web")
    return url.rstrip("/")


def checked_address(text: str) -> tuple[str, str, int]:
    """(AE title, host, port) of TITLE@host:port; SettingsError for anything else."""
    match = ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise SettingsError(
            f"{text!r} is no address of a PACS. Give https://host:port/dicom-web for DICOMweb or TITLE@host:port for "
            "C-STORE."
        )
    return match["title"].strip(), match["host"].strip("[]"), int(match["port"])


class Web:
    """A DICOMweb service. Its methods raise PacsError when the service is down or refuses us, whatever we would ask."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self.url = checked_url(url)
        if importlib.util.find_spec("dicomweb_client") is None:
            raise MissingExtra("DICOMweb", "pacs")
        import requests
        from dicomweb_client.web import DICOMwebClient

        session = requests.Session()
        if credentials.token:
            session.auth = _Bearer(credentials.token)
        elif credentials.user:
            session.auth = (credentials.user, credentials.password)
        self._client: Any = DICOMwebClient(self.url, session=session, timeout=TIMEOUT, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # `_ask` repeats, also when there is no answer at all

    def find(self, *, study: str = "", series: str = "", modality: str = "", date: str = "") -> list[Found | str]:
        """Every instance that matches, sorted by the server; a text says what in its answer cannot be used.

        date: YYYYMMDD, or a range YYYYMMDD-YYYYMMDD, either end of which may be missing.
        """
        filters = {"StudyInstanceUID": study, "StudyDate": date, "ModalitiesInStudy": modality}
        found: list[Found | str] = []
        for own in self._matches(self._client.search_for_studies, filters, "StudyInstanceUID", found):
            wanted = {"SeriesInstanceUID": series, "Modality": modality}
            for part in self._matches(self._client.search_for_series, wanted, "SeriesInstanceUID", found, own):
                ask = self._client.search_for_instances
                uids = self._matches(ask, {}, "SOPInstanceUID", found, own, part)
                found += [Found(study=own, series=part, uid=uid) for uid in uids]
        return found

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
            raise RejectedFile(f"what the PACS sent cannot be written as DICOM: {_short(error)}") from None
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

        for pause in (*PAUSES, None):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of servers and files that bend the standard
                    return request()
            except requests.exceptions.HTTPError as error:
                status = error.response.status_code if error.response is not None else 0
                if status not in BUSY or pause is None:
                    raise self._refusal(status) from None
            except requests.exceptions.SSLError as error:
                raise PacsError(f"{self.url}: its certificate cannot be trusted: {_short(error)}") from None
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
                if pause is None:
                    raise PacsError(
                        f"{self.url} does not answer ({len(PAUSES) + 1} tries). Is the PACS running, and the address "
                        "right? The same command goes on from here."
                    ) from None
            except Exception as error:
                raise RejectedFile(f"its answer cannot be used: {_short(error)}") from None
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _refusal(self, status: int) -> PacsError | RejectedFile:
        if status in (401, 403):
            return PacsError(
                f"{self.url} refuses us (HTTP {status}). Set {USER} and {PASSWORD}, or {TOKEN}, to an account that may "
                "do this."
            )
        if status in (502, 503, 504):
            return PacsError(f"{self.url} is not available (HTTP {status}). The same command goes on from here.")
        return RejectedFile(f"the PACS answered HTTP {status}")


EXACT = ("StudyInstanceUID", "SeriesInstanceUID", "Modality")
"""Filters whose answers are compared again here."""


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


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


class Storage:
    """A C-STORE service, in a `with` statement. kinds: (SOP class, transfer syntax) of what will be sent.

    PacsError when it is down, does not know the titles, or closes the connection.
    """

    MAX_CONTEXTS = 128
    """Of one association, by the standard."""

    def __init__(self, address: str, calling: str, kinds: Sequence[tuple[str, str]]) -> None:
        self.address = address
        self._title, self._host, self._port = checked_address(address)
        self._kinds = tuple(dict.fromkeys(kinds))
        if not 0 < len(calling.strip()) <= 16 or not calling.isascii() or "\\" in calling or not calling.isprintable():
            raise SettingsError(f"--calling {calling!r} is no AE title: 1 to 16 letters, digits or signs")
        if len(self._kinds) > self.MAX_CONTEXTS:
            raise DataError(f"There are {len(self._kinds)} kinds of files; one connection takes {self.MAX_CONTEXTS}.")
        if importlib.util.find_spec("pynetdicom") is None:
            raise MissingExtra("C-STORE", "pacs")
        from pynetdicom import AE

        self._calling = calling.strip()
        self._entity: Any = AE(ae_title=self._calling)
        self._entity.acse_timeout, self._entity.connection_timeout = 30, TIMEOUT[0]
        self._entity.dimse_timeout = self._entity.network_timeout = TIMEOUT[1]
        self._link: Any = None

    def __enter__(self) -> Storage:
        self._connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._link is not None and self._link.is_established:
            (self._link.release if kind is None else self._link.abort)()

    def store(self, dataset: Any) -> None:
        """Send one instance. RejectedFile with the reason when the PACS does not take it."""
        for pause in (*PAUSES, None):
            if not self._link.is_established:
                self._connect()
            try:
                status = self._link.send_c_store(dataset)
            except (ValueError, AttributeError) as error:
                raise RejectedFile(f"it cannot be sent to this PACS: {_short(error)}") from None
            except RuntimeError:
                status = {}  # the connection broke
            if status:
                break
            if pause is None:
                raise PacsError(
                    f"{self.address} took the connection and closed it without an answer. It may not know the AE title "
                    f"{self._calling} (--calling), or have stopped. The same command goes on from here."
                )
            self._link.abort()
            time.sleep(pause)
        if status.Status != 0 and status.Status & 0xF000 != 0xB000:
            comment = str(status.get("ErrorComment", "")).strip()
            raise RejectedFile(f"the PACS answered 0x{status.Status:04X} {comment}".strip())

    def _connect(self) -> None:
        from pynetdicom.presentation import build_context

        contexts = [build_context(kind, syntax) for kind, syntax in self._kinds]
        for pause in (*PAUSES, None):
            self._link = self._entity.associate(self._host, self._port, contexts=contexts, ae_title=self._title)
            if self._link.is_established:
                return
            if self._link.is_rejected:
                raise PacsError(self._rejection())
            if pause is not None:
                time.sleep(pause)
        raise PacsError(
            f"{self.address} does not answer ({len(PAUSES) + 1} tries). Is the PACS running, and the address right? "
            "The same command goes on from here."
        )

    def _rejection(self) -> str:
        """Why, by the codes of DICOM PS3.8 9.3.4: 3 an unknown calling title, 7 an unknown called one."""
        answer = self._link.acceptor.primitive
        code = getattr(answer, "diagnostic", None)
        if code == 7:
            return f"{self.address}: the PACS is not called {self._title}. Give its own AE title before the @."
        if code == 3:
            return f"{self.address} does not know the AE title {self._calling}. Give one that it knows with --calling."
        return f"{self.address} rejects the connection: {getattr(answer, 'reason_str', code)}"
