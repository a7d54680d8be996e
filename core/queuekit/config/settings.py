"""The settings of an app: read once from all sources, validated as a whole, then frozen.

Sources by priority: the command line, ``QUEUEKIT_*`` variables, the arguments of ``Queuekit(...)``, one file
(``--config``, ``QUEUEKIT_CONFIG``, ``queuekit.toml``, ``queuekit.yaml`` or ``[tool.queuekit]`` in ``pyproject.toml``),
the defaults. The table of a plugin, e.g. ``[redis]``, is stored as written and validated once plugins are loaded.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import validators

from queuekit import durations
from queuekit.config import sizes
from queuekit.config.sources import ENVIRONMENT, Setting, from_environ, from_file, from_mapping
from queuekit.durations import Seconds
from queuekit.errors import ConfigError, PluginError
from queuekit.ids import is_name, plain
from queuekit.plugins.foreign import meant_by
from queuekit.plugins.manager import Plugins
from queuekit.plugins.options import Mismatch, Problem, at_least, convert, read, report, settable, unknown
from queuekit.urls import EngineURL, is_secret, mask
from queuekit.values import frozen
from queuekit.wire.signing import SHORTEST_KEY, SigningKey

__all__ = [
    "DEFAULT",
    "Config",
    "LogConfig",
    "PluginsConfig",
    "WorkerConfig",
    "check_sections",
    "load_config",
    "parse_queues",
    "plugins_of",
    "queue_list",
]

EVERY_QUEUE = "*"
"""Name of all queues that a table of bounds does not name."""
NO_BACKEND = "none"
"""Value of ``backend`` that turns results off."""
DEFAULT = "default"
"""Origin of a value that is not set anywhere."""
COMMAND_LINE = "command line"
ARGUMENTS = "Queuekit(...)"
_URL = 'a URL such as "redis://host/0" or "sqlite:///queue.db"'
_LONGEST_VERSION = 100
_HIGHEST_PORT = 65_535
_QUEUES = 'queues such as "high:8,default:4"'


def parse_queues(value: object) -> dict[str, int]:
    """Return queue names and their weights.

    Args:
        value: ``"high:8,default"``, a list of such items, or a table of names and weights; the default weight is 1.

    Raises:
        ValueError: A name or a weight is not valid, a name occurs twice, or there is none.
    """
    if isinstance(value, str):
        text = value.strip()
        value = _json(text) if text.startswith(("{", "[")) else text.split(",")
    pairs = _pairs(value)
    queues = {name: _weight(weight) for name, weight in pairs}
    if not queues:
        raise Mismatch(_QUEUES, value)
    if len(queues) < len(pairs):
        raise ValueError("a queue is named twice")
    if bad := [name for name in queues if not is_name(name)]:
        raise ValueError(f"{bad[0][:60]!r} cannot name a queue: use 1 to 120 characters out of A-Z a-z 0-9 _ . : -")
    return queues


def queue_list(names: Iterable[str]) -> str:
    """Return text that :func:`parse_queues` reads as *names*; one that has a colon needs its weight."""
    return ",".join(f"{name}:1" if ":" in name else name for name in names)


def _pairs(value: object) -> list[tuple[str, object]]:
    """Return names and weights from a table or a list."""
    if isinstance(value, Mapping):
        return [(plain(name) if isinstance(name, str) else str(name), weight) for name, weight in value.items()]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return [_weighted(item.strip()) for item in value if item.strip()]
    raise Mismatch(_QUEUES, value)


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Mismatch(_QUEUES, text) from error
    return value


def _weighted(item: str) -> tuple[str, object]:
    """Split ``name:weight``.

    Raises:
        ValueError: What follows the last colon is not a weight; it may be the end of a name, or misspelt.
    """
    name, colon, weight = (part.strip() for part in item.rpartition(":"))
    if not colon:
        return item, 1
    if not weight.isdecimal():
        fix = f"; if it belongs to the name, write '{item[:60]}:1'" if weight and is_name(item) else ""
        raise ValueError(f"{weight[:60]!r} is not a weight, a whole number such as 3, in {item[:60]!r}{fix}")
    return name, weight


def _weight(weight: object) -> int:
    number = int(weight) if isinstance(weight, str) and weight.isdecimal() else weight
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1_000_000:  # noqa: PLR2004
        raise Mismatch("a weight of 1 or more", number)
    return number


def _check_url(_instance: Any, field: attrs.Attribute[Any], value: str | None) -> None:
    if value is None or (field.name == "backend" and value == NO_BACKEND):
        return
    try:
        EngineURL.parse(value)
    except ConfigError as error:
        wanted = meant_by(value, field.name) or _URL
        # Without a scheme, the text before the host may contain a password.
        shown = value if "://" in value or "@" not in value else f"***@{value.rpartition('@')[2]}"
        raise Mismatch(wanted, shown) from error


def _check_name(_instance: Any, _field: attrs.Attribute[Any], value: str) -> None:
    if not is_name(value):
        raise Mismatch("1 to 120 characters out of A-Z a-z 0-9 _ . : -", value)


def _check_app_version(_instance: Any, _field: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and not 1 <= len(value) <= _LONGEST_VERSION:
        raise Mismatch(f"1 to {_LONGEST_VERSION} characters", value)


def _signing_keys(value: Any) -> tuple[SigningKey, ...]:
    """Return the keys of a list, or of text: JSON, or separated by commas or lines. No error shows one."""
    texts = value
    if isinstance(value, str):
        if value.lstrip().startswith(("{", '"')):
            raise ValueError('looks like JSON that is not a list; write a list of keys, ["..."], or the keys alone')
        listed = value if value.lstrip().startswith("[") else ",".join(value.split("\n"))
        with contextlib.suppress(ValueError):
            texts = convert(tuple[str, ...], listed)
        if not listed.strip(" ,\t\r"):
            raise ValueError("holds no key, and without one nothing is signed")
    if not isinstance(texts, list | tuple):
        raise ValueError("expected a list of keys")  # noqa: TRY004 - settings are not valid by ValueError
    keys = tuple(one if isinstance(one, SigningKey) else SigningKey(_secret(one)) for one in texts)
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("a key is named twice")
    return keys


def _signing(value: Any) -> Literal["require", "accept"]:
    """Return *value* if it is valid; the error does not show it, since it may be a key that stands in a wrong place."""
    match value:
        case "require":
            return "require"
        case "accept":
            return "accept"
        case _:
            raise ValueError('expected "require" or "accept"')


def _secret(value: Any) -> bytes:
    secret = value.strip().encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
    if len(secret) < SHORTEST_KEY:
        raise ValueError(f"a key is shorter than {SHORTEST_KEY} characters; make one:  openssl rand -hex 32")
    return secret


def _level(value: Any) -> Any:
    return value.strip().upper() if isinstance(value, str) else value


def _check_level(_instance: Any, _field: attrs.Attribute[Any], value: Any) -> None:
    if value not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise Mismatch("DEBUG, INFO, WARNING, ERROR or CRITICAL", value)


def _hidden(sections: Mapping[str, Mapping[str, Any]]) -> str:
    return repr({name: {key: _masked(key, value) for key, value in table.items()} for name, table in sections.items()})


def _masked(key: str, value: Any) -> Any:
    """Return *value* without secrets."""
    if is_secret(key):
        return "***"
    if isinstance(value, Mapping):
        return {name: _masked(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(key, item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _by_queue(value: object) -> Mapping[str, Any]:
    """Return a bound, or a table of bounds by queue, as such a table; ``*`` is any other queue."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _json(value)
    table = value if isinstance(value, Mapping) else {} if value is None else {EVERY_QUEUE: value}
    if bad := [name for name in table if name != EVERY_QUEUE and not is_name(name)]:
        raise ValueError(f"{str(bad[0])[:60]!r} cannot name a queue; * stands for all that are not named")
    return table


