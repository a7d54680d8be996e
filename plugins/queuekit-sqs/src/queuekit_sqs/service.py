"""Make requests to one AWS service. The client is created at first use, and again after a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

import attrs

from queuekit.errors import UnavailableError, bare
from queuekit.tls import TLSOptions
from queuekit.urls import EngineURL
from queuekit_sqs.backoff import pauses
from queuekit_sqs.failures import is_passing, unavailable
from queuekit_sqs.servertime import ServerTime
from queuekit_sqs.urls import Target

__all__ = ["Service", "Settings"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.8
_EMULATOR = "queuekit"
"""Credentials for an emulator, if there are no others."""


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of the requests."""

    connections: int
    timeout: float
    connect_timeout: float
    tries: int = 3
    tls: TLSOptions = TLSOptions()


class Service:
    """One service.

    Args:
        name: ``sqs``, ``dynamodb`` or ``s3``.
        url: URL to show in errors.
        target: Region or endpoint, and credentials.
        settings: Settings of the requests.
        time: Observes each reply.
        random: Adds jitter to the pauses between tries.
    """

    def __init__(
        self, name: str, url: EngineURL, *, target: Target, settings: Settings, time: ServerTime, random: Random
    ) -> None:
        self.name = name
        self.url = url
        self.time = time
        self._target = target
        self._settings = settings
        self._random = random
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._made: Any = None

    def call(self, operation: str, /, *, doing: str, tries: int | None = None, **parameters: Any) -> dict[str, Any]:
        """Make a request, retry it a few times after passing errors, and return the reply.

        Args:
            operation: Name of the client's method, e.g. ``send_message_batch``.
            doing: Action and resource, for errors.
            tries: Most tries; default: those of the settings.
            parameters: Parameters of the method.

        Raises:
            UnavailableError: The service did not answer, or refused; ``__cause__`` is the library's error.
        """
        return self.ask(lambda: self._call(operation, parameters), doing=doing, tries=tries)

    def ask(self, call: Callable[[], dict[str, Any]], *, doing: str, tries: int | None = None) -> dict[str, Any]:
        """Like :meth:`call`, but *call* makes the request."""
        rests = pauses(self._random, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, growth=2.5)
        left = (tries or self._settings.tries) - 1
        while True:
            try:
                return call()
            except UnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - failed() raises errors of other kinds again
                if left <= 0 or not is_passing(error):
                    raise self.failed(error, doing=doing) from bare(error)
            time.sleep(next(rests))
            left -= 1

    def failed(self, error: Exception, *, doing: str) -> UnavailableError:
        """Return the error to raise for an error of the library; raise any other error again."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        if not isinstance(error, (BotoCoreError, ClientError, HTTPClientError)):
            raise error
        return unavailable(error, doing=doing, url=self.url)

    def request(self, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """Make a request once; raise the library's own errors."""
        return self._call(operation, parameters)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        made, self._made = self._made, None
        if made is not None and self._pid == os.getpid():
            made.close()

    def _call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        sent = time.monotonic()
        reply: dict[str, Any] = getattr(self._client(), operation)(**parameters)
        headers = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.time.observe(headers.get("date"), sent=sent)
        return reply

    def _client(self) -> Any:
        if self._pid != os.getpid():
            self._reset()
        made = self._made
        if made is None:
            with self._lock:
                made = self._made = self._made or self._make()
        return made

    def _make(self) -> Any:
        import botocore
        from botocore.config import Config

        from queuekit_sqs.deadlines import limit
        from queuekit_sqs.fast_path import take
        from queuekit_sqs.sessions import has_credentials, new_session

        target, settings = self._target, self._settings
        session = new_session(target.profile)
        region = target.region or session.get_config_variable("region") or ("us-east-1" if target.emulated else None)
        keys: dict[str, Any] = {"aws_access_key_id": target.username, "aws_secret_access_key": target.password}
        if target.emulated and not target.username and not has_credentials(session):
            keys = {"aws_access_key_id": _EMULATOR, "aws_secret_access_key": _EMULATOR}
        config = Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.timeout,
            max_pool_connections=settings.connections + 1,
            retries={"total_max_attempts": 1, "mode": "standard"},
            parameter_validation=False,
            # botocore would build its default text twice for each request.
            user_agent=f"queuekit-sqs botocore/{botocore.__version__}",
            tcp_keepalive=True,
            client_cert=_client_certificate(settings.tls),
            s3={"addressing_style": "path"} if target.endpoint else None,
        )
        keys |= _verify(settings.tls) | {"region_name": region, "endpoint_url": target.endpoint, "config": config}
        client = session.create_client(self.name, **keys)
        take(client)
        limit(client, connect=settings.connect_timeout, read=settings.timeout)
        return client


def _verify(tls: TLSOptions) -> dict[str, Any]:
    """Return botocore's option about the server's certificate; empty for its default, which heeds ``AWS_CA_BUNDLE``.

    Raises:
        UnavailableError: A file cannot be used; names option and file.
    """
    if tls.names_files:
        tls.context()  # its errors name option and file; botocore's do not
    if tls.verify == "none":
        return {"verify": False}
    return {} if tls.ca_file is None else {"verify": str(tls.ca_file.expanduser())}


def _client_certificate(tls: TLSOptions) -> str | tuple[str, str] | None:
    if tls.cert_file is None:
        return None
    certificate = str(tls.cert_file.expanduser())
    return certificate if tls.key_file is None else (certificate, str(tls.key_file.expanduser()))
