"""TLS in front of a server that speaks none, with certificates made for the moment."""

import contextlib
import datetime
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.waiting import PATIENCE

__all__ = ["Authority", "tls_in_front"]

_DAY = datetime.timedelta(days=1)


@attrs.frozen
class Authority:
    """Who signs certificates; its own is ``file``."""

    file: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def make(cls, folder: Path, name: str) -> "Authority":
        """Return a new one, whose certificate is in *folder*."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        built = _begun(subject, subject, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        file = folder / f"{name}.pem"
        file.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return cls(file, key, subject)

    def sign(self, host: str) -> Path:
        """Return a file with a key and a certificate for *host*."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        signed = _begun(subject, self.name, key).add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        file = self.file.with_name(f"{host}.pem")
        file.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(encoding)
        )
        return file


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)


@contextlib.contextmanager
def tls_in_front(port: int, certificate: Path) -> Iterator[int]:
    """Yield a port of this machine that speaks TLS, and passes everything on to *port*, which does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with _Proxy(context, port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()
            proxy.cut()
            thread.join(PATIENCE)


class _Proxy(socketserver.ThreadingTCPServer):
    """A thread for each connection, and all of them have ended when it is closed."""

    daemon_threads = False

    def __init__(self, context: ssl.SSLContext, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.context, self.target = context, target
        self.accepted: list[ssl.SSLSocket] = []

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        """Take a connection, whose handshake is left to its own thread."""
        plain, address = self.socket.accept()
        wrapped = self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.accepted.append(wrapped)
        return wrapped, address

    def cut(self) -> None:
        """End every connection, in whatever state it is."""
        for connection in self.accepted:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    """Passes bytes on both ways, until one side is closed."""

    request: ssl.SSLSocket

    def handle(self) -> None:
        """Shake hands first; a client that does not trust us ends it there, as it should."""
        proxy = cast("_Proxy", self.server)
        with contextlib.suppress(OSError):
            self.request.do_handshake()
            with socket.create_connection(("127.0.0.1", proxy.target)) as target:
                while self._pass_on(target):
                    pass

    def _pass_on(self, target: socket.socket) -> bool:
        """Return whether both sides are still open."""
        waiting = self.request.pending() > 0
        readable = [self.request] if waiting else select.select([self.request, target], [], [])[0]
        for source in readable:
            other = target if source is self.request else self.request
            if not (data := source.recv(65_536)):
                return False
            other.sendall(data)
        return True
