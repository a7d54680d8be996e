"""The options given before a command, and the app that they select.

Methods import core when they need it, so that ``queuekit --help`` is quick.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from queuekit.errors import AppError, ConfigError, QueuekitError, UnavailableError
from queuekit.logs.plaintext import clean
from queuekit.urls import is_secret, mask

if TYPE_CHECKING:
    from queuekit.app import Queuekit
    from queuekit.config.settings import Config
    from queuekit.operations.admin import Admin
    from queuekit.plugins.manager import Plugins
    from queuekit.worker.app_ref import AppRef

__all__ = ["Session", "need_shared"]


class Session:
    """One run of ``queuekit``."""

    def __init__(self) -> None:
        self.target: str | None = None
        """``module:attribute`` of the app, from ``--app``."""
        self.config_path: str | None = None
        self.overrides: dict[str, object] = {}
        """Settings of the command line, by dotted name."""
        self.started_as: tuple[str, ...] = ()
        """What was typed instead of ``queuekit --app``, where another program runs this one with an app of its own."""
        self.quiet = False
        """Whether hints are left out."""
        self.full_traceback = False
        self.guessed = False
        """Whether the app was found only by a usual module name."""
        self.opened: list[Queuekit] = []
        """Apps to close at the end."""
        self.forks = False
        """Whether this process is the program and nothing else, so that it may fork."""
        self._origin = "command line"

    def say(self, text: str) -> None:
        """Print a hint on standard error, unless ``--quiet`` was given."""
        if not self.quiet:
            click.echo(clean(text, lines=True), err=True)

    def command(self, rest: str, *, without: Container[str] = ()) -> str:
        """Return a command line ready to paste: ``queuekit``, the options that this one was given, and *rest*."""
        words = list(self.started_as or ["queuekit"])
        if self.target is not None and not self.guessed and not self.started_as:
            words += ["--app", self.target]
        if self.config_path is not None:
            words += ["--config", self.config_path]
        for name, value in self.overrides.items():
            if name in without:
                continue
            words += ["--set", f"{name}={'***' if is_secret(name) else mask(str(value))}"]
        return clean(f"{shlex.join(words)} {rest}")

    def arguments(self) -> list[str]:
        """Return the options that this command line was given, for a process of ours; they may hold passwords."""
        app = [] if self.target is None or self.guessed else ["--app", self.target]
        config = [] if self.config_path is None else ["--config", self.config_path]
        debug = ["--full-traceback"] if self.full_traceback else []
        settings = [word for name, value in self.overrides.items() for word in ("--set", f"{name}={value}")]
        return [*app, *config, *settings, *debug]

    def worker_command(self, queues: Iterable[str]) -> str:
        """Return the command that starts a worker for *queues*."""
        from queuekit.config.settings import queue_list

        return self.command(f"worker -q {shlex.quote(queue_list(queues))}", without=("worker.queues",))

    def config(self) -> Config:
        """Return the settings in effect without an app."""
        from queuekit.config.settings import load_config, plugins_of

        config = load_config(
            arguments={},
            overrides=self.overrides,
            path=self.config_path,
            environ=os.environ,
            directory=Path.cwd(),
            plugins=plugins_of,
        )
        if config.plugins.load:
            from queuekit.worker.app_ref import import_from_here

            import_from_here()
        return config

    def prepare_fork(self) -> int:
        """Import the engines that the app may use; return how many worker processes to fork before the app is known.

        None where this process may not fork. The app's own settings are not known yet, so it may need more or fewer.
        """
        if not self.forks:
            return 0
        from queuekit.config.settings import DEFAULT, plugins_of

        try:
            config = self.config()
        except QueuekitError:  # raised again when the app is loaded
            return 0
        plugins, urls = plugins_of(config), [config.broker, config.backend or ""]
        if config.origin("broker") == DEFAULT:  # an app that has its own URL mostly has it from a variable
            urls += os.environ.values()
        for scheme in {url.partition("://")[0] for url in urls if "://" in url}:
            plugins.import_engine(scheme)
        return config.worker.processes

    def plugins(self) -> Plugins:
        """Return the plugins that the config allows; if it cannot be used, those that the environment allows."""
        from queuekit.config.settings import plugins_of
        from queuekit.plugins.manager import Plugins

        try:
            return plugins_of(self.config())
        except QueuekitError:
            return Plugins()

    def app(self) -> tuple[Queuekit, AppRef]:
        """Return the app, and the reference by which another process loads it.

        Raises:
            AppError: No app is named and none can be guessed, or it cannot be imported.
            ConfigError: Its settings cannot be used.
        """
        ref = self._ref()
        if ref is None:
            from queuekit.worker.app_ref import GUESSES

            usual = f"{', '.join(f'{name}.py' for name in GUESSES[:-1])} or {GUESSES[-1]}.py"
            raise AppError(
                "no app to run",
                where=f"no --app, no QUEUEKIT_APP, no app in queuekit.toml, no {usual} with an app in this folder",
                fix="Name it:  queuekit --app module:attribute ...\nOr create one:  queuekit init",
            )
        try:
            app = ref.load()
        except AppError as error:
            shown = f"app = {ref.target!r}"
            error.where = error.where.replace(shown, f"{shown} from {self._origin}", 1)
            raise
        self.opened.append(app)
        return app, ref

    def any_app(self, *, lenient: bool = False) -> Queuekit:
        """Return the app; if none is named or can be guessed, one that has the settings but no tasks.

        Args:
            lenient: Whether to continue without an app that cannot be loaded, after a hint.
        """
        try:
            # If --config names a file without an app, an app in this folder has nothing to do with it.
            if self._ref(guess=self.config_path is None) is not None:
                return self.app()[0]
        except QueuekitError as error:
            if not lenient or isinstance(error, ConfigError):
                raise
            self.say(f"Continuing without the app and its settings: {error}")
        from queuekit.app import Queuekit

        app = Queuekit()
        app.configure(self.overrides, path=self.config_path)
        self.opened.append(app)
        if not lenient:
            self._tell_default(app)
        return app

    def shared_app(self) -> Queuekit:
        """Return :meth:`any_app`, whose engines other processes can see.

        Raises:
            CapabilityError: An engine lives inside one process, so other processes cannot see it.
        """
        app = self.any_app()
        need_shared(app)
        return app

    def _tell_default(self, app: Queuekit) -> None:
        """Print which broker is used if none is configured, unless the output is JSON."""
        from queuekit.config.settings import DEFAULT
        from queuekit.config.sources import FOUND

        config = app.runtime.config  # an error in it comes first
        context = click.get_current_context(silent=True)
        if config.origin("broker") != DEFAULT or (context is not None and context.params.get("as_json")):
            return
        written = self.config_path is not None or any(Path(name).is_file() for name in FOUND)
        what = "No app here, and the config names no broker" if written else "No app and no config file here"
        self.say(f"{what}; using the default:  {config.url('broker')}")

    def admin(self) -> Admin:
        """Return the operator's interface to the app, or to the engines of the config.

        Raises:
            CapabilityError: An engine lives inside one process, so other processes cannot see it.
        """
        from queuekit.operations.admin import Admin

        return Admin(self.shared_app())

    def locate(self, error: UnavailableError) -> None:
        """Add the configured URLs, and where they are configured, to *error*."""
        if error.where or not self.opened:
            return
        from queuekit.urls import mask

        config = self.opened[-1].config
        urls = {"broker": config.broker, "backend": config.backend}
        rows = [f'{name} = "{mask(url)}" from {config.origin(name)}' for name, url in urls.items() if url is not None]
        error.where = "\n".join(rows)

    def close(self) -> None:
        """Close all apps that were opened."""
        while self.opened:
            self.opened.pop().close()

    def _ref(self, *, guess: bool = True) -> AppRef | None:
        """Return the reference to the app: the one that is named, else a guess."""
        from queuekit.worker.app_ref import AppRef

        target = self.target
        if target is None:
            config = self.config()
            target, self._origin = config.app, config.origin("app")
        if target is None and guess:
            target = _guess()
            self.guessed = target is not None
        if target is None:
            return None
        _reject_path(target)
        return AppRef(target=target, overrides=self.overrides, config_path=self.config_path)


def need_shared(app: Queuekit) -> None:
    """Refuse engines that live inside one process; see :func:`queuekit.client.requirements.require_shared`."""
    from queuekit.client.requirements import require_shared

    require_shared(app.runtime)


def _guess() -> str | None:
    """Return the first module with a usual name in this folder that holds an app.

    Raises:
        AppError: Such a module cannot be imported, or holds several apps.
    """
    from queuekit.worker.app_ref import GUESSES, find_app, is_app

    for name in GUESSES:
        if not (Path(f"{name}.py").is_file() or Path(name, "__init__.py").is_file()):
            continue
        try:
            find_app(name)
        except QueuekitError:
            module = sys.modules.get(name)
            if module is None or any(is_app(value) for value in vars(module).values()):
                raise
        else:
            return name
    return None


def _reject_path(target: str) -> None:
    """Raise an error with the module's name if *target* is the path of a file."""
    module, _, attribute = target.partition(":")
    if module.endswith(".py") or "/" in module:
        dotted = module.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        meant = f"{dotted}:{attribute}" if attribute else dotted
        raise AppError(f"{target!r} is a file, not a module", fix=f"Did you mean {meant!r}?")
