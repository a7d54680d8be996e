"""A proxy on loopback between a client and an imitation of AWS: it does on demand what the real service does at times.

It counts requests, adds latency, throttles, loses replies after the work was done, fails a part of a batch, and has
messages delivered twice.
"""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.aws_servers import aws_url
from support.waiting import PATIENCE

__all__ = ["AwsProxy"]

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"})
_BATCHES = frozenset({"SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"})


class AwsProxy:
    """What stands before one server.

    Args:
        port: Where that server listens on loopback.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.counts: Counter[str] = Counter()
        """Requests by action, e.g. ``SendMessageBatch``."""
        self.latency = 0.0
        """Seconds added to each answer."""
        self.throttled: dict[str, float] = {}
        """Actions that are refused, ``*`` for all, each until when in monotonic seconds."""
        self.lost_replies: Counter[str] = Counter()
        """How many of the next answers to an action get lost."""
        self.failing_entry = 0
        """Each how many-th entry of a batch fails; 0 for none."""
        self.failing_for_good = False
        """Whether it is said to be the sender's fault, so that there is no sense in a repetition."""
        self.doubled_receive = 0
        """Each how many-th receive has its first message delivered to somebody else as well; 0 for none."""
        self.partial_reads = 0
        """How many of the next reads of many records leave half of them unread."""
        self.denied: dict[str, tuple[int, str, str]] = {}
        """Actions that are answered with a status, a code and a text."""
        self.upset: Counter[str] = Counter()
        """What was done to how many."""
        self._lock = threading.Lock()
        self._entries = 0
        self._receives = 0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def sqs(self, prefix: str, **options: object) -> str:
        """Return the URL of a broker, as the server's own method does."""
        return aws_url("sqs+http", self.address, prefix, **options)

    def dynamodb(self, prefix: str, **options: object) -> str:
        """Return the URL of a backend, likewise."""
        return aws_url("dynamodb+http", self.address, prefix, **options)

    def start(self) -> "AwsProxy":
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def throttle(self, seconds: float, *actions: str) -> None:
        """Refuse *actions*, by default all, for *seconds*."""
        self.throttled.update(dict.fromkeys(actions or ("*",), time.monotonic() + seconds))

    # -- what is done to one request

    def refusal(self, action: str) -> tuple[int, str, str] | None:
        """Return status, code and text for a request that is not passed on."""
        with self._lock:
            self.counts[action] += 1
            if time.monotonic() < max(self.throttled.get(action, 0.0), self.throttled.get("*", 0.0)):
                self.upset["throttled"] += 1
                return 503, "RequestThrottled", "Request is throttled."
        return self.denied.get(action)

    def loses_reply(self, action: str) -> bool:
        """Return whether the answer gets lost."""
        with self._lock:
            if self.lost_replies[action] <= 0:
                return False
            self.lost_replies[action] -= 1
            self.upset["lost"] += 1
            return True

    def part(self, action: str, body: bytes) -> tuple[bytes, list[str]]:
        """Return the request without the entries that fail, and their ids."""
        if action not in _BATCHES or not self.failing_entry:
            return body, []
        request = json.loads(body)
        failing: list[str] = []
        passed: list[Any] = []
        with self._lock:
            for entry in request["Entries"]:
                self._entries += 1
                fails = self._entries % self.failing_entry == 0
                (failing if fails else passed).append(entry["Id"] if fails else entry)
            self.upset["failed"] += len(failing)
        return json.dumps({**request, "Entries": passed}).encode(), failing

    def leave_unread(self, action: str, body: bytes) -> tuple[bytes, dict[str, Any]]:
        """Return the request without the second half of the keys, and what to say of those."""
        if action != "BatchGetItem" or self.partial_reads <= 0:
            return body, {}
        self.partial_reads -= 1
        request = json.loads(body)
        unread: dict[str, Any] = {}
        for table, asked in request["RequestItems"].items():
            half = len(asked["Keys"]) // 2
            asked["Keys"], rest = asked["Keys"][: len(asked["Keys"]) - half], asked["Keys"][len(asked["Keys"]) - half :]
            unread |= {table: {**asked, "Keys": rest}} if rest else {}
            self.upset["unread"] += half
        return json.dumps(request).encode(), unread

    def doubles(self) -> bool:
        """Return whether the message just received is to be delivered once more."""
        with self._lock:
            self._receives += 1
            return bool(self.doubled_receive) and self._receives % self.doubled_receive == 0


