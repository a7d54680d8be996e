"""What is said of a module of tasks that cannot be imported: the line of the user's own that is to blame."""

from pathlib import Path

import pytest

from queuekit.errors import QueuekitError
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
