"""Loading settings from a folder, with nothing set but what a test passes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from queuekit.config.settings import Config, load_config
from queuekit.errors import ConfigError
from queuekit.plugins.manager import Plugins

Load = Callable[..., Config]


def loader(folder: Path) -> Load:
    """Return a function that loads the settings of *folder*."""

    def load_settings(
        *,
        toml: str | None = None,
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        path: str | None = None,
        plugins: Callable[[Config], Plugins] | None = None,
    ) -> Config:
        if toml is not None:
            (folder / "queuekit.toml").write_text(toml)
        return load_config(
            arguments=arguments or {},
            overrides=overrides or {},
            path=path,
            environ=environ or {},
            directory=folder,
            plugins=plugins,
        )

    return load_settings


def problems(error: ConfigError) -> list[tuple[str, str]]:
    """Return key and text of each problem of a report."""
    return [(problem.key, problem.text) for problem in error.problems]
