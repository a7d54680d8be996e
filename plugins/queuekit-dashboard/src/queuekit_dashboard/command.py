"""``queuekit dashboard``: the dashboard by itself."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

import click
import uvicorn

from queuekit.errors import ConfigError
from queuekit.operations.actions import person
from queuekit_dashboard.access import Accessor, Sessions, Users, hash_password
from queuekit_dashboard.guard import LOOPBACK
from queuekit_dashboard.options import options_of
from queuekit_dashboard.web import make

__all__ = ["command"]

_PORT = 9460


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=_PORT, show_default=True, help="Port to listen on.")
@click.option(
    "--auth",
    "users",
    metavar="NAME:ROLE:HASH",
    multiple=True,
    help="A user with a password, instead of the one-time token. The role is read or act. Repeatable.",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Another host name at which browsers reach the dashboard. Repeatable.",
)
@click.option("--hash", "asked", is_flag=True, help="Ask for a password, print its hash for --auth, and exit.")
@click.pass_obj
def command(session: Any, *, host: str, port: int, users: tuple[str, ...], hosts: tuple[str, ...], asked: bool) -> None:
    """Serve a web page that shows queues, messages and workers, and acts on them.

    Without users it listens on this machine only, and the address that it prints opens it once.
    """
    if asked:
        click.echo(hash_password(click.prompt("Password", hide_input=True, confirmation_prompt=True)))
        return
    app = session.shared_app()
    options = options_of(app.config)
    lines = [*users, *options.passwords]
    _check_address(host, closed=bool(lines))
    access: Accessor = Users(lines) if lines else Sessions(person())
    known = {*LOOPBACK, _in_url(host), *hosts, *options.hosts}
    bound = _bound(host, port)
    with bound:
        served = make(app, access=access, hosts=known, live="events")
        port = bound.getsockname()[1]
        path = f"/login?token={access.token}" if isinstance(access, Sessions) else "/"
        click.echo(f"dashboard  http://{_in_url(host)}:{port}{path}", err=True)
        config = uvicorn.Config(served, log_level="warning", timeout_graceful_shutdown=1, server_header=False)
        _Server(config, stopping=served.state.end_streams).run(sockets=[bound])


class _Server(uvicorn.Server):
    """A server that calls *stopping* before it waits for the requests that are still open."""

    def __init__(self, config: uvicorn.Config, *, stopping: Callable[[], object]) -> None:
        super().__init__(config)
        self._stopping = stopping
        logging.getLogger("uvicorn.error").addFilter(_is_fault)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the server."""
        self._stopping()
        await super().shutdown(sockets)


def _is_fault(record: logging.LogRecord) -> bool:
    """Return whether *record* is worth a line: a request that the end of the server cancels is not."""
    return record.exc_info is None or record.exc_info[0] is not asyncio.CancelledError


def _check_address(host: str, *, closed: bool) -> None:
    """Refuse to serve others than this machine without passwords.

    Raises:
        ConfigError: *host* is not an address of this machine alone, and there are no users.
    """
    if not closed and not _is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, and the dashboard has no users",
            fix="Print a hash:  queuekit dashboard --hash\nThen name a user:  --auth NAME:act:HASH, or passwords in "
            "[dashboard]",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *host* and *port*.

    Raises:
        ConfigError: It cannot.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        bound = socket.create_server((host, port), family=found[0][0], backlog=128)
    except OSError as error:
        text = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise ConfigError(text, fix="Choose another one:  --port") from error
    # asyncio asks for this only where it makes the socket; without it each answer waits 40 ms for the browser.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which connections inherit
    return bound
