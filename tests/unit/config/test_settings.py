"""Settings: their defaults and values, checked in one report, and never showing a secret."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.config.settings import Config, LogConfig, WorkerConfig, check_sections, parse_queues
from queuekit.errors import ConfigError, QueuekitError
from queuekit.hookspecs import BrokerSpec, hookimpl
from queuekit.plugins.manager import Plugins
from support.settings import Load, loader, problems


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that loads the settings of a folder."""
    return loader(tmp_path)


@attrs.frozen
class RedisOptions:
    """Options of a plugin."""

    max_connections: int = 10
    password: str = ""


class RedisPlugin:
    """A plugin that owns the table ``[redis]``."""

    @hookimpl
    def queuekit_brokers(self) -> list[BrokerSpec]:
        """Return a broker with options."""
        return [BrokerSpec(schemes="redis", factory="a:B", options=RedisOptions)]


def redis_plugins(_config: Config | None = None) -> Plugins:
    """Return plugins that own the table ``[redis]``."""
    plugins = Plugins(only=[], environ={})
    plugins.register(RedisPlugin(), "acme")
    return plugins


# --- defaults and values ----------------------------------------------------------------------------------------------


def test_has_defaults_that_run(load: Load) -> None:
    """With nothing set, a file beside the program is the queue, and JSON the format."""
    config = load()

    assert (config.broker, config.backend, config.serializer) == ("sqlite:///.queuekit.db", None, "json")
    assert (config.accept, config.allow_unsafe, config.include, config.app) == (("json",), (), (), None)
    assert (config.results_expire, config.send_timeout, config.max_message_bytes) == (3600.0, 5.0, 1_048_576)
    assert config.worker == WorkerConfig(
        queues={"default": 1},
        concurrency=10,
        processes=1,
        pool="thread",
        drain=30.0,
        lease=30.0,
        max_deliveries=3,
        prefetch=1000,
        hold_unknown=3600.0,
    )
    assert config.log == LogConfig(level="INFO", format="text")
    assert (config.plugins.only, config.plugins.disable) == (None, ())


def test_defaults_follow_other_settings(load: Load) -> None:
    """A worker works on the default queue and reads the app's own format, unless told otherwise."""
    config = load(toml='default_queue = "mail"\nserializer = "pickle"')

    assert config.worker.queues == {"mail": 1}
    assert config.accept == ("pickle",)


def test_reads_every_kind_of_value(load: Load) -> None:
    """A file may hold all settings in the types of TOML, durations as people write them."""
    config = load(
        toml="""
        app = "shop:app"
        include = ["shop.tasks", "shop.mail"]
        broker = "redis://h/0"
        backend = "none"
        accept = ["json", "pickle"]
        results_expire = "1h30m"
        send_timeout = 2
        [worker]
        queues = { high = 8, low = 1 }
        concurrency = 4
        pool = "process"
        drain = "500ms"
        [log]
        level = "debug"
        format = "json"
        [plugins]
        disable = ["a"]
        only = []
        prefer.redis = "acme-redis"
        load = "shop.plugin"
        [redis]
        max_connections = 20
        """
    )

    assert (config.app, config.include, config.backend) == ("shop:app", ("shop.tasks", "shop.mail"), "none")
    assert (config.results_expire, config.send_timeout, config.worker.drain) == (5400.0, 2.0, 0.5)
    assert (config.worker.queues, config.worker.pool, config.log.level) == ({"high": 8, "low": 1}, "process", "DEBUG")
    assert (config.plugins.only, config.plugins.prefer) == ((), {"redis": "acme-redis"})
    assert (config.plugins.load, config.sections) == (("shop.plugin",), {"redis": {"max_connections": 20}})


