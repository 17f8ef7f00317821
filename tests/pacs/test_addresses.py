"""What is an address, a title and a UID, and what is refused before anything is asked."""

from __future__ import annotations

import pytest

from radsynth import pacs
from radsynth.errors import RejectedFile, SettingsError
from radsynth.pacs import (
    Storage,
    checked_address,
    checked_uid,
    checked_url,
)

pytest.importorskip("dicomweb_client")
pytest.importorskip("pynetdicom")


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
