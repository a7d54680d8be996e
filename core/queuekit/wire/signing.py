"""Sign message bodies and stored records with HMAC-SHA256, and check the signatures of untrusted ones.

A signature is the last entry of the header line, ``"sig":"<key id>.<base64>"``. It covers every other byte of the
frame, and for a record its key as well. So a release or a process without keys reads a signed frame as
usual. What changes on the way (attempt, generation, hop) is beside the body and stays unsigned.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence

import attrs

from queuekit.backend import Record
from queuekit.envelope import MAX_HEADER_BYTES
from queuekit.errors import DecodeError
from queuekit.values import frozen

__all__ = ["SHORTEST_KEY", "Signing", "SigningKey", "UnsignedError", "key_id_in"]

SHORTEST_KEY = 32
"""Fewest bytes of a key."""
_MESSAGE, _RECORD = b"queuekit message\n", b"queuekit record\n"
"""What a signature is for: a record cannot pass for a message."""
_SIGNATURE = re.compile(rb',"sig":"([0-9a-f]{8})\.([A-Za-z0-9+/]{43})"\}')
_LENGTH = len(',"sig":"') + 8 + 1 + 43 + len('"}')
"""Bytes from the comma to the brace that ends the header."""


class UnsignedError(DecodeError):
    """A message or a record is not signed, or not by a key that is accepted here."""

    code = "QK221"


def _key_id(key: SigningKey) -> str:
    return hashlib.sha256(b"queuekit key id\n" + key.secret).hexdigest()[:8]


@frozen
class SigningKey:
    """A key of the setting ``signing_keys``; its ``repr`` shows the id alone."""

    secret: bytes = attrs.field(repr=False)
    """The key itself."""
    id: str = attrs.field(init=False, default=attrs.Factory(_key_id, takes_self=True))
    """Names the key in signatures: a hash of it, in 8 characters."""


class _Mac:
    """One key: computes the signatures of messages and records."""

    def __init__(self, key: SigningKey) -> None:
        self.id = key.id.encode()
        self._message, self._record = (hmac.new(key.secret, purpose, hashlib.sha256) for purpose in (_MESSAGE, _RECORD))

    def of_message(self, before: bytes, after: bytes) -> bytes:
        """Return the signature of a body in two parts."""
        mac = self._message.copy()
        mac.update(before)
        mac.update(after)
        return b2a_base64(mac.digest(), newline=False)[:43]

    def of_record(self, key: str, before: bytes, after: bytes) -> bytes:
        """Return the signature of the body of a record in two parts."""
        mac = self._record.copy()
        name = key.encode("utf-8", "surrogatepass")
        mac.update(b"%d\n" % len(name) + name)
        mac.update(before)
        mac.update(after)
        return b2a_base64(mac.digest(), newline=False)[:43]


class Signing:
    """Signs with the first key, and accepts the signatures of all keys.

    Args:
        keys: At least one.
        required: Whether to refuse what is not signed. A wrong signature is refused in any case.
    """

    def __init__(self, keys: Sequence[SigningKey], *, required: bool) -> None:
        self._macs = {key.id.encode(): _Mac(key) for key in keys}
        self._first = _Mac(keys[0])
        self._required = required

    def signed_message(self, body: bytes) -> bytes:
        """Return *body*, which is not signed, with a signature."""
        end = body.index(b"\n") - 1
        before, after = body[:end], body[end:]
        return b'%b,"sig":"%b.%b"%b' % (before, self._first.id, self._first.of_message(before, after), after)

    def signed_record(self, record: Record) -> Record:
        """Return *record*, whose body is a frame, with a signature by the first key in place of any other."""
        body, _ = _split(record.body)
        end = body.index(b"\n") - 1
        before, after = body[:end], body[end:]
        mac = self._first.of_record(record.key, before, after)
        return attrs.evolve(record, body=b'%b,"sig":"%b.%b"%b' % (before, self._first.id, mac, after))

    def signed_again(self, body: bytes) -> bytes:
        """Return an untrusted body with a signature by the first key in place of any other.

        Raises:
            UnsignedError: It has no header line that could hold one.
        """
        plain, _ = _split(body)
        end = plain.find(b"\n", 0, MAX_HEADER_BYTES - _LENGTH)
        if end < 1 or plain[end - 1 : end] != b"}":
            raise UnsignedError("it has no header that could hold a signature")
        return self.signed_message(plain)

    def check_message(self, body: bytes) -> None:
        """Raise unless an untrusted body is signed as required.

        Raises:
            UnsignedError: Says what is wrong.
        """
        end = body.find(b"\n", 0, MAX_HEADER_BYTES)
        found = _SIGNATURE.match(body, end - _LENGTH) if end > _LENGTH else None
        if found is None:
            self._reject_unsigned()
            return
        mac = self._mac(found)
        if not hmac.compare_digest(mac.of_message(body[: end - _LENGTH], body[end - 1 :]), found[2]):
            raise UnsignedError("its signature does not match: it was changed, or another program wrote it")

    def check_record(self, record: Record) -> None:
        """Raise unless an untrusted record is signed as required.

        Raises:
            UnsignedError: Says what is wrong, and names the record.
        """
        body, end = record.body, record.body.find(b"\n", 0, MAX_HEADER_BYTES)
        found = _SIGNATURE.match(body, end - _LENGTH) if end > _LENGTH else None
        try:
            if found is None:
                self._reject_unsigned()
                return
            mac = self._mac(found).of_record(record.key, body[: end - _LENGTH], body[end - 1 :])
        except UnsignedError as error:
            raise UnsignedError(f"record {record.key!r}: {error.what}") from error
        if not hmac.compare_digest(mac, found[2]):
            raise UnsignedError(f"record {record.key!r}: its signature does not match")

    def is_current(self, record: Record) -> bool:
        """Return whether the first key has signed *record*; its signature may still be wrong."""
        return key_id_in(record.body) == self._first.id.decode()

    def _reject_unsigned(self) -> None:
        if self._required:
            raise UnsignedError("it is not signed")

    def _mac(self, found: re.Match[bytes]) -> _Mac:
        mac = self._macs.get(found[1])
        if mac is None:
            raise UnsignedError(f"it is signed with the key {found[1].decode()}, which is not in signing_keys here")
        return mac


def key_id_in(body: bytes) -> str:
    """Return the id of the key that an untrusted frame is signed with; empty if it is not signed."""
    return _split(body)[1]


def _split(body: bytes) -> tuple[bytes, str]:
    """Return a frame without its signature, and the id of its key; empty if it is not signed."""
    end = body.find(b"\n", 0, MAX_HEADER_BYTES)
    found = _SIGNATURE.match(body, end - _LENGTH) if end > _LENGTH else None
    return (body, "") if found is None else (body[: end - _LENGTH] + body[end - 1 :], found[1].decode())
