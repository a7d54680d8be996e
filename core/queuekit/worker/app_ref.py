"""Load an app from ``package.module:attribute``, with errors that say what to do."""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import attrs

from queuekit.app import Queuekit
from queuekit.errors import AppError, QueuekitError, did_you_mean, with_article
from queuekit.failure import in_words
from queuekit.values import frozen

__all__ = ["AppRef", "find_app", "import_from_here", "is_app"]

GUESSES = ("tasks", "app", "main")
"""Modules to try when no app is named."""


_CORE = Path(__file__).parents[1]
_ELSEWHERE = "Run it in the folder that holds the module, or name another module:  --app package.module:attribute"


@frozen(kw_only=True)
class AppRef:
    """A reference by which another process loads the same app with the same settings. It can be pickled."""

    target: str
    """``module:attribute``."""
    overrides: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    """Settings of the command line."""
    config_path: str | None = None
    file: str | None = None
    """Path of the running program, if it defines the app or a task and was not started with ``python -m``."""
    modules: tuple[str, ...] = ()
    """Other modules that define tasks of the app."""
    path: tuple[str, ...] = ()
    """The ``sys.path`` to use; empty: leave it unchanged."""

    def prepare(self, modules: Iterable[str]) -> None:
        """Import what :meth:`load` will need, and *modules*. Ignore errors: :meth:`load` reports them."""
        import_from_here()
        self._find_modules()
        for module in (*modules, *self.modules, self.target.partition(":")[0]):
            with suppress(Exception, SystemExit):
                importlib.import_module(module)

    def _find_modules(self) -> None:
        """Make modules importable as in the program that runs the worker, and the program itself by its name."""
        if self.path:
            sys.path[:] = self.path
        if self.file is not None and not any(isinstance(each, _Program) for each in sys.meta_path):
            sys.meta_path.append(_Program(self.file))

    def load(self) -> Queuekit:
        """Import the app and configure it.

        Raises:
            AppError: The module or attribute is missing, or importing the module raises.
            ConfigError: The app's settings cannot be used.
        """
        self._find_modules()
        for module in self.modules:
            _import(module, f"tasks of {module!r}")
        app = find_app(self.target)
        if self.overrides or self.config_path:
            app.configure(self.overrides, path=self.config_path)
        for module in app.config.include:
            _import(module, f"include names {module!r}")
        return app


class _Program(importlib.abc.MetaPathFinder):
    """Finds a program by the name of its file, in any folder."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.name = Path(file).stem

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the program; ``None`` for all other names."""
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._file)


def import_from_here() -> None:
    """Make modules of the current directory importable, as ``python -m`` does."""
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)


def find_app(target: str) -> Queuekit:
    """Return the app at *target*: ``module:attribute``, or ``module`` if it holds exactly one app.

    Modules of the current directory can be imported, as with ``python -m``.

    Raises:
        AppError: The app cannot be loaded. An error in the user's module is shown with the user's own line.
    """
    import_from_here()
    module_name, _, attribute = target.partition(":")
    module = _import(module_name, f"app = {target!r}")
    if not attribute:
        return _only_app(module, module_name)
    found: Any = module
    for part in attribute.split("."):
        if not _has(found, part, target, module_name):
            known = [name for name, value in vars(module).items() if is_app(value)]
            hint = did_you_mean(attribute, vars(module)) or "Name the attribute that holds Queuekit(...)"
            raise AppError(
                f"module {module_name!r} has no attribute {attribute!r}",
                where=f"  {module.__file__}",
                fix=hint[0].upper() + hint[1:],
                available=", ".join(f"{module_name}:{name}" for name in known),
            )
        found = getattr(found, part)
    if not isinstance(found, Queuekit):
        kind = with_article(type(found).__name__)
        raise AppError(f"{target!r} is {kind}, not a Queuekit app", fix="Name the attribute that holds Queuekit(...)")
    return found


def is_app(value: object) -> TypeGuard[Queuekit]:
    """Return whether *value* is an app. Unlike ``isinstance``, this does not trigger proxies in the user's module."""
    return issubclass(type(value), Queuekit)


def _has(holder: object, name: str, target: str, module: str) -> bool:
    """Return whether *holder* has an attribute; the user's module or class may compute it, and raise."""
    try:
        return hasattr(holder, name)
    except QueuekitError as error:
        _note_load(error)
        raise
    except Exception as error:
        raise _raised(f"{target!r} cannot be read", error, module=module) from error


def _only_app(module: ModuleType, name: str) -> Queuekit:
    apps = {key: value for key, value in vars(module).items() if is_app(value)}
    if len({id(value) for value in apps.values()}) == 1:
        return next(iter(apps.values()))
    if not apps:
        raise AppError(
            f"module {name!r} holds no Queuekit app", where=f"  {module.__file__}", fix="Add to it:  app = Queuekit()"
        )
    choices = " or ".join(f"{name}:{key}" for key in apps)
    raise AppError(f"module {name!r} has {len(apps)} apps: {', '.join(apps)}", fix=f"Use {choices}")


def _import(name: str, where: str) -> ModuleType:
    if not _exists(name):
        near = "" if "." in name else did_you_mean(name, _modules_here())
        fix = near[:1].upper() + near[1:] or _ELSEWHERE
        raise AppError(f"no module named {name!r}", where=f"  {where}, looked in {Path.cwd()}", fix=fix)
    try:
        return importlib.import_module(name)
    except QueuekitError as error:
        _note_load(error)
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _raised(f"module {name!r} raises when imported", error, module=name) from error


def _note_load(error: QueuekitError) -> None:
    """Add the user's own line to *error*, and give it the exit code of an app that cannot be loaded."""
    error.where = error.where or _own_frame(error)
    if error.exit_code == QueuekitError.exit_code:
        error.exit_code = AppError.exit_code


def _raised(what: str, error: BaseException, *, module: str) -> AppError:
    """Return an error that describes *error*, which the user's code in *module* raised."""
    text = in_words(error).split("\n", 1)[0]
    return AppError(f"{what}: {text}", where=_own_frame(error), fix=f"Reproduce it:  python -c 'import {module}'")


def _modules_here() -> list[str]:
    """Return the modules that can be imported from the current directory."""
    with contextlib.suppress(OSError):
        found = [path for path in Path.cwd().iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
        return [path.stem for path in found]
    return []


def _exists(name: str) -> bool:
    if any(isinstance(finder, _Program) and finder.name == name for finder in sys.meta_path):
        return True
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        # If the missing module is not a parent of this one, the parent exists and imports something missing.
        return not f"{name}.".startswith(f"{error.name}.")
    except Exception:  # noqa: BLE001 - a parent raises: importing the module reports the error
        return True


def _own_frame(error: BaseException) -> str:
    """Return the last line of the user's own code in the traceback of *error*."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    frames = [frame for frame in frames if not frame.filename.startswith("<")]  # code that attrs generated
    mine = [frame for frame in frames if _CORE not in Path(frame.filename).parents]
    if isinstance(error, SyntaxError) and error.filename:
        return f"  {error.filename}, line {error.lineno}: {(error.text or '').strip()}"
    return f"  {mine[-1].filename}, line {mine[-1].lineno}: {mine[-1].line}" if mine else ""
