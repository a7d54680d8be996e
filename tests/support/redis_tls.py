"""TLS in front of a server that speaks none, with certificates made for the moment."""

import asyncio
import contextlib
import datetime
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

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
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # a client that does not trust us ends the handshake, as it should
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    pumps: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        to_server = await asyncio.open_connection("127.0.0.1", port)
        writers.append(to_server[1])
        for source, target in ((reader, to_server[1]), (to_server[0], writer)):
            pumps.add(asyncio.ensure_future(_pump(source, target)))

    async def stop() -> None:
        server.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        await _abort(writers)

    starting = asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(PATIENCE)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
    finally:
        target.close()


async def _abort(writers: list[asyncio.StreamWriter]) -> None:
    """Close connections at once: to say goodbye takes longer than the loop lives."""
    for writer in writers:
        writer.transport.abort()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
    # Those that still shake hands, of which nobody has been told.
    for transport in list(vars(asyncio.get_running_loop())["_transports"].values()):
        transport.abort()
    await asyncio.sleep(0)
