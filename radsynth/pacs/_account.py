"""Who we are to a PACS, and whom we trust: passwords and tokens from the environment or the keyring, certificates."""

from __future__ import annotations

import importlib.util
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from radsynth.errors import PacsError, SettingsError

USER, PASSWORD, TOKEN = "RADSYNTH_PACS_USER", "RADSYNTH_PACS_PASSWORD", "RADSYNTH_PACS_TOKEN"

KEYRING_TOKEN = "token"
"""The keyring's user name under which a token lies."""


def service(url: str) -> str:
    """The keyring's entry of a DICOMweb service: radsynth:host, with the port where the address has one."""
    return f"radsynth:{urlsplit(url).netloc}"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A token, or a user and a password, or nothing. Never shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Credentials:
        """From RADSYNTH_PACS_TOKEN, or _USER and _PASSWORD; what they leave out comes from the keyring (see `service`).

        SettingsError for half a pair and for what cannot be sent.
        """
        user, password, token = (os.environ.get(name, "") for name in (USER, PASSWORD, TOKEN))
        if password and not user:
            raise SettingsError(f"{PASSWORD} is set and {USER} is not: set both, or leave both to the keyring.")
        if user and not password:
            password = _from_keyring("get_password", service(url), user) or ""
            if not password:
                raise SettingsError(
                    f"{USER} is set, but there is no password. Set {PASSWORD}, or put it into the keyring: "
                    f"keyring set {service(url)} {user}"
                )
        elif not user and not token:
            token = _from_keyring("get_password", service(url), KEYRING_TOKEN) or ""
            pair = None if token else _from_keyring("get_credential", service(url), None)
            user, password = (pair.username, pair.password) if pair else ("", "")
        if any(ord(sign) < 32 for sign in user + password + token):
            raise SettingsError(
                f"{USER}, {PASSWORD} or {TOKEN}, or the keyring, holds a line break or another control character."
            )
        return cls(user=user, password=password, token=token)


def _from_keyring(question: str, *arguments: Any) -> Any:
    """What the keyring answers; None without the package, without a keyring, or when it is locked or broken."""
    if importlib.util.find_spec("keyring") is None:
        return None
    import keyring

    try:
        return getattr(keyring, question)(*arguments)
    except Exception:  # backends raise what they like; without an answer the PACS says what is missing
        return None


@dataclass(frozen=True, kw_only=True)
class Trust:
    """ca: PEM file of the authorities that are trusted, "" for the system's; certificate: PEM file with our own
    certificate and its key, "" for none.
    """

    ca: str = ""
    certificate: str = ""

    @property
    def given(self) -> bool:
        """Is anything asked for?"""
        return bool(self.ca or self.certificate)

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later as a client; the other's certificate must be trusted and be of its host. SettingsError."""
        for option, name in (("--ca", self.ca), ("--certificate", self.certificate)):
            if name and not Path(name).is_file():
                raise SettingsError(f"{option} {name}: there is no such file. Give a PEM file.")
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate:
                context.load_cert_chain(self.certificate, password="")  # asks nobody when the key is encrypted
        except (ssl.SSLError, OSError, ValueError) as error:
            names = " or ".join(name for name in (self.ca, self.certificate) if name)
            raise SettingsError(
                f"{names} cannot be used: {short(error)}. --ca is a PEM file of certificates, --certificate one of a "
                "certificate and its key without a passphrase."
            ) from None
        return context


def untrusted(where: str, reason: str) -> PacsError:
    """TLS did not come about."""
    return PacsError(
        f"{where}: no trusted connection: {reason}. --ca FILE names the authority of a hospital's own certificates, "
        "--certificate FILE our own certificate and key."
    )


def short(error: BaseException) -> str:
    """An error of a library as one short line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