@pytest.mark.parametrize(
    ("value", "queues"),
    [
        pytest.param("high:8,default:4", {"high": 8, "default": 4}, id="text"),
        pytest.param(" high : 8 , low ", {"high": 8, "low": 1}, id="spaces"),
        pytest.param(["high:8", "low"], {"high": 8, "low": 1}, id="list"),
        pytest.param({"high": 8}, {"high": 8}, id="table"),
        pytest.param({"high": "8"}, {"high": 8}, id="table-of-text"),
        pytest.param('{"high": 8}', {"high": 8}, id="json-table"),
        pytest.param('["high:8"]', {"high": 8}, id="json-list"),
        pytest.param("shop:mail:1", {"shop:mail": 1}, id="colon-in-name"),
        pytest.param({"shop:mail": 1}, {"shop:mail": 1}, id="colon-in-table"),
        pytest.param("shop:mail:3", {"shop:mail": 3}, id="colon-and-weight"),
    ],
)
def test_reads_queues(value: object, queues: dict[str, int]) -> None:
    """Queues come as text, list or table; one without a weight weighs 1."""
    assert parse_queues(value) == queues


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("", "expected queues such as", id="empty"),
        pytest.param(5, "expected queues such as", id="number"),
        pytest.param([1], "expected queues such as", id="list-of-numbers"),
        pytest.param("{", "expected queues such as", id="bad-json"),
        pytest.param("a:0", "expected a weight of 1 or more, got 0", id="no-weight"),
        pytest.param("mail:x", "'x' is not a weight, .* in 'mail:x'; .* write 'mail:x:1'", id="word-for-weight"),
        pytest.param(["low", "mail:1.5"], "'1.5' is not a weight", id="fraction-in-list"),
        pytest.param("mail:-1,low", "'-1' is not a weight", id="negative-weight"),
        pytest.param("mail:,low", "'' is not a weight", id="colon-and-nothing"),
        pytest.param(":3", "'' cannot name a queue", id="weight-of-nothing"),
        pytest.param({"a": "x"}, 'expected a weight of 1 or more, got "x"', id="word-in-table"),
        pytest.param({"a": 1.5}, "expected a weight of 1 or more, got 1.5", id="fraction"),
        pytest.param({"a": True}, "expected a weight of 1 or more, got true", id="bool"),
        pytest.param("a,b,a", "a queue is named twice", id="twice"),
        pytest.param("a b", "'a b' cannot name a queue", id="name"),
    ],
)
def test_refuses_queues(value: object, error: str) -> None:
    """What cannot be queues and weights is refused with what would do."""
    with pytest.raises(ValueError, match=error):
        parse_queues(value)


# --- reports ----------------------------------------------------------------------------------------------------------


def test_reports_all_problems_at_once(load: Load) -> None:
    """One error tells all that is wrong, a line each, ready to print."""
    with pytest.raises(ConfigError) as caught:
        load(toml='brokr = "redis://h"\n[worker]\nconcurrency = "eight"\npol = "process"\ndrain = "soon"')

    assert caught.value.lines() == [
        "4 problems in queuekit.toml",
        "brokr               unknown key, did you mean 'broker'?",
        "worker.pol          unknown key, did you mean 'worker.pool'?",
        'worker.concurrency  expected a whole number, got "eight"',
        'worker.drain        expected a duration such as 90, "1h30m" or "500ms", got "soon"',
    ]
    assert (caught.value.code, caught.value.exit_code) == ("QK101", 3)


def test_reports_one_problem_as_one(load: Load) -> None:
    """A single problem is not called problems."""
    with pytest.raises(ConfigError, match=r"^1 problem in Queuekit"):
        load(arguments={"brokr": "x"})


def test_keeps_a_long_report_short(load: Load) -> None:
    """Printed, a report has at most six lines; the error keeps all problems."""
    with pytest.raises(ConfigError) as caught:
        load(toml="\n".join(f"strange{number} = 1" for number in range(9)))

    lines = caught.value.lines()
    assert len(lines) == 6
    assert lines[-1] == "... and 5 more"
    assert len(caught.value.problems) == 9


def test_tells_sources_apart(load: Load) -> None:
    """Where problems come from several places, each line names its own."""
    with pytest.raises(ConfigError) as caught:
        load(
            toml="brokr = 1",
            environ={"QUEUEKIT_LOG__LEVEL": "LOUD"},
            arguments={"serialiser": "json"},
            overrides={"worker.concurrency": 0},
        )

    assert caught.value.lines() == [
        "4 problems in the settings",
        "brokr                unknown key, did you mean 'broker'? (queuekit.toml)",
        "serialiser           unknown key, did you mean 'serializer'? (Queuekit(...))",
        "worker.concurrency   expected 1 or more, got 0 (command line)",
        'QUEUEKIT_LOG__LEVEL  expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got "LOUD" (the environment)',
    ]


