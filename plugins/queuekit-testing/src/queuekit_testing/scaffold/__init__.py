"""Generate a new plugin: a distribution that can be installed, and whose tests show what is left to write."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs

from queuekit.errors import QueuekitError
from queuekit.hookspecs import API_VERSION
from queuekit_testing.scaffold.contracts import capability_lines, contract_text, method_sources

__all__ = ["KINDS", "PluginNames", "contract_text", "plugin_files", "write_plugin"]

KINDS = ("broker", "backend", "serializer", "middleware")
"""Kinds of new plugins."""
SUFFIX = ".tmpl"
_SERVICE = """\
    # The server that the tests use: name its image, and the port that the URL in tests/test_conformance.py has.
    services:
      {name}:
        image: {name}:latest
        ports: ["1234:1234"]
"""
PACKAGE = "PACKAGE"
"""Placeholder of the package in the paths of templates."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OURS = frozenset({"builtin", "memory", "sqlite", "testing"})


class _Template(string.Template):
    """Text with ``%%{name}`` placeholders, because a dollar is a prompt in README files."""

    delimiter = "%%"


@attrs.frozen
class PluginNames:
    """The names of a plugin and its parts."""

    name: str
    """Name of the entry point, and the scheme of its URLs: ``nats-jet``."""

    @classmethod
    def of(cls, text: str) -> PluginNames:
        """Return the names derived from *text*: ``nats``, ``queuekit-nats`` or ``queuekit_nats``.

        Raises:
            QueuekitError: *text* is not a valid name of a distribution.
        """
        name = re.sub(r"[_.]", "-", text.lower()).removeprefix("queuekit-")
        if not _NAME.fullmatch(name):
            raise QueuekitError(
                f"{text!r} is not a valid plugin name", fix="Use lower case letters, digits and dashes: nats"
            )
        if name in _OURS:
            raise QueuekitError(f"{text!r} is a name of queuekit itself", fix=f"Choose another name: my-{name}")
        return cls(name)

    @property
    def dist(self) -> str:
        """Name of the distribution: ``queuekit-nats-jet``."""
        return f"queuekit-{self.name}"

    @property
    def package(self) -> str:
        """Name of the package: ``queuekit_nats_jet``."""
        return self.dist.replace("-", "_")

    @property
    def stem(self) -> str:
        """Prefix of its classes: ``NatsJet``."""
        return "".join(part.capitalize() for part in self.name.split("-"))


def plugin_files(names: PluginNames, kind: str) -> dict[str, str]:
    """Return the text of each file of a new plugin of *kind*, by its path in the distribution."""
    values = _values(names, kind)
    templates = resources.files("queuekit_testing.scaffold") / "templates"
    return {
        path.replace(PACKAGE, names.package): _Template(text).substitute(values)
        for folder in ("common", kind)
        for path, text in _walk(templates / folder, "")
    }


def write_plugin(names: PluginNames, kind: str, folder: Path) -> list[Path]:
    """Write a new plugin into *folder* and return the files, sorted.

    Raises:
        QueuekitError: The folder is not empty, or cannot be written to.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise QueuekitError(
            f"{folder} is not an empty folder; nothing was written", fix="Choose another folder:  --into FOLDER"
        )
    written = []
    try:
        for path, text in plugin_files(names, kind).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    except OSError as error:
        raise QueuekitError(f"cannot write to {folder}: {error.strerror}") from error
    return sorted(written)


def _walk(folder: Traversable, inside: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of each template below *folder*; ``dot-x`` becomes ``.x``, which tools would skip."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = entry.name.replace("dot-", ".", 1) if entry.name.startswith("dot-") else entry.name
        if entry.is_dir():
            yield from _walk(entry, f"{inside}{name}/")
        elif name.endswith(SUFFIX):
            yield f"{inside}{name.removesuffix(SUFFIX)}", entry.read_text(encoding="utf-8")


def _version() -> str:
    """Return the version of this queuekit, or the oldest if it is not installed."""
    try:
        return metadata.version("queuekit")
    except metadata.PackageNotFoundError:
        return "0.1"


def _values(names: PluginNames, kind: str) -> Mapping[str, str]:
    """Return the values of the placeholders in the templates."""
    version = _version().split(".")
    return {
        "name": names.name,
        "dist": names.dist,
        "package": names.package,
        "Stem": names.stem,
        "kind": kind,
        "api": str(API_VERSION),
        "range": f">={version[0]}.{version[1]},<{int(version[0]) + 1}",
        "methods": method_sources(kind),
        "capabilities": capability_lines(kind),
        "service": _SERVICE.format(name=names.name) if kind in ("broker", "backend") else "",
    }
