"""serve: the explorer and the reader study of a run in a browser, on this machine unless told otherwise."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import secrets
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from radsynth.errors import DataError, FolderError, MissingExtra, SettingsError
from radsynth.files import is_free, write_atomically
from radsynth.settings import Resolved, resolve
from radsynth.web.study import Settings, Study, make_study

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(run: Path, *, host: str = "127.0.0.1", port: int = 8000, settings: Resolved | None = None) -> None:
    """Serve until it is stopped. Prints two addresses on stderr: the organiser's, and the one to give to readers.

    SIGINT and SIGTERM are the ways to end it: answers under way are given, then it returns as from any finished work.

    host: 127.0.0.1 answers this machine alone; 0.0.0.0 the network, which sees images of real patients in the study
    Raises MissingExtra without the extra `web`, FolderError for no run, SettingsError for a taken port or a host that
    is not this machine.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise MissingExtra(f"serve ({', '.join(missing)})", "web")
    import uvicorn

    from radsynth.web.app import make_app
    from radsynth.web.explorer import Explorer

    run = Path(run)
    explorer = Explorer(run)
    with _listen(host, port) as listening:  # a taken port is told before a study is made
        options = (settings or resolve(sections=("study",))).section("study", Settings)
        study, why = _study(run, options, explorer.draws)
        keys = _keys(run)
        names = names_of(host)
        app = make_app(explorer, study, why, keys, names)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_keep_alive=5))
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
        print(f"Explorer and results, for you: {address}/?key={keys[0]}", file=sys.stderr)
        print(f"Reader study, for readers:     {address}/study?key={keys[1]}" if study else
              f"No reader study: {why}", file=sys.stderr)
        if not names:
            print("Anybody in the network who has such an address can open it; nothing is encrypted.", file=sys.stderr)
        print("Stop with Ctrl-C.", file=sys.stderr, flush=True)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # the signal again for which the server has shut down, as it is meant to end
            if server.force_exit or not server.should_exit:
                raise


def names_of(host: str) -> tuple[str, ...]:
    """What this machine calls a server that it alone can reach; () for one that the network reaches, by any name."""
    try:
        own = ipaddress.ip_address(host).is_loopback  # all of 127.0.0.0/8
    except ValueError:
        own = host == "localhost"
    return (*LOOPBACK, host) if own else ()


def _study(run: Path, options: Settings, draws: bool) -> tuple[Study | None, str]:
    """The study, or why there is none."""
    if not draws:
        return None, "This run makes images from images."
    if not _writable(run):
        return None, f"there is no permission to write in {run}, where it is kept."
    try:
        return make_study(run, options), ""
    except (DataError, FolderError) as error:
        if not is_free(run / "study"):
            raise  # answers may be in there: to be looked after, not passed over
        return None, str(error)


def _keys(run: Path) -> tuple[str, str]:
    """The organiser's key and the readers', the same at every start, so that readers can come back; of a run that is
    shared for reading, which has no study, others each time. FolderError where those that were given out are lost."""
    path = run / "keys.json"
    try:
        organiser, readers = json.loads(path.read_text(encoding="utf-8"))
        return str(organiser), str(readers)
    except (OSError, ValueError, TypeError):
        if path.exists() and _writable(run):
            raise FolderError(f"{path}, which keeps the addresses of the explorer and the reader study, cannot be read "
                              "or is damaged. Put a copy of it back; or remove it and repeat the command, then give "
                              "readers the new address.") from None
        keys = (secrets.token_urlsafe(16), secrets.token_urlsafe(16))
        if _writable(run):
            write_atomically(path, json.dumps(keys), mode=0o600)
        return keys


def _writable(run: Path) -> bool:
    return os.access(run, os.W_OK | os.X_OK)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if not host:  # would be every address
            raise OSError(errno.EADDRNOTAVAIL, "it is empty")
        listening.bind((host, port))
        listening.listen(128)  # from now on, not when the server is ready: whoever follows the address waits
    except OSError as error:
        listening.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise SettingsError(f"--host {host!r} cannot be used: {error.strerror}. Give 127.0.0.1, which answers this "
                                "machine alone, 0.0.0.0, which answers the network, or one address of this machine."
                                ) from None
        raise SettingsError(f"--host {host} --port {port} cannot be used: {error.strerror}. Choose another port, "
                            "or 0 for any that is free.") from None
    return listening


def _shown(host: str) -> str:
    return socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
