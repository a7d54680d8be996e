"""The file in which a conformance run tells how each test came out."""

import json
from typing import Any

import pytest

pytest_plugins = ["pytester"]

THIRD_PARTY = """
    import attrs
    import pytest
    from queuekit.engines.memory import MemoryBroker
    from queuekit.testing import BrokerConformance
    from queuekit.urls import EngineURL

    URL = EngineURL.parse("memory://third-party")

    class ThirdParty(MemoryBroker):
        capabilities = attrs.evolve(MemoryBroker.capabilities, commit=False)
        queues = lambda self: []

    class TestThirdParty(BrokerConformance):
        '''Queues of a third party.'''

        EMULATOR = {"test_lists_its_queues": "it knows none"}
        url = URL

        def against(self):
            return {"Third": "7.0"}

        def make_broker(self):
            return ThirdParty(URL)

        def test_is_its_own(self, broker):
            pass

        def test_extends_a_lease(self, broker):
            pass

        @pytest.mark.parametrize("fine", [True, False])
        def test_closes_twice(self, broker, fine):
            assert fine
"""
TESTS = "commits_a_whole or lists_its_queues or hides_what_is_leased or is_its_own or extends_a_lease or closes_twice"


@pytest.fixture
def told(pytester: pytest.Pytester) -> dict[str, Any]:
    """Return what a run tells of its only suite."""
    pytester.makepyfile(test_third_party=THIRD_PARTY)
    options = ("-p", "queuekit.testing", "--queuekit-conformance-report", "kept/report.json")

    pytester.runpytest_inprocess(*options, "-k", TESTS)

    report = json.loads((pytester.path / "kept" / "report.json").read_text(encoding="utf-8"))
    assert list(report["suites"]) == ["TestThirdParty"]
    suite: dict[str, Any] = report["suites"]["TestThirdParty"]
    return suite


def test_tells_what_ran_against_what(told: dict[str, Any]) -> None:
    """The suite by its words, the scheme, versions as the author gives them, the level."""
    assert [told[name] for name in ("about", "of", "scheme", "against", "level")] == [
        "Queues of a third party.",
        "brokers",
        "memory",
        {"Third": "7.0"},
        1,
    ]
    assert "fifo" in told["capabilities"]
    assert "commit" not in told["capabilities"]


def test_tells_how_each_test_came_out(told: dict[str, Any]) -> None:
    """By area; the worst of a test with parameters counts, and the author's own tests do not."""
    outcomes = {word: names for area in told["areas"].values() for word, names in area.items()}

    assert {word: names for word, names in outcomes.items() if word != "not declared"} == {
        "passed": ["test_hides_what_is_leased"],
        "failed": ["test_closes_twice"],
        "not proved": ["test_lists_its_queues"],
        "rewritten": ["test_extends_a_lease"],
    }
    assert outcomes["not declared"]


def test_tells_why_a_test_proves_nothing(told: dict[str, Any]) -> None:
    """Which capability is not declared, and what the imitation cannot do."""
    reasons = set(told["reasons"].values())

    assert reasons == {"commit", "it knows none"}


def test_writes_nothing_unasked(pytester: pytest.Pytester) -> None:
    """Without the option a run leaves no file, and reports carry nothing more."""
    pytester.makepyfile(test_third_party=THIRD_PARTY)
    pytester.makeconftest('pytest_plugins = ["queuekit.testing"]')

    result = pytester.runpytest_inprocess("-k", "hides_what_is_leased")

    result.assert_outcomes(passed=1)
    assert not list(pytester.path.glob("**/*.json"))