@pytest.mark.parametrize(
    ("toml", "key", "text"),
    [
        pytest.param(
            "concurrency = 4", "concurrency", "unknown key, did you mean 'worker.concurrency'?", id="no-table"
        ),
        pytest.param("worker = 4", "worker", "expected a table, e.g. worker.queues", id="no-worker-table"),
        pytest.param("[broker]\nurl = 1", "broker.url", "expected a value, got a table", id="table"),
        pytest.param("broker = 5", "broker", "expected text, got 5", id="number"),
        pytest.param('broker = "h:1"', "broker", "expected a URL such as", id="no-url"),
        pytest.param('backend = "h:1"', "backend", "expected a URL such as", id="no-backend-url"),
        pytest.param('default_queue = "a b"', "default_queue", "expected 1 to 120 characters", id="name"),
        pytest.param("include = 5", "include", "expected a list, got 5", id="list"),
        pytest.param('[worker]\npool = "gevent"', "worker.pool", 'expected "thread" or "process"', id="choice"),
        pytest.param("[worker]\nconcurrency = true", "worker.concurrency", "expected a whole number", id="bool"),
        pytest.param("[worker]\nprocesses = 1.5", "worker.processes", "expected a whole number", id="fraction"),
        pytest.param("[worker]\nlease = 0", "worker.lease", "expected 1 or more, got 0", id="least"),
        pytest.param('[worker]\nqueues = "a:0"', "worker.queues", "expected a weight of 1 or more", id="queues"),
        pytest.param("[log]\nlevel = 5", "log.level", "expected DEBUG, INFO,", id="level"),
        pytest.param("[plugins]\nprefer = 5", "plugins.prefer", "expected a table, got 5", id="prefer"),
    ],
)
def test_says_what_was_expected(load: Load, toml: str, key: str, text: str) -> None:
    """Each kind of mistake is named by key, with what was expected and what was there."""
    with pytest.raises(ConfigError) as caught:
        load(toml=toml)

    ((found_key, found_text),) = problems(caught.value)
    assert found_key == key
    assert found_text.startswith(text)


def test_never_reports_a_password(load: Load) -> None:
    """A value that does not fit is shown without its password."""
    with pytest.raises(ConfigError) as caught:
        load(toml='broker = "my_redis://u:hunter2@h"\naccept = {a = "redis://u:hunter2@h"}')

    assert "u:***@h" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# --- tables of plugins ------------------------------------------------------------------------------------------------


def test_checks_the_tables_of_plugins(load: Load) -> None:
    """Options that the plugin does not know, values that do not fit and tables of nobody are one report."""
    config = load(
        toml="[redis]\nmax_conections = 5\npassword = 5\n[wroker]\nconcurrency = 1\n[worker]\nconcurrency = 2",
        environ={"QUEUEKIT_REDIS__MAX_CONNECTIONS": "many", "QUEUEKIT_RADIS__X": "1"},
    )

    with pytest.raises(ConfigError) as caught:
        check_sections(config, redis_plugins())

    assert caught.value.lines() == [
        "5 problems in the settings",
        "redis.max_conections             unknown option of acme, did you mean 'max_connections'? (queuekit.toml)",
        'QUEUEKIT_REDIS__MAX_CONNECTIONS  expected a whole number, got "many" (the environment)',
        "redis.password                   expected text (queuekit.toml)",
        "wroker                           unknown table, did you mean 'worker'? (queuekit.toml)",
        "QUEUEKIT_RADIS__X                unknown table, did you mean 'redis'? (the environment)",
    ]


def test_accepts_the_tables_of_plugins(load: Load) -> None:
    """Tables that fit their plugins pass, whether from a file, a variable or an argument."""
    config = load(arguments={"redis": {"max_connections": 5}}, environ={"QUEUEKIT_REDIS__PASSWORD": "5"})

    check_sections(config, redis_plugins())

    assert config.origin("redis.max_connections") == "Queuekit(...)"


def test_reports_tables_with_the_rest(load: Load) -> None:
    """If other settings are bad, the report tells what is wrong with plugins' tables too."""
    with pytest.raises(ConfigError) as caught:
        load(toml="brokr = 1\n[redis]\nmax_conections = 5", plugins=redis_plugins)

    assert [key for key, _ in problems(caught.value)] == ["brokr", "redis.max_conections"]


def test_asks_no_plugins_without_need(load: Load) -> None:
    """Settings of core that fit are loaded without looking at plugins."""
    asked: list[Config] = []

    def plugins(config: Config) -> Plugins:
        asked.append(config)
        return redis_plugins()

    load(toml="[redis]\nmax_connections = 5", plugins=plugins)

    assert not asked


# --- showing ----------------------------------------------------------------------------------------------------------


