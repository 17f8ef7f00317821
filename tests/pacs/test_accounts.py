"""Credentials: from the environment, else from the keyring, and shown nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from radsynth import pacs
from radsynth.errors import SettingsError
from radsynth.pacs import (
    Credentials,
    _account,
)
from tests.pacs.examples import URL

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")


ASK_KEYRING = _account._from_keyring


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
