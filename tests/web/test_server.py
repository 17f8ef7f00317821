"""`radsynth serve` as a process: its addresses, its end, and what it says where it cannot serve."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from radsynth.errors import FolderError, SettingsError
from radsynth.web.serve import _keys, names_of, serve
from tests.web.examples import served


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_stopped(how: signal.Signals, run: Path) -> None:
    """For real: a process, its printed addresses, a page, and an end without a traceback."""
    with served(run) as (process, address, _):
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert "radsynth explorer" in browser.open(address, timeout=30).read().decode()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address.partition("?")[0], timeout=30)
        process.send_signal(how)
        assert process.stderr is not None and not process.stderr.read()
        assert process.wait(20) == 0, "it has done what it was asked to"
    assert (run / "keys.json").stat().st_mode & 0o077 == 0
    assert json.loads((run / "study" / "study.json").read_text())["items"]


@pytest.mark.parametrize(("host", "said"), [("", "it is empty"), ("no.such.invalid", "127.0.0.1, which answers this")])
def test_a_host_that_is_not_this_machine(host: str, said: str, run: Path) -> None:
    with pytest.raises(SettingsError, match=said) as told:
        serve(run, host=host, port=0)
    assert "another port" not in str(told.value)


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True),
                                             ("::1", True), ("0.0.0.0", False), ("10.0.0.7", False), ("ward", False)])
def test_all_of_127_is_this_machine_alone(host: str, alone: bool) -> None:
    """127.0.0.2 was said to answer the network, and answered to any name."""
    assert (host in names_of(host)) is bool(names_of(host)) is alone


def test_a_taken_port_is_told_before_a_study_is_made(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="Choose another port"):
        serve(run, port=taken.getsockname()[1])
    assert not (run / "study").exists() and not (run / "keys.json").exists()


@pytest.mark.parametrize("damage", ["", '["organiser", "rea', "null"])
def test_damaged_keys_are_told_and_not_replaced(damage: str, run: Path) -> None:
    """Others were made without a word, and the address that readers had been sent was refused."""
    (run / "keys.json").write_text(damage)
    with pytest.raises(FolderError, match=r"keys\.json.* damaged\. Put a copy of it back; or remove it"):
        _keys(run)
    assert (run / "keys.json").read_text() == damage
