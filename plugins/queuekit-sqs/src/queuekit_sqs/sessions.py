"""Create sessions of botocore without work that no client of ours needs, most of it at the first one.

Imported when the first request is made. boto3 would add nothing that is used here.
"""

from __future__ import annotations

import copy
import functools
import gzip
import json
from pathlib import Path
from typing import Any

from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST, REGISTER_LAST
from botocore.hooks import HierarchicalEmitter
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

__all__ = ["has_credentials", "new_session"]


class _Files(JSONFileLoader):  # type: ignore[misc]  # botocore has no types
    """Reads descriptions of services into plain dicts: with ordered ones, the megabyte of all regions takes 75 ms."""

    def load_file(self, file_path: str) -> Any:
        for end, read in ((".json", open), (".json.gz", gzip.open)):
            if Path(file_path + end).is_file():
                with read(file_path + end, "rb") as file:
                    return json.loads(file.read())
        return None


class _Descriptions(Loader):  # type: ignore[misc]  # botocore has no types
    """Finds descriptions of services."""

    def list_available_services(self, type_name: str) -> list[str]:
        """Return the names of all folders; botocore looks into each of the four hundred, twice for the first client."""
        places = (Path(path) for path in self.search_paths)
        return sorted({folder.name for place in places if place.is_dir() for folder in place.iterdir()})


@functools.cache
def _descriptions() -> _Descriptions:
    """Return the loader of all sessions, which keeps what it has read: megabytes."""
    return _Descriptions(file_loader=_Files())


@functools.cache
def _handlers() -> Any:
    """Return botocore's own handlers of events, except those that write documentation.

    The names are the present ones, so they need no :class:`botocore.hooks.EventAliaser`, which compares each with a
    hundred former names.
    """
    handlers = HierarchicalEmitter()
    register = {
        (): handlers.register,
        (REGISTER_FIRST,): handlers.register_first,
        (REGISTER_LAST,): handlers.register_last,
    }
    for event, handler, *place in BUILTIN_HANDLERS:
        if not event.startswith("docs."):
            register[tuple(place)](event, handler)
    return handlers


def new_session(profile: str | None) -> Any:
    """Return a new session, with credentials and settings of its own."""
    handlers = copy.copy(_handlers())
    session = Session(profile=profile, event_hooks=handlers, include_builtin_handlers=False)
    session.register_component("event_emitter", handlers)
    if session.get_config_variable("data_path") is None:
        session.register_component("data_loader", _descriptions())
    return session


def has_credentials(session: Any) -> bool:
    """Return whether this machine has credentials, without querying the metadata service for a role."""
    session.set_config_variable("metadata_service_num_attempts", 0)
    return session.get_credentials() is not None