def test_shows_no_secret(load: Load) -> None:
    """Neither ``repr`` nor the rows hold a password, wherever it was written."""
    config = load(
        toml="""
        broker = "redis://u:hunter2@h"
        backend = "mongodb://u:hunter2@h/d?tlsCertificateKeyFilePassword=hunter2"
        [redis]
        password = "hunter2"
        urls = ["redis://u:hunter2@h"]
        [redis.pool]
        api_token = "hunter2"
        """
    )

    shown = f"{config!r} {config.settings!r} {config.rows()!r}"

    assert "hunter2" not in shown
    assert "redis://u:***@h" in shown


def test_lists_rows(load: Load) -> None:
    """Each setting is a row: key, value for people, origin; tables of plugins come last."""
    config = load(
        toml='include = ["a", "b"]\n[worker]\nqueues = "high:8,low"\ndrain = 90\n[redis]\nmax_connections = 5',
        environ={"QUEUEKIT_BROKER": "redis://:pw@h"},
    )

    rows = {key: (value, origin) for key, value, origin in config.rows()}

    assert rows["broker"] == ("redis://:***@h", "QUEUEKIT_BROKER")
    assert rows["backend"] == ("the broker's", "default")
    assert rows["include"] == ("a, b", "queuekit.toml")
    assert rows["worker.queues"] == ("high:8,low:1", "queuekit.toml")
    assert rows["worker.drain"] == ("1m30s", "queuekit.toml")
    assert rows["worker.lease"] == ("30s", "default")
    assert rows["log.format"] == ("text", "default")
    assert rows["plugins.only"] == ("", "default")
    assert list(rows)[-1] == "redis.max_connections"
    assert rows["redis.max_connections"] == ("5", "queuekit.toml")


def test_can_be_made_by_hand() -> None:
    """A config needs no sources: defaults hold, and everything has the origin default."""
    config = Config(default_queue="mail")

    assert config.worker.queues == {"mail": 1}
    assert config.origin("default_queue") == "default"


@pytest.mark.parametrize(
    ("setting", "word", "hint"),
    [
        ("backend", "null", '"none" for no results'),
        ("backend", "off", '"none" for no results'),
        ("broker", "eager", "eager = true"),
        ("broker", "redis", "redis://localhost:6379/0"),
        ("broker", "hunter2@host", "***@host"),
    ],
)
def test_reads_the_words_of_other_projects(load: Load, setting: str, word: str, hint: str) -> None:
    """A word in the place of a URL is answered with what it is called here; a password in it is not shown."""
    with pytest.raises(ConfigError) as caught:
        load(toml=f'{setting} = "{word}"')

    assert hint in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_reports_core_and_plugins_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt key of core does not keep that of a plugin's table from being told, when an app reads its settings."""
    monkeypatch.chdir(tmp_path)
    Path("queuekit.toml").write_text("brokr = 1\n[sqlite]\nsink = 1\n", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        Queuekit().config  # noqa: B018 - reading it is what fails

    assert [problem.key for problem in caught.value.problems] == ["brokr", "sqlite.sink"]


@pytest.mark.parametrize(
    ("given", "ages", "counts"),
    [
        pytest.param({}, {}, {}, id="none"),
        pytest.param({"dead_max_age": "1d", "dead_max_count": "5"}, {"*": 86_400.0}, {"*": 5}, id="all"),
        pytest.param({"dead_max_age": {"mail": 60, "*": "1h"}}, {"mail": 60.0, "*": 3_600.0}, {}, id="table"),
        pytest.param({"dead_max_count": '{"mail": 0}'}, {}, {"mail": 0}, id="json"),
    ],
)
def test_bounds_are_those_of_all_queues_or_of_each(
    given: dict[str, Any], ages: dict[str, float], counts: dict[str, int]
) -> None:
    """One value, a table, or such a table as text, as in a variable."""
    config = WorkerConfig(**given)

    assert (config.dead_max_age, config.dead_max_count) == (ages, counts)


@pytest.mark.parametrize(
    "given",
    [
        {"dead_max_age": 0},
        {"dead_max_age": "soon"},
        {"dead_max_count": -1},
        {"dead_max_count": 1.5},
        {"dead_max_count": True},
        {"dead_max_count": {"no queue!": 1}},
        {"dead_max_age": "{"},
        {"dead_max_age": [1]},
    ],
    ids=str,
)
def test_what_bounds_nothing_is_refused(given: dict[str, Any]) -> None:
    """A duration of nothing, a number that is none, a name that no queue has."""
    with pytest.raises((ValueError, TypeError, QueuekitError)):
        WorkerConfig(**given)
