"""UIDs, addresses and URLs from outside, checked before anything is done with them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from radsynth.errors import RejectedFile, SettingsError
from radsynth.pacs._account import PASSWORD, USER

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
ADDRESS = re.compile(r"(?P<title>[^@\\\s][^@\\]{0,15})@(?P<host>\[[0-9a-fA-F:]+\]|[^:@/\s]+):(?P<port>\d{1,5})")


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
