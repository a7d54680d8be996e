"""TLS options: one spelling, and errors that name option and file."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from queuekit.errors import UnavailableError
from queuekit.tls import TLSOptions
from support.redis_tls import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who signs certificates."""
    return Authority.make(tmp_path, "authority")


@attrs.frozen(kw_only=True)
class TableOptions(TLSOptions):
    """Options of a plugin with a table, which no hash can be made of."""

    table: Mapping[str, int] = attrs.field(factory=dict)


def split(pair: Path) -> tuple[Path, Path]:
    """Return the certificate and the key of a file with both, each in a file of its own."""
    mark = "-----BEGIN CERTIFICATE"
    key, _, certificate = pair.read_text(encoding="ascii").partition(mark)
    files = pair.with_suffix(".crt"), pair.with_suffix(".key")
    files[0].write_text(mark + certificate, encoding="ascii")
    files[1].write_text(key, encoding="ascii")
    return files


def error_of(options: TLSOptions) -> UnavailableError:
    """Return the error that the options cause."""
    with pytest.raises(UnavailableError) as caught:
        options.context()
    return caught.value


@pytest.mark.parametrize(
    ("verify", "host", "mode"),
    [("full", True, ssl.CERT_REQUIRED), ("ca", False, ssl.CERT_REQUIRED), ("none", False, ssl.CERT_NONE)],
)
def test_checks_what_it_is_told(verify: str, host: bool, mode: ssl.VerifyMode) -> None:  # noqa: FBT001 - a row
    """``verify`` says whether certificate and host name are checked."""
    context = TLSOptions(verify=verify).context()  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    assert (context.check_hostname, context.verify_mode) == (host, mode)


def test_trusts_the_given_authority_alone(authority: Authority) -> None:
    """With ``ca_file``, the authorities of the system are not trusted."""
    context = TLSOptions(ca_file=authority.file).context()

    assert context.cert_store_stats()["x509_ca"] == 1


def test_takes_certificate_and_key_apart_or_together(authority: Authority) -> None:
    """A key may be in ``cert_file`` or in a ``key_file``."""
    pair = authority.sign("client")
    certificate, key = split(pair)

    for options in (TLSOptions(cert_file=pair), TLSOptions(cert_file=certificate, key_file=key)):
        assert options.context().verify_mode is ssl.CERT_REQUIRED


def test_makes_a_context_once(authority: Authority) -> None:
    """Contexts are kept, as making one takes long; a file that has changed is read again."""
    options = TLSOptions(ca_file=authority.file)
    first, second = options.context(), options.context()
    Authority.make(authority.file.parent, "authority")

    third = options.context()

    assert first is second
    assert third is not first


def test_makes_a_context_for_the_options_of_any_plugin(authority: Authority) -> None:
    """What a plugin adds to the options has no part in the context: it need not be hashable."""
    first, second = (TableOptions(ca_file=authority.file, table={"size": size}) for size in (1, 2))

    assert first.context() is second.context()


@pytest.mark.parametrize("name", ["ca_file", "cert_file"])
def test_names_what_is_missing(name: str, tmp_path: Path) -> None:
    """A file that is not there is named with its option; waiting does not help."""
    error = error_of(TLSOptions(**{name: tmp_path / "none.pem"}))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    assert f"{name}, {tmp_path}/none.pem, cannot be read: No such file" in error.what
    assert (error.fix, error.passing) == (f"Correct {name}", False)


@pytest.mark.parametrize("path", ["/", "~nobodyatall/ca.pem", "a\0b"], ids=["folder", "no-home", "null"])
def test_names_what_cannot_be_a_file(path: str) -> None:
    """A folder, the home of nobody, and a name that no file has, are refused in the same way."""
    assert "ca_file" in error_of(TLSOptions(ca_file=Path(path))).what


def test_names_what_is_no_certificate(tmp_path: Path) -> None:
    """A file with something else is named with its option."""
    file = tmp_path / "ca.pem"
    file.write_text("hello", encoding="ascii")

    assert f"ca_file, {file}, holds no certificate in PEM format" in error_of(TLSOptions(ca_file=file)).what
    assert f"cert_file, {file}, holds no certificate" in error_of(TLSOptions(cert_file=file)).what


def test_refuses_a_key_without_certificate(authority: Authority) -> None:
    """A key alone proves nothing."""
    _, key = split(authority.sign("client"))

    assert error_of(TLSOptions(key_file=key)).fix == "Set cert_file as well"


def test_names_a_key_of_another_certificate(authority: Authority) -> None:
    """A key that does not belong to the certificate is named, and so is the certificate."""
    certificate, _ = split(authority.sign("client"))
    _, other = split(authority.sign("other"))

    error = error_of(TLSOptions(cert_file=certificate, key_file=other))

    assert f"key_file, {other}, is not the key of the certificate in cert_file, {certificate}" in error.what


def test_asks_nobody_for_a_password(authority: Authority, tmp_path: Path) -> None:
    """A key with a password is refused: OpenSSL would ask for it on the terminal."""
    certificate, _ = split(authority.sign("client"))
    locked = tmp_path / "locked.key"
    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.BestAvailableEncryption(b"word")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(pem, pkcs8, how))

    error = error_of(TLSOptions(cert_file=certificate, key_file=locked))

    assert f"key_file, {locked}, has a key with a password" in error.what
