"""Doubts about signatures, for an operator, and dead letters that an operator signs."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from queuekit.client.runtime import Runtime
from queuekit.envelope import Envelope
from queuekit.schedules.schedule import ENTRIES
from queuekit.wire.signing import Signing, UnsignedError, key_id_in

__all__ = ["doubt_of", "schedule_doubts", "signed_again"]


def signed_again(signing: Signing, envelope: Envelope) -> Envelope | None:
    """Return the message of a dead letter as a signed replay; ``None`` if it has no header for a signature."""
    try:
        body, generation = signing.signed_again(envelope.body), envelope.generation + 1
    except UnsignedError:
        return None
    fresh = attrs.evolve(envelope, attempt=0, hop=0, delay=0.0, not_before=None)
    return attrs.evolve(fresh, body=body, generation=generation)


def doubt_of(signing: Signing | None, body: bytes) -> str:
    """Return what is wrong with the signature of a waiting message; empty if nothing is."""
    key = key_id_in(body)
    if signing is None:
        return f"are signed, by the key {key}, and signing_keys is not set here: nobody checks them" if key else ""
    try:
        signing.check_message(body)
    except UnsignedError as error:
        return f"would be refused: {error.what}"
    return "" if key else "are not signed"


def schedule_doubts(runtime: Runtime, signing: Signing) -> Iterator[tuple[str, str]]:
    """Yield the names of schedules that the first key has not signed, and what is wrong."""
    for record in runtime.need_backend("a schedule").walk(ENTRIES):
        name = record.key.removeprefix(ENTRIES)
        try:
            signing.check_record(record)
        except UnsignedError as error:
            yield name, f"is refused: {error.what}"
        else:
            if not signing.is_current(record):
                yield name, "is not signed by the first key"
