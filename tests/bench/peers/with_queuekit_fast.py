"""queuekit with the extra ``fast``: the same app; msgspec is not hidden from it."""

from __future__ import annotations

import attrs

from peers import with_queuekit

app = with_queuekit.app
PEER = attrs.evolve(
    with_queuekit.PEER,
    distributions=[*with_queuekit.PEER.distributions, "msgspec"],
    worker=[part.replace("with_queuekit", "with_queuekit_fast") for part in with_queuekit.PEER.worker],
    settings={**with_queuekit.PEER.settings, "queuekit[fast]": "reads and writes JSON with msgspec"},
)
