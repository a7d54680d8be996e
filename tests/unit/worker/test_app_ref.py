"""What is said of a module of tasks that cannot be imported: the line of the user's own that is to blame."""

from pathlib import Path

import pytest

from queuekit.errors import AppError, QueuekitError, UnavailableError
from queuekit.worker.app_ref import find_app

MODULES = {
    "ours": 'from queuekit import Queuekit\n\napp = Queuekit()\n\n\n@app.task(timeout="xx")\ndef f() -> None: ...\n',
    "cron": 'from queuekit import Queuekit, cron\n\napp = Queuekit()\nwhen = 1\n\ncron("61 * * * *")\n',
}


@pytest.mark.parametrize(("name", "text"), MODULES.items(), ids=MODULES)
def test_the_line_of_the_user_is_named(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What core found at an import is shown with where it stands, not where core found it."""
    module = f"blamed_{name}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(QueuekitError) as caught:
        find_app(f"{module}:app")

    assert caught.value.where.startswith(f"  {tmp_path / module}.py, line 6: ")


APP = "from queuekit import Queuekit, cron\nfrom queuekit.errors import NoBackendError\n\napp = Queuekit()\n"
RAISE = {
    "duration": "app.task(timeout='xx')(len)",
    "declaration": "app.task(3)",
    "setting": "app.configure({'worker.concurency': 3}).config",
    "option": "app.task(prio=1)(len)",
    "schedule": "cron('61 * * * *')",
    "name": "app.task(queue='a b')(len)",
    "no-backend": "raise NoBackendError('no backend')",
    "exit": "raise SystemExit(0)",
    "no-exception": "class Stop(BaseException): ...\nraise Stop('now')",
}


@pytest.mark.parametrize(("name", "text"), RAISE.items(), ids=RAISE)
def test_what_an_import_raises_means_that_the_app_cannot_be_loaded(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a module of the user raises has the exit code of an app that cannot be loaded."""
    module = f"raises_{name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(f"{APP}{text}\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(QueuekitError) as caught:
        find_app(f"{module}:app")

    assert caught.value.exit_code == AppError.exit_code


def test_an_attribute_that_is_made_when_asked_for_may_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a module's ``__getattr__`` is told as one of the user's module."""
    (tmp_path / "made.py").write_text("def __getattr__(name):\n    raise RuntimeError('no ' + name)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(AppError, match="'made:app' cannot be read: RuntimeError: no app") as caught:
        find_app("made:app")

    assert caught.value.where == f"  {tmp_path / 'made.py'}, line 2: raise RuntimeError('no ' + name)"


def test_an_engine_that_is_down_at_an_import_keeps_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that sends as it is imported fails as any send does."""
    (tmp_path / "sends.py").write_text(
        "from queuekit.errors import UnavailableError\n\nraise UnavailableError('down')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UnavailableError) as caught:
        find_app("sends:app")

    assert caught.value.exit_code == UnavailableError.exit_code
