"""Signatures of bodies and records."""

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.config.settings import load_config
from queuekit.envelope import join_frame, split_frame
from queuekit.errors import ConfigError
from queuekit.wire.signing import Signing, SigningKey, UnsignedError, key_id_in

KEY, OTHER = SigningKey(b"k" * 40), SigningKey(b"o" * 40)
BODY = join_frame({"v": 1, "id": "a", "task": "t", "ct": "json", "headers": {"a": 'b"sig":"}'}}, b'{"args":[1]}\n\n')


def signing(*keys: SigningKey, required: bool = True) -> Signing:
    """Return a signer with these keys, or with one."""
    return Signing(keys or (KEY,), required=required)


def test_a_signed_body_reads_as_before() -> None:
    """A process that knows nothing of signatures ignores the entry."""
    header, payload = split_frame(signing().signed_message(BODY))

    assert header.pop("sig").startswith(KEY.id)
    assert (header, payload) == split_frame(BODY)


def test_every_bit_counts() -> None:
    """No changed bit, in the header, the signature or the payload, passes."""
    mine, body = signing(), signing().signed_message(BODY)
    mine.check_message(body)

    for at in range(len(body)):
        for bit in (1, 32):
            wrong = body[:at] + bytes([body[at] ^ bit]) + body[at + 1 :]
            with pytest.raises(UnsignedError):
                mine.check_message(wrong)


@pytest.mark.parametrize("length", [0, 1, 61, 62, 63, 100])
def test_a_body_that_was_cut_is_refused(length: int) -> None:
    """And so is one without a header."""
    with pytest.raises(UnsignedError):
        signing().check_message(signing().signed_message(BODY)[:length])


def test_a_record_is_bound_to_its_key() -> None:
    """Its body is that of no other record, and of no message."""
    mine = signing()
    record = mine.signed_record(Record(key="graph:a", body=BODY))
    mine.check_record(record)

    with pytest.raises(UnsignedError, match="graph:b"):
        mine.check_record(attrs.evolve(record, key="graph:b"))
    with pytest.raises(UnsignedError):
        mine.check_message(record.body)
    with pytest.raises(UnsignedError):
        mine.check_record(Record(key="", body=mine.signed_message(BODY)))


def test_a_record_that_is_signed_again_has_one_signature() -> None:
    """By the first key, whoever had signed it before."""
    old = signing(OTHER).signed_record(Record(key="a", body=BODY))

    new = signing(KEY, OTHER).signed_record(old)

    assert key_id_in(new.body) == KEY.id
    assert new.body.count(b'"sig":"%b' % KEY.id.encode()) == 1
    assert new == signing().signed_record(Record(key="a", body=BODY))


def test_the_first_key_signs_and_all_verify() -> None:
    """A key that is not among them is named by its id."""
    signing(OTHER, KEY).check_message(signing(KEY).signed_message(BODY))

    with pytest.raises(UnsignedError, match=OTHER.id):
        signing(KEY).check_message(signing(OTHER).signed_message(BODY))


def test_what_cannot_be_signed_says_so() -> None:
    """An operator cannot sign bytes without a header."""
    for body in (b"", b"\n", b"x\n", b"x" * 100_000):
        with pytest.raises(UnsignedError):
            signing().signed_again(body)


TEXT = "abcdefghij-this-is-shown-nowhere-0123"


def config(environ: dict[str, str] | None = None, **arguments: Any) -> Any:
    """Return settings."""
    return load_config(arguments=arguments, overrides={}, path=None, environ=environ or {}, directory=Path(os.devnull))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([TEXT, TEXT[::-1]], id="list"),
        pytest.param(f"{TEXT}, {TEXT[::-1]}", id="text"),
        pytest.param(f'["{TEXT}", "{TEXT[::-1]}"]', id="json"),
        pytest.param(f'[\n  "{TEXT}",\n  "{TEXT[::-1]}"\n]\n', id="json-in-lines"),
        pytest.param(f"{TEXT}\r\n{TEXT[::-1]}\r\n", id="lines"),
        pytest.param(f"\n{TEXT},\n\n{TEXT[::-1]}\n", id="lines-with-commas"),
    ],
)
def test_keys_come_as_a_list_or_as_text(value: Any) -> None:
    """As from a file or from the environment."""
    keys = config(signing_keys=value).signing_keys

    assert [key.secret.decode() for key in keys] == [TEXT, TEXT[::-1]]
    assert config({"QUEUEKIT_SIGNING_KEYS": value} if isinstance(value, str) else None, signing_keys=value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        pytest.param({"signing_keys": [TEXT[:31]]}, "shorter than 32", id="short"),
        pytest.param({"signing_keys": TEXT[:31]}, "shorter than 32", id="short-text"),
        pytest.param({"signing_keys": [TEXT, TEXT]}, "named twice", id="twice"),
        pytest.param({"signing_keys": [TEXT], "signing": TEXT}, 'expected "require" or "accept"', id="misplaced"),
        pytest.param({"signing_keys": [TEXT, 5]}, "shorter than 32", id="number"),
        pytest.param({"signing_keys": {"first": TEXT}}, "expected a value", id="table"),
        pytest.param({"signing_keys": f'["{TEXT}'}, "a list of keys", id="bad-json"),
        pytest.param({"signing_keys": f'{{"first": "{TEXT}"}}'}, "not a list; write a list", id="json-object"),
        pytest.param({"signing_keys": f'\n {{"a": "{TEXT}",'}, "not a list; write a list", id="bad-json-object"),
        pytest.param({"signing_keys": f'"{TEXT}"'}, "not a list; write a list", id="json-text"),
        pytest.param({"signing_keys": ""}, "holds no key", id="empty-text"),
        pytest.param({"signing_keys": " \n,\n"}, "holds no key", id="blank-text"),
        pytest.param({"signing": "accept"}, "signing_keys is not", id="no-keys"),
        pytest.param({"signing": "require", "signing_keys": []}, "signing_keys is not", id="empty"),
    ],
)
def test_settings_that_are_not_valid_are_refused_without_showing_a_key(settings: dict[str, Any], text: str) -> None:
    """At the start, in one error."""
    with pytest.raises(ConfigError) as caught:
        config(**settings)

    assert text in str(caught.value)
    assert TEXT[:20] not in f"{caught.value!r} {caught.value}"


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    """Else a secret that was not filled in would turn signing off, and nobody would notice."""
    (tmp_path / "keys").write_text("\n")

    with pytest.raises(ConfigError, match="QUEUEKIT_SIGNING_KEYS_FILE  holds no key"):
        config({"QUEUEKIT_SIGNING_KEYS_FILE": str(tmp_path / "keys")})


def test_no_text_shows_a_key() -> None:
    """Neither ``repr`` nor ``config show``; they show its id."""
    app = Queuekit(broker="memory://", signing_keys=[TEXT])
    keys = app.config.signing_keys

    texts = [repr(app.config), str(app.config.rows()), repr(keys), repr(app.runtime), repr(app.runtime.signing)]

    assert TEXT not in " ".join(texts)
    assert {key: value for key, value, _ in app.config.rows()}["signing_keys"] == f"*** (id {keys[0].id})"
