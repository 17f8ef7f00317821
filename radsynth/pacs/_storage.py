"""C-STORE, plain or by TLS, by pynetdicom."""

from __future__ import annotations

import importlib.util
import socket
import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from radsynth.errors import DataError, MissingExtra, PacsError, RejectedFile, SettingsError
from radsynth.pacs import _waiting
from radsynth.pacs._account import Trust, short, untrusted
from radsynth.pacs._names import checked_address

REFUSAL = 1.0
"""Seconds in which a server that does not like our certificate says so."""


class Storage:
    """A C-STORE service, in a `with` statement. kinds: (SOP class, transfer syntax) of what will be sent.

    trust: encrypt by TLS and check that the PACS is who it says; None: in the clear.

    PacsError when it is down, does not know the titles, or closes the connection.
    """

    MAX_CONTEXTS = 128
    """Of one association, by the standard."""

    def __init__(
        self, address: str, calling: str, kinds: Sequence[tuple[str, str]], trust: Trust | None = None
    ) -> None:
        self.address, self._tls = address, trust.context() if trust else None
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
        self._entity.acse_timeout, self._entity.connection_timeout = 30, _waiting.TIMEOUT[0]
        self._entity.dimse_timeout = self._entity.network_timeout = _waiting.TIMEOUT[1]
        self._link: Any = None

    def __enter__(self) -> Storage:
        self._connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._link is not None and self._link.is_established:
            (self._link.release if kind is None else self._link.abort)()

    def store(self, dataset: Any) -> None:
        """Send one instance. RejectedFile with the reason when the PACS does not take it."""
        for pause in (*_waiting.PAUSES, None):
            if not self._link.is_established:
                self._connect()
            try:
                status = self._link.send_c_store(dataset)
            except (ValueError, AttributeError) as error:
                raise RejectedFile(f"it cannot be sent to this PACS: {short(error)}") from None
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
        from pynetdicom import evt
        from pynetdicom.presentation import build_context

        contexts = [build_context(kind, syntax) for kind, syntax in self._kinds]
        for pause in (*_waiting.PAUSES, None):
            tls = (self._tls, self._host) if self._tls else None
            self._link = self._entity.associate(
                self._host, self._port, contexts=contexts, ae_title=self._title, tls_args=tls,
                evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay)],
            )
            if self._link.is_established:
                return
            if self._link.is_rejected:
                raise PacsError(self._rejection())
            if self._tls and (fault := self._tls_fault(self._tls)):
                raise untrusted(self.address, fault)
            if pause is not None:
                time.sleep(pause)
        raise PacsError(
            f"{self.address} does not answer ({len(_waiting.PAUSES) + 1} tries). Is the PACS running, and the address "
            f"right? {'' if self._tls else 'Does it want --tls? '}The same command goes on from here."
        )

    def _tls_fault(self, context: ssl.SSLContext) -> str:
        """Why TLS fails, which pynetdicom does not tell; "" when it does not, or there is no answer at all."""
        try:
            with (
                socket.create_connection((self._host, self._port), _waiting.TIMEOUT[0]) as plain,
                context.wrap_socket(plain, server_hostname=self._host) as link,
            ):
                link.settimeout(REFUSAL)
                link.recv(1)  # with TLS 1.3 a server that misses our certificate says so after the handshake
        except ssl.SSLError as error:
            return short(error)
        except OSError:  # also the time-out of a server that waits for us to speak
            return ""
        return ""

    def _rejection(self) -> str:
        """Why, by the codes of DICOM PS3.8 9.3.4: 3 an unknown calling title, 7 an unknown called one."""
        answer = self._link.acceptor.primitive
        code = getattr(answer, "diagnostic", None)
        if code == 7:
            return f"{self.address}: the PACS is not called {self._title}. Give its own AE title before the @."
        if code == 3:
            return f"{self.address} does not know the AE title {self._calling}. Give one that it knows with --calling."
        return f"{self.address} rejects the connection: {getattr(answer, 'reason_str', code)}"


def _without_delay(event: Any) -> None:
    """An instance goes in several packets; by default each waits 40 ms until the one before is acknowledged."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
