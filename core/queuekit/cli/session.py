"""What the options before a command say, and the app that they lead to.

Core is imported by the methods that need it, so that ``queuekit --help`` costs little.
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
        self.quiet = False
        """Whether hints are left out."""
        self.full_traceback = False
        self.guessed = False
        """Whether the app was found by the usual names of modules alone."""
        self.opened: list[Queuekit] = []
        """Apps to close at the end."""
        self._origin = "command line"

    def say(self, text: str) -> None:
        """Print talk, unless the user wants none."""
        if not self.quiet:
            click.echo(clean(text, lines=True), err=True)

    def command(self, rest: str, *, without: Container[str] = ()) -> str:
        """Return a command line ready to paste: ``queuekit``, what this one was told to use, and *rest*."""
        words = ["queuekit"]
        if self.target is not None and not self.guessed:
            words += ["--app", self.target]
        if self.config_path is not None:
            words += ["--config", self.config_path]
        for name, value in self.overrides.items():
            if name in without:
                continue
            words += ["--set", f"{name}={'***' if is_secret(name) else mask(str(value))}"]
        return f"{shlex.join(words)} {rest}"

    def worker_command(self, queues: Iterable[str]) -> str:
        """Return the command that starts a worker for *queues*."""
        return self.command(f"worker -q {shlex.quote(','.join(queues))}", without=("worker.queues",))

    def config(self) -> Config:
        """Return the settings as they are without an app."""
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

    def plugins(self) -> Plugins:
        """Return the plugins under the rules of the config; if that cannot be used, under those of the environment."""
        from queuekit.config.settings import plugins_of
        from queuekit.plugins.manager import Plugins

        try:
            return plugins_of(self.config())
        except QueuekitError:
            return Plugins()

    def app(self) -> tuple[Queuekit, AppRef]:
        """Return the app, and how another process finds it.

        Raises:
            AppError: None is named and none can be guessed, or it cannot be imported.
            ConfigError: Its settings cannot be used.
        """
        ref = self._ref()
        if ref is None:
            from queuekit.worker.app_ref import GUESSES

            usual = f"{', '.join(f'{name}.py' for name in GUESSES[:-1])} or {GUESSES[-1]}.py"
            raise AppError(
                "no app to run",
                where=f"no --app, no QUEUEKIT_APP, no app in queuekit.toml, no {usual} with an app here",
                fix="Name it:  queuekit --app module:attribute ...\nOr begin a new one:  queuekit init",
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
        """Return the app, or one without tasks where none is named or can be guessed: its settings are enough.

        Args:
            lenient: Whether an app that cannot be loaded is talked of and left out, too.
        """
        try:
            # A config file that was named and names no app is not about the one that happens to lie here.
            if self._ref(guess=self.config_path is None) is not None:
                return self.app()[0]
        except QueuekitError as error:
            if not lenient or isinstance(error, ConfigError):
                raise
            self.say(f"Without the app and its own settings: {error}")
        from queuekit.app import Queuekit

        app = Queuekit()
        app.configure(self.overrides, path=self.config_path)
        self.opened.append(app)
        if not lenient:
            self._tell_default(app)
        return app

    def _tell_default(self, app: Queuekit) -> None:
        """Say where a command looks if nobody has named a broker, unless the answer is for a program."""
        from queuekit.config.settings import DEFAULT
        from queuekit.config.sources import FOUND

        config = app.runtime.config  # an error in it comes first
        context = click.get_current_context(silent=True)
        if config.origin("broker") != DEFAULT or (context is not None and context.params.get("as_json")):
            return
        written = self.config_path is not None or any(Path(name).is_file() for name in FOUND)
        what = "No app here, and the config names no broker" if written else "No app and no config file here"
        self.say(f"{what}, so this is about the default:  {config.url('broker')}")

    def admin(self) -> Admin:
        """Return an operator's view of the app, or of what the config names.

        Raises:
            CapabilityError: An engine lives in one process, so there is nothing to see from here.
        """
        from queuekit.operations.admin import Admin

        app = self.any_app()
        need_shared(app)
        return Admin(app)

    def locate(self, error: UnavailableError) -> None:
        """Add to *error* which URLs are configured, and where."""
        if error.where or not self.opened:
            return
        from queuekit.urls import mask

        config = self.opened[-1].config
        urls = {"broker": config.broker, "backend": config.backend}
        rows = [f'{name} = "{mask(url)}" from {config.origin(name)}' for name, url in urls.items() if url is not None]
        error.where = "\n".join(rows)

    def close(self) -> None:
        """Close what was opened."""
        while self.opened:
            self.opened.pop().close()

    def _ref(self, *, guess: bool = True) -> AppRef | None:
        """Return where the app is: as named, else as guessed."""
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
    """Return the first module of the usual names, here, that holds an app.

    Raises:
        AppError: One of them cannot be imported, or holds several.
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
    """Refuse the name of a file where that of a module is wanted, and say how it is written."""
    module, _, attribute = target.partition(":")
    if module.endswith(".py") or "/" in module:
        dotted = module.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        meant = f"{dotted}:{attribute}" if attribute else dotted
        raise AppError(f"{target!r} is a file; an app is named by module", fix=f"Did you mean {meant!r}?")
