"""Nothing is read that was not written with the key, and nobody gets to see the key."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from apscheduler.jobstores.records import read_record
from apscheduler.serializers import PickleSerializer, SignatureError
from apscheduler.serializers.allowing import NotAllowedError
from apscheduler.serializers.json import JsonSerializer
from apscheduler.serializers.signed import SignedSerializer

KEY, OTHER = "k" * 16 + "-secret-one", "k" * 16 + "-secret-two"
STATE: dict[str, Any] = {
    "id": "a",
    "func": "somewhere:work",
    "name": "work",
    "trigger": None,
    "args": (1, "x"),
    "kwargs": {"b": 2},
}


class Trap:
    """Says so when it is unpickled."""

    opened = 0

    def __reduce__(self) -> Any:
        return _open_trap, ()


def _open_trap() -> None:
    Trap.opened += 1


@pytest.fixture(autouse=True)
def closed_trap() -> None:
    Trap.opened = 0


def test_what_was_written_with_the_key_is_read() -> None:
    data = SignedSerializer(KEY).dumps(STATE)

    assert SignedSerializer(KEY).loads(data) == STATE
    assert SignedSerializer(KEY.encode()).loads(data) == STATE
    assert SignedSerializer(KEY).dumps(STATE) == data


def test_what_was_written_with_another_key_is_refused() -> None:
    data = SignedSerializer(OTHER).dumps({**STATE, "args": Trap()})

    with pytest.raises(SignatureError, match="another key, or changed since"):
        SignedSerializer(KEY).loads(data)

    assert Trap.opened == 0


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_was_written_without_a_key_is_refused_and_not_unpickled(
    protocol: int,
) -> None:
    data = PickleSerializer(protocol).dumps({**STATE, "args": Trap()})

    with pytest.raises(SignatureError, match=r"not signed.*apscheduler resign"):
        SignedSerializer(KEY).loads(data)
    with pytest.raises(SignatureError):
        SignedSerializer(KEY).describe(data)

    assert Trap.opened == 0


def test_every_flipped_bit_and_every_missing_byte_is_noticed() -> None:
    serializer = SignedSerializer(KEY)
    data = serializer.dumps(STATE)

    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(SignatureError):
                serializer.loads(bytes(changed))
        with pytest.raises(SignatureError):
            serializer.loads(data[:place])
    for more in (data + b".", data + data, b"\0" + data):
        with pytest.raises(SignatureError):
            serializer.loads(more)


def test_a_signature_does_not_fit_another_state() -> None:
    serializer = SignedSerializer(KEY)
    one = serializer.dumps(STATE)
    other = serializer.dumps({**STATE, "id": "b"})
    head = len(one) - len(serializer.verify(one))

    with pytest.raises(SignatureError):
        serializer.loads(one[:head] + other[head:])


def test_a_signature_of_the_bare_state_with_the_same_key_is_not_enough() -> None:
    import hmac

    serializer = SignedSerializer(KEY)
    data = serializer.dumps(STATE)
    payload = serializer.verify(data)
    digest = hmac.digest(KEY.encode(), payload, "sha256")

    with pytest.raises(SignatureError):
        serializer.loads(data[: -len(payload) - len(digest)] + digest + payload)


def test_old_keys_are_read_and_the_new_one_writes() -> None:
    old, both = SignedSerializer(OTHER), SignedSerializer(KEY, old_keys=[OTHER])

    assert both.loads(old.dumps(STATE)) == STATE
    assert SignedSerializer(KEY).loads(both.dumps(STATE)) == STATE
    with pytest.raises(SignatureError):
        old.loads(both.dumps(STATE))


def test_keys_may_be_in_a_file_the_first_of_which_writes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"\n  {KEY}\r\n{OTHER}\n\n")
    serializer = SignedSerializer(key_file=str(file))

    assert SignedSerializer(KEY).loads(serializer.dumps(STATE)) == STATE
    assert serializer.loads(SignedSerializer(OTHER).dumps(STATE)) == STATE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs either 'key' or 'key_file'"),
        ({"key": KEY, "key_file": "x"}, "needs either 'key' or 'key_file'"),
        ({"key": ""}, "has 0 bytes, but must have at least 16"),
        ({"key": b""}, "has 0 bytes"),
        ({"key": "short-secret-"}, "has 13 bytes"),
        ({"key": KEY, "old_keys": [""]}, "has 0 bytes"),
        ({"key": KEY, "old_keys": OTHER}, "must be a list of keys"),
        ({"key": 5}, "must be text or bytes, but is a int"),
        ({"key_file": os.devnull}, "is empty"),
        ({"key_file": "/nowhere/at/all"}, "cannot be read: No such file"),
        ({"key": KEY, "format": 5}, "'format' must be a serializer"),
        ({"key": KEY, "format": "yaml"}, "No serializer named 'yaml'"),
        (
            {"key": KEY, "format": PickleSerializer(), "allowed_callables": ["a:b"]},
            "Give 'allowed_callables' to the serializer",
        ),
    ],
)
def test_keys_and_options_that_cannot_be_used_are_refused_without_showing_keys(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)) as caught:
        SignedSerializer(**options)

    assert message in str(caught.value)
    assert "secret-" not in str(caught.value)


def test_nobody_gets_to_see_the_keys() -> None:
    serializer = SignedSerializer(KEY, old_keys=[OTHER])
    errors = []
    for data in (b"", b"x", serializer.dumps(STATE)[:-1]):
        with pytest.raises(SignatureError) as caught:
            serializer.loads(data)
        errors.append(repr(caught.value))

    shown = f"{serializer!r} {serializer} {vars(serializer)} {errors}"

    assert "secret-" not in shown
    assert "2 keys" in shown


def test_the_format_may_be_json_and_the_list_holds_for_it() -> None:
    plain = SignedSerializer(KEY, format="json")
    strict = SignedSerializer(KEY, format="json", allowed_callables=["os:getpid"])

    assert isinstance(plain.format, JsonSerializer)
    assert plain.loads(plain.dumps(STATE)) == STATE
    with pytest.raises(NotAllowedError):
        strict.loads(plain.dumps(STATE))
    allowed = {**STATE, "func": "os:getpid"}
    assert strict.loads(plain.dumps(allowed)) == allowed


def test_a_signature_does_not_replace_the_allow_list() -> None:
    strict = SignedSerializer(KEY, allowed_callables=["os:getpid"])
    data = SignedSerializer(KEY).dumps({**STATE, "func": "os:getpid", "args": Trap()})

    with pytest.raises(NotAllowedError):
        strict.loads(data)

    assert Trap.opened == 0


@pytest.mark.parametrize("writer", [PickleSerializer(), SignedSerializer(OTHER)])
def test_listings_say_what_a_refused_job_claims_to_be_and_why_it_is_refused(
    writer: Any,
) -> None:
    data = writer.dumps({**STATE, "args": Trap()})

    record = read_record("a", None, data, SignedSerializer(KEY), None)

    assert (record.name, record.func) == ("work", "somewhere:work")
    assert record.error is not None and record.error.startswith("SignatureError: The")
    assert Trap.opened == 0


def test_listings_of_signed_jobs_unpickle_nothing_of_them() -> None:
    data = SignedSerializer(KEY).dumps({**STATE, "args": Trap()})

    record = read_record("a", None, data, SignedSerializer(KEY), None)

    assert (record.name, record.error) == ("work", None)
    assert Trap.opened == 0


def test_listings_show_bytes_that_are_nothing_as_an_error() -> None:
    record = read_record("a", None, b"nothing", SignedSerializer(KEY), None)

    assert record.name is None
    assert record.error is not None and "not signed" in record.error


def test_a_record_with_the_state_of_another_job_is_shown_as_an_error() -> None:
    serializer = SignedSerializer(KEY)

    record = read_record("b", None, serializer.dumps(STATE), serializer, None)

    assert record.error is not None and "the state of another one, 'a'" in record.error
