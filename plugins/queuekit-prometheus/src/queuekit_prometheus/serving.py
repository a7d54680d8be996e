"""Serve the metrics of a supervisor and its processes."""

from __future__ import annotations

import logging
import os

from queuekit_prometheus.exposition import TallyCollector, serve
from queuekit_prometheus.processes import FOLDER, Collected
from queuekit_prometheus.tally import TALLY

__all__ = ["Serving"]


class Serving:
    """Serves on *host* and *port* until :meth:`close`.

    Raises:
        ConfigError: It cannot listen there, e.g. because the port is in use.
    """

    def __init__(self, *, port: int, host: str) -> None:
        collected = Collected(TALLY.snapshot)
        try:
            self._server, self._thread = serve(TallyCollector(collected.snapshot), port=port, host=host)
        except BaseException:
            collected.close()
            raise
        self._collected = collected
        os.environ[FOLDER] = collected.folder
        self.port: int = self._server.server_port
        logging.getLogger("queuekit.worker").info("metrics  http://%s:%d/metrics", host, self.port)

    def close(self) -> None:
        """Stop serving."""
        os.environ.pop(FOLDER, None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collected.close()