class _Server(ThreadingHTTPServer):
    """A server that knows whose it is."""

    daemon_threads = True

    def __init__(self, proxy: AwsProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone, as those do that are killed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Find the proxy."""
        super().setup()
        assert isinstance(self.server, _Server)
        self.proxy: AwsProxy = self.server.proxy

    def handle_any(self) -> None:
        """Pass one request on, with what is to go wrong."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = (self.headers.get("X-Amz-Target") or f"S3.{self.command}").rpartition(".")[2]
        refused = self.proxy.refusal(action)
        if refused is not None:
            self.refuse(*refused)
            return
        body, failing = self.proxy.part(action, body)
        body, unread = self.proxy.leave_unread(action, body)
        if failing and not json.loads(body)["Entries"]:
            status, headers, answer = 200, [("Content-Type", "application/x-amz-json-1.0")], b"{}"
        else:
            status, headers, answer = self.ask(body)
        if self.proxy.latency:
            time.sleep(self.proxy.latency)
        if self.proxy.loses_reply(action):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if action == "ReceiveMessage" and status == 200:
            self.double(body, answer)
        self.answer(status, headers, _with_unread(self.with_failures(answer, failing), unread))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815 - http.server's names

    def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the server's answer."""
        headers = {key: value for key, value in self.headers.items() if key.lower() != "content-length"}
        return self.pass_on(self.command, self.path, body, headers)

    def pass_on(
        self, command: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the server's answer to a request over a connection of its own: it closes those that are idle."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.target, timeout=PATIENCE)
        with contextlib.closing(upstream):
            upstream.request(command, path, body=body, headers=headers)
            reply = upstream.getresponse()
            return reply.status, reply.getheaders(), reply.read()

    def with_failures(self, answer: bytes, failing: list[str]) -> bytes:
        """Return *answer* with the entries that have failed."""
        if not failing:
            return answer
        reply, final = json.loads(answer), self.proxy.failing_for_good
        code = "InvalidMessageContents" if final else "InternalError"
        failed = [{"Id": id, "SenderFault": final, "Code": code, "Message": "no"} for id in failing]
        return json.dumps({**reply, "Failed": [*reply.get("Failed", []), *failed]}).encode()

    def double(self, body: bytes, answer: bytes) -> None:
        """Make the first message visible again, so that it is delivered once more."""
        messages = json.loads(answer).get("Messages") or []
        if not messages or not self.proxy.doubles():
            return
        again = {
            "QueueUrl": json.loads(body)["QueueUrl"],
            "ReceiptHandle": messages[0]["ReceiptHandle"],
            "VisibilityTimeout": 0,
        }
        headers = {
            "X-Amz-Target": "AmazonSQS.ChangeMessageVisibility",
            "Content-Type": "application/x-amz-json-1.0",
        }
        self.pass_on("POST", "/", json.dumps(again).encode(), headers)
        self.proxy.upset["doubled"] += 1

    def refuse(self, status: int, code: str, text: str) -> None:
        """Answer with an error as the service does."""
        answer = json.dumps({"__type": f"com.amazonaws#{code}", "message": text}).encode()
        headers = [("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-query-error", f"{code};Sender")]
        self.answer(status, headers, answer)

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Write an answer."""
        self.send_response(status)
        for key, value in headers:
            if key.lower() not in _HOP_BY_HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it that
        """Say nothing."""


def _with_unread(answer: bytes, unread: dict[str, Any]) -> bytes:
    """Return *answer* with the keys that were left out."""
    return json.dumps({**json.loads(answer), "UnprocessedKeys": unread}).encode() if unread else answer
