"""A proxy on the loopback interface that loses replies: what was asked is done, and nobody hears of it."""

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["LossyProxy", "lossy_proxy"]


class LossyProxy:
    """Passes everything on, both ways, but for the replies that it was told to drop.

    Args:
        port: Where the server listens on this machine.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._drops = 0
        self.dropped = 0
        """Replies that were lost."""
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self, replies: int = 1) -> None:
        """Drop the next *replies*, each with its connection."""
        with self._lock:
            self._drops = replies

    def close(self) -> None:
        """End all connections."""
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client), kwargs={"lossy": True}, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, *, lossy: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if lossy and self._take_drop():
                    break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _take_drop(self) -> bool:
        with self._lock:
            if not self._drops:
                return False
            self._drops -= 1
            self.dropped += 1
            return True


@contextlib.contextmanager
def lossy_proxy(port: int) -> Iterator[LossyProxy]:
    """Yield a proxy in front of the server on *port*."""
    proxy = LossyProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