def _ages(value: object) -> dict[str, float]:
    return {plain(name): _age(one) for name, one in _by_queue(value).items()}


def _counts(value: object) -> dict[str, int]:
    return {plain(name): _count(one) for name, one in _by_queue(value).items()}


def _age(value: Any) -> float:
    seconds = durations.parse(value)
    if seconds <= 0:
        raise Mismatch("a duration above 0, such as 30d", value)
    return seconds


def _count(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    if type(number) is not int or number < 0:
        raise Mismatch("a whole number of 0 or more", value)
    return number


def _size(value: object) -> int | None:
    """Return an amount of memory in bytes; ``None`` if none is given."""
    if value is None:
        return None
    try:
        return sizes.parse(value)
    except ValueError:
        raise Mismatch(sizes.EXAMPLES, value) from None


def _health_port(value: Any) -> str | None:
    """Return a port, an address or a path as text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    host, colon, port = str(value).strip().rpartition(":")
    valid = "/" in str(value) or (port.isascii() and port.isdecimal() and int(port) <= _HIGHEST_PORT)
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if isinstance(value, bool) or not isinstance(value, str | int) or not valid or (colon and not host) or bare:
        raise Mismatch("a port, HOST:PORT or the path of a socket", value)
    return str(value).strip()


@frozen(kw_only=True)
class WorkerConfig:
    """The table ``[worker]``.

    Attributes:
        queues: Queues to serve and their weights; default: the ``default_queue``.
        concurrency: Tasks that one process runs at a time.
        processes: Worker processes.
        pool: Where plain functions run: in threads, or in child processes, which can be killed.
        drain: Seconds that running tasks get to finish when the worker stops.
        lease: Seconds without renewal after which a worker's messages are delivered again.
        schedules: Whether the worker may become the scheduler leader, which sends the ticks of all schedules.
        max_deliveries: Crashes after which a message is dead-lettered.
        prefetch: Most messages that wait in a worker beyond the running ones.
        max_tasks: Bodies after which the process that runs them is replaced; default: no bound.
        max_rss: Bytes of memory above which a worker process, or a child process that runs bodies, is replaced between
            two bodies; also text such as ``500MB`` or ``1.5GiB``; default: no bound.
        max_age: Seconds after which a worker process is replaced; default: no bound.
        health_port: Port for health probes on 127.0.0.1, ``"HOST:PORT"``, or the path of a Unix socket; default: no
            probes.
        stuck_after: Seconds without a move of a loop after which the probe ``/livez`` fails.
        hold_unknown: Seconds until a message with an unknown task, or one that workers cannot read, is dead-lettered.
        dead_max_age: Seconds after which a dead letter is dropped, or a table of these by queue, in which ``*`` is any
            other queue; default: never.
        dead_max_count: Most dead letters of a queue, or a table of these by queue; beyond that, the oldest are dropped;
            default: no bound.
    """

    queues: Mapping[str, int] = attrs.field(factory=lambda: {"default": 1}, converter=parse_queues)
    concurrency: int = attrs.field(default=10, validator=at_least(1))
    processes: int = attrs.field(default=1, validator=at_least(1))
    pool: Literal["thread", "process"] = "thread"
    drain: Seconds = 30.0
    lease: Seconds = attrs.field(default=30.0, validator=at_least(1))
    schedules: bool = True
    max_deliveries: int = attrs.field(default=3, validator=at_least(1))
    prefetch: int = attrs.field(default=1000, validator=at_least(0))
    max_tasks: int | None = attrs.field(default=None, validator=validators.optional(at_least(1)))
    max_rss: int | None = attrs.field(default=None, converter=_size)
    max_age: Seconds | None = attrs.field(default=None, validator=validators.optional(at_least(1)))
    health_port: str | None = attrs.field(default=None, converter=_health_port)
    stuck_after: Seconds = attrs.field(default=30.0, validator=at_least(1))
    hold_unknown: Seconds = 3600.0
    dead_max_age: Mapping[str, float] = attrs.field(factory=dict, converter=_ages)
    dead_max_count: Mapping[str, int] = attrs.field(factory=dict, converter=_counts)


@frozen(kw_only=True)
class LogConfig:
    """The table ``[log]``.

    Attributes:
        level: Lowest level that is logged.
        format: Plain text, or one JSON object per line.
    """

    level: str = attrs.field(default="INFO", converter=_level, validator=_check_level)
    format: Literal["text", "json"] = "text"


@frozen(kw_only=True)
class PluginsConfig:
    """The table ``[plugins]``.

    Attributes:
        disable: Entry points or distributions that must not load; ``"*"`` for all.
        only: The only ones that may load.
        prefer: Distribution that serves a scheme, by scheme; default: none.
        load: Modules to load as plugins that are not installed as such.
    """

    disable: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    prefer: Mapping[str, str] = attrs.field(factory=dict)
    load: tuple[str, ...] = ()


TABLES: dict[str, type] = {"worker": WorkerConfig, "log": LogConfig, "plugins": PluginsConfig}


@frozen(kw_only=True)
class Config:
    """All settings; nothing in ``repr`` or :meth:`rows` shows a secret.

    Attributes:
        app: App to run, ``"module:attribute"``.
        include: Modules with tasks that a worker imports.
        app_version: Version of your app, e.g. a commit, which ``queuekit workers`` shows for each worker; at most 100
            characters.
        broker: URL of the broker; its scheme chooses the plugin.
        backend: URL of the result backend; ``None``: the broker's, if that engine is also a backend; ``"none"``: no
            results.
        serializer: Writes arguments and results.
        accept: Serializers whose messages a worker reads; default: ``serializer``.
        allow_unsafe: Serializers that are allowed although they can execute code from a message.
        default_queue: Queue of tasks that set none.
        results_expire: Seconds for which a result is kept.
        graphs_expire: Seconds for which a workflow, and results that a callback waits for, are kept between two steps.
        eager: Whether a send runs the task at once, in this process, on a private engine: for tests and debugging.
        check_types: Whether a send checks each argument against its annotation; on in tests that use the fixture
            ``queue``.
        send_timeout: Seconds after which a send fails if the broker does not answer; includes connecting, but not name
            resolution.
        signing_keys: Keys that sign messages, workflows and schedules: the first signs, all verify; default: nothing is
            signed.
        signing: What to do with unsigned messages if there are keys: refuse them, or run them while a fleet is changed
            over.
        max_message_bytes: Longest body of a message, in bytes.
        redact: Names of arguments, and of keys inside arguments, whose values no command shows, e.g. ``password``.
        worker: The table ``[worker]``; default: its defaults, and the ``default_queue`` to serve.
        log: The table ``[log]``.
        plugins: The table ``[plugins]``.
        sections: Tables of plugins, as written; default: none.
        settings: All values that are set, by dotted key; default: none.
        folder: Base of relative file paths that are not set in a config file; default: the current directory.
    """

    app: str | None = None
    include: tuple[str, ...] = ()
    app_version: str | None = attrs.field(default=None, validator=_check_app_version)
    broker: str = attrs.field(default="sqlite:///.queuekit.db", validator=_check_url, repr=mask)
    backend: str | None = attrs.field(default=None, validator=_check_url, repr=lambda url: mask(str(url)))
    serializer: str = "json"
    accept: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: (self.serializer,), takes_self=True))
    allow_unsafe: tuple[str, ...] = ()
    default_queue: str = attrs.field(default="default", validator=_check_name)
    results_expire: Seconds = 3600.0
    graphs_expire: Seconds = 86_400.0
    eager: bool = False
    check_types: bool = False
    send_timeout: Seconds = 5.0
    signing_keys: tuple[SigningKey, ...] = attrs.field(default=(), converter=_signing_keys)
    signing: Literal["require", "accept"] = attrs.field(default="require", converter=_signing)
    max_message_bytes: int = attrs.field(default=1_048_576, validator=at_least(1))
    redact: tuple[str, ...] = ()
    worker: WorkerConfig = attrs.field(
        default=attrs.Factory(lambda self: WorkerConfig(queues={self.default_queue: 1}), takes_self=True)
    )
    log: LogConfig = LogConfig()
    plugins: PluginsConfig = PluginsConfig()
    sections: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=_hidden)
    settings: Mapping[str, Setting] = attrs.field(factory=dict, repr=False, eq=False)
    folder: Path = attrs.field(factory=Path.cwd, repr=False, eq=False)

    def origin(self, key: str) -> str:
        """Return where the value of *key*, e.g. ``"worker.drain"``, comes from: a file, a variable, ``"default"``."""
        return self.settings[key].origin if key in self.settings else DEFAULT

    def url(self, key: str, *, of: str = "") -> EngineURL:
        """Return the URL in the setting *key*; a relative file path starts from the folder of its config file.

        Args:
            key: ``"broker"`` or ``"backend"``.
            of: Setting to name in errors, if not *key*.

        Raises:
            ConfigError: The value is not a valid URL.
        """
        folder = self.settings[key].folder if key in self.settings else None
        return EngineURL.parse(getattr(self, key), setting=of or key).placed(folder or self.folder)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (key, value without secrets, origin) of every setting, core's first; the value is empty if not set."""
        values = {name: getattr(self, name) for name in LEAVES}
        for table, kind in TABLES.items():
            values |= {f"{table}.{name}": getattr(getattr(self, table), name) for name in settable(kind)}
        for table, options in self.sections.items():
            values |= {f"{table}.{name}": value for name, value in options.items()}
        return [(key, _row(key, value), self.origin(key)) for key, value in values.items()]


LEAVES = tuple(name for name in settable(Config) if name not in {*TABLES, "sections", "settings", "folder"})
"""Names of the settings that are not in a table."""
_DURATIONS = frozenset(
    {
        "results_expire",
        "graphs_expire",
        "send_timeout",
        "worker.drain",
        "worker.lease",
        "worker.hold_unknown",
        "worker.max_age",
    }
)
_TABLES_BY_QUEUE = frozenset({"worker.queues", "worker.dead_max_age", "worker.dead_max_count"})


def _row(key: str, value: Any) -> str:
    """Return the value of *key* as ``config show`` prints it."""
    if value is None:
        return "the broker's" if key == "backend" else ""
    if key in _DURATIONS:
        return durations.format(value)
    if key == "worker.max_rss":
        return sizes.format(value)
    if key in _TABLES_BY_QUEUE:
        shown = durations.format if key == "worker.dead_max_age" else str
        return ",".join(f"{name}:{shown(one)}" for name, one in value.items())
    if key == "signing_keys":
        return ", ".join(f"*** (id {one.id})" for one in value)
    return _text(_masked(key, value))


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def load_config(
    *,
    arguments: Mapping[str, Any],
    overrides: Mapping[str, Any],
    path: str | None,
    environ: Mapping[str, str],
    directory: Path,
    plugins: Callable[[Config], Plugins] | None = None,
) -> Config:
    """Return the settings of an app.

    Args:
        arguments: Settings from ``Queuekit(...)``, tables as mappings; ``None`` means not given.
        overrides: Settings from the command line, e.g. ``{"worker.concurrency": 4}``; they override all others.
        path: Config file from the command line; ``None`` searches for one.
        environ: Environment variables.
        directory: Folder to search for files.
        plugins: Creates the plugins, so that a report of other problems includes those of plugin tables.

    Raises:
        ConfigError: Some settings are not valid (one error lists all), or a file cannot be read.
    """
    tables = {name: tuple(settable(kind)) for name, kind in TABLES.items()}
    settings, problems = from_environ(environ, known=LEAVES, tables=tables)
    layers = [
        from_file(path or environ.get("QUEUEKIT_CONFIG") or None, directory=directory),
        from_mapping(arguments, origin=ARGUMENTS),
        settings,
        from_mapping(overrides, origin=COMMAND_LINE),
    ]
    chosen, misplaced = _merge(layers)
    config, unfit = _build(chosen)
    problems += misplaced + unfit
    if "signing" in chosen and not config.signing_keys and not any("signing_keys" in one.key for one in problems):
        problems.append(Problem(chosen["signing"].key, "is set, and signing_keys is not", chosen["signing"].source))
    if problems and plugins is not None:
        # A plugin that cannot be loaded is reported later, once the settings are valid.
        with contextlib.suppress(PluginError):
            problems += _section_problems(config, plugins(config))
    if problems:
        raise report(problems)
    return config


def plugins_of(config: Config) -> Plugins:
    """Return the plugins under the rules of *config*."""
    rules = config.plugins
    return Plugins(only=rules.only, disable=rules.disable, prefer=rules.prefer, load=rules.load)


def _merge(layers: Iterable[Iterable[Setting]]) -> tuple[dict[str, Setting], list[Problem]]:
    """Return the setting of the last layer for each key, and the problems of misplaced settings."""
    chosen: dict[str, Setting] = {}
    problems: list[Problem] = []
    for setting in itertools.chain.from_iterable(layers):
        problem = _misplaced(setting)
        if problem is None:
            chosen[".".join(setting.path)] = setting
        else:
            problems.append(problem)
    return chosen, problems


def check_sections(config: Config, plugins: Plugins) -> None:
    """Check the tables of plugins against the plugins' options.

    Raises:
        ConfigError: A table or an option is unknown, or a value is not valid; one error lists all problems.
    """
    if problems := _section_problems(config, plugins):
        raise report(problems)


def _misplaced(setting: Setting) -> Problem | None:
    """Return the problem if a setting is in the wrong place; its value is checked later."""
    head, *rest = setting.path
    if head in TABLES:
        text = _misplaced_in(head, rest)
    elif head in LEAVES:
        text = "expected a value, got a table" if rest else ""
    else:
        text = "" if rest else unknown(head, _all_keys())
    return Problem(setting.key, text, setting.source) if text else None


def _misplaced_in(table: str, rest: Sequence[str]) -> str:
    """Return what is wrong with the place of a setting in *table*, or an empty text."""
    names = settable(TABLES[table])
    if not rest:
        return f"expected a table, e.g. {table}.{next(iter(names))}"
    return "" if rest[0] in names else unknown(f"{table}.{rest[0]}", _all_keys())


def _all_keys() -> list[str]:
    return [*LEAVES, *(f"{table}.{name}" for table, kind in TABLES.items() for name in settable(kind))]


def _build(chosen: Mapping[str, Setting]) -> tuple[Config, list[Problem]]:
    """Return the config built from the valid settings, and the problems of the others."""
    raw: dict[str, dict[str, Any]] = {}
    for setting in chosen.values():
        table, name = ("", *setting.path)[-2:]  # "" stands for the settings that are not in a table
        raw.setdefault(table, {})[name] = setting.value
    top, bad = read(Config, raw.pop("", {}))
    found = {name: read(kind, raw.pop(name, {})) for name, kind in TABLES.items()}
    bad |= {f"{table}.{name}": text for table, (_, texts) in found.items() for name, text in texts.items()}
    worker = {"queues": {top.get("default_queue", "default"): 1}, **found["worker"][0]}
    config = Config(
        **top,
        worker=WorkerConfig(**worker),
        log=LogConfig(**found["log"][0]),
        plugins=PluginsConfig(**found["plugins"][0]),
        sections=raw,
        settings=chosen,
    )
    return config, [Problem(chosen[key].key, text, chosen[key].source) for key, text in bad.items()]


def _section_problems(config: Config, plugins: Plugins) -> list[Problem]:
    problems = []
    for name, table in config.sections.items():
        for key, text in plugins.check_table(name, table, others=TABLES).items():
            setting = config.settings[f"{name}.{key or next(iter(table))}"]
            # Name the variable itself, but a whole table of a file by the table's name.
            shown = setting.key if key or setting.source == ENVIRONMENT else name
            problems.append(Problem(shown, text, setting.source))
    return problems
