"""PACS, as a client: DICOMweb (QIDO-RS, WADO-RS, STOW-RS) by dicomweb-client and C-STORE by pynetdicom (extra `pacs`).

Passwords and tokens come from the environment or the keyring. What a server says is not trusted: UIDs are checked.
"""

from radsynth.pacs._account import PASSWORD, TOKEN, USER, Credentials, Trust
from radsynth.pacs._names import checked_address, checked_uid, checked_url, is_url
from radsynth.pacs._storage import Storage
from radsynth.pacs._web import Found, Web

__all__ = [
    "PASSWORD",
    "TOKEN",
    "USER",
    "Credentials",
    "Found",
    "Storage",
    "Trust",
    "Web",
    "checked_address",
    "checked_uid",
    "checked_url",
    "is_url",
]
