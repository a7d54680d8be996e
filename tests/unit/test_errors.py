"""The tree of errors: each has a code, tells what to do, and crosses processes."""

import pickle
from collections.abc import Iterator

import pytest

from queuekit import errors
from queuekit.errors import PartialSendError, QueuekitError, TaskFailed, did_you_mean, with_article


def subclasses(kind: type[QueuekitError]) -> Iterator[type[QueuekitError]]:
    """Yield *kind* and all errors below it that the module defines."""
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


TREE = [kind for kind in subclasses(QueuekitError) if kind.__module__ == "queuekit.errors"]


def make(kind: type[QueuekitError]) -> QueuekitError:
    """Return an error with all four parts."""
    if kind is PartialSendError:
        return PartialSendError("what", failures={"a": "too large"}, fix="fix")
    return kind("what", where="  where", fix="fix", available="one, two")


def test_codes_are_unique() -> None:
    """A code leads to one error alone."""
    codes = [kind.code for kind in TREE]

    assert len(set(codes)) == len(codes)


def test_the_tree_in_the_docstring_is_complete() -> None:
    """Each error stands in the module's docstring with its code."""
    drawn = errors.__doc__ or ""

    missing = [kind.__name__ for kind in TREE[1:] if kind.__name__ not in drawn or kind.code not in drawn]

    assert not missing


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_survives_pickling(kind: type[QueuekitError]) -> None:
    """An error comes out of another process with its class, its text and its fields."""
    error = make(kind)

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(copy) is kind
    assert (str(copy), copy.args, vars(copy)) == (str(error), error.args, vars(error))


def test_keeps_what_was_added_to_it() -> None:
    """Attributes and notes that an error was given later cross processes as well."""
    error = TaskFailed("it failed")
    error.task_id, error.traceback = "id-1", "Traceback ..."
    error.add_note("seen by worker w")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (copy.task_id, copy.traceback, copy.__notes__) == ("id-1", "Traceback ...", ["seen by worker w"])


def test_says_what_where_fix_and_available() -> None:
    """The four parts come in this order, on lines of their own or in one."""
    error = QueuekitError("bad", where="  from a.toml", fix="Do this\nor that", available="x, y")

    assert error.lines() == ["bad", "  from a.toml", "Do this", "or that", "Available: x, y"]
    assert str(error) == "bad; from a.toml; Do this; or that; Available: x, y"


@pytest.mark.parametrize(
    ("what", "text"), [("refused.", "refused; fix."), ("refused", "refused; fix."), ("cut...", "cut...; fix.")]
)
def test_what_goes_on_has_no_full_stop_before(what: str, text: str) -> None:
    """A full stop of a client library's words does not stand before a semicolon."""
    assert str(QueuekitError(what, fix="fix.")) == text


def test_partial_send_names_each_refused_message() -> None:
    """The reasons stand under the ids."""
    error = PartialSendError("2 refused", failures={"a": "too large", "b": "bad queue"})

    assert error.failures == {"a": "too large", "b": "bad queue"}


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        pytest.param(errors.ArgumentsError, TypeError, id="arguments"),
        pytest.param(errors.EncodeError, TypeError, id="encode"),
        pytest.param(errors.DecodeError, ValueError, id="decode"),
        pytest.param(errors.TooLargeError, ValueError, id="too-large"),
        pytest.param(errors.UnknownIdError, LookupError, id="unknown-id"),
        pytest.param(errors.ResultTimeout, TimeoutError, id="timeout"),
        pytest.param(errors.UnavailableError, ConnectionError, id="unavailable"),
    ],
)
def test_is_caught_as_the_builtin_of_its_meaning(kind: type[QueuekitError], base: type[Exception]) -> None:
    """Code that knows nothing of queuekit catches the errors it would expect."""
    assert issubclass(kind, base)


@pytest.mark.parametrize(
    ("word", "hint"),
    [pytest.param("ad", "did you mean 'add'?", id="near"), pytest.param("zzz", "", id="far")],
)
def test_guesses_what_was_meant(word: str, hint: str) -> None:
    """A near miss is answered with the nearest word, anything else with nothing."""
    assert did_you_mean(word, ["add", "multiply"]) == hint


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("int", "an int"),
        ("Task", "a Task"),
        ("Order", "an Order"),
        ("UUID", "a UUID"),
        ("UnknownKind", "an UnknownKind"),
    ],
)
def test_gives_a_noun_its_article(noun: str, text: str) -> None:
    """As it is spoken."""
    assert with_article(noun) == text
