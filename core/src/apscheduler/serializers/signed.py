"""States that carry a signature: nothing is read that was not written with the key."""

import hmac
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from apscheduler.serializers import PickleSerializer, Serializer, SignatureError

MAGIC = b"APS-signed-1:"
DIGEST, DIGEST_SIZE = "sha256", 32
# Part of what is signed, so that a signature made with the same key elsewhere means nothing here.
PURPOSE = b"state of an APScheduler job\0"
MIN_KEY_BYTES = 16

Key = str | bytes


class SignedSerializer(Serializer):
    """Signs states with a key (HMAC-SHA256), and refuses those that were not written with one of its keys.

    The signature covers the whole state, the identifier of the job included.

    :param key: what to sign with, at least 16 bytes that nobody can guess
    :param key_file: a file with one key per line instead; the first line signs
    :param old_keys: keys whose signatures are still accepted
    :param format: how states become bytes before they are signed: a serializer, or the name of one
    :param allowed_callables: patterns of the functions and classes that jobs may refer to
    :raises ValueError: if there is no key, or it is too short
    """

    def __init__(
        self,
        key: Key | None = None,
        *,
        key_file: str | None = None,
        old_keys: Sequence[Key] = (),
        format: Serializer | str = "pickle",
        allowed_callables: Sequence[str] | None = None,
    ):
        if (key is None) == (key_file is None):
            raise ValueError("A signed serializer needs either 'key' or 'key_file'")
        if isinstance(old_keys, (str, bytes)):
            raise TypeError("'old_keys' must be a list of keys, but is a single one")
        keys = [key] if key is not None else list(_read_keys(str(key_file)))
        # Ready to sign with, and not to be seen in a listing of attributes.
        self._signers = [_signer(each) for each in (*keys, *old_keys)]
        self.format = _make_format(format, allowed_callables)
        self.allowed = self.format.allowed

    def __repr__(self) -> str:
        count = len(self._signers)
        return (
            f"<{type(self).__name__} ({count} key{'s' * (count > 1)}, {self.format!r})>"
        )

    def dumps(self, state: dict[str, Any]) -> bytes:
        return self.sign(self.format.dumps(state))

    def loads(self, data: bytes) -> dict[str, Any]:
        return self.format.loads(self.verify(data))

    def describe(self, data: bytes) -> dict[str, Any]:
        try:
            return self.format.describe(self.verify(data))
        except SignatureError as exc:
            exc.claimed = self._read_claim(data)
            raise

    def _read_claim(self, data: bytes) -> dict[str, Any] | None:
        """Return what a state says that is not signed: describing one runs nothing of it."""
        for format in (self.format, PickleSerializer()):
            with suppress(Exception):  # it is another format, or damaged
                return format.describe(payload_of(data))
        return None

    def is_current(self, data: bytes) -> bool:
        try:
            payload = self.verify(data)
        except SignatureError:
            return False
        # What was signed with an old key is not.
        return data == self.sign(payload) and self.format.is_current(payload)

    def sign(self, payload: bytes) -> bytes:
        """Return bytes of the format with a signature before them."""
        return MAGIC + self._digest(self._signers[0], payload) + payload

    def verify(self, data: bytes) -> bytes:
        """Return what was signed.

        :raises SignatureError: if that was not done with one of the keys, or the data has changed since
        """
        if not data.startswith(MAGIC):
            raise SignatureError(
                "The stored state is not signed: it was written without a key. If you trust what is in the store, "
                "'apscheduler resign --from pickle' signs it"
            )
        begin = len(MAGIC)
        digest, payload = (
            data[begin : begin + DIGEST_SIZE],
            data[begin + DIGEST_SIZE :],
        )
        for signer in self._signers:
            if hmac.compare_digest(digest, self._digest(signer, payload)):
                return payload
        raise SignatureError(
            "The signature of the stored state does not fit: it was written with another key, or changed since"
        )

    @staticmethod
    def _digest(signer: hmac.HMAC, payload: bytes) -> bytes:
        signing = signer.copy()
        signing.update(payload)
        return signing.digest()


def payload_of(data: bytes) -> bytes:
    """Return what is signed, if anything is, without looking who has done that."""
    if not data.startswith(MAGIC):
        return data
    return data[len(MAGIC) + DIGEST_SIZE :]


def _signer(key: object) -> hmac.HMAC:
    if not isinstance(key, (str, bytes)):
        raise TypeError(f"A key must be text or bytes, but is a {type(key).__name__}")
    content = key.encode() if isinstance(key, str) else key
    if len(content) < MIN_KEY_BYTES:
        raise ValueError(
            f"A key has {len(content)} bytes, but must have at least {MIN_KEY_BYTES} that cannot be guessed; make one "
            "by: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return hmac.new(content, PURPOSE, DIGEST)


def _read_keys(path: str) -> Iterator[str]:
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not text in UTF-8"
        raise ValueError(f"The key file {path!r} cannot be read: {reason}") from None
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"The key file {path!r} is empty: expected one key per line")
    yield from keys


def _make_format(
    value: Serializer | str, allowed_callables: Sequence[str] | None
) -> Serializer:
    if isinstance(value, Serializer):
        if allowed_callables is not None:
            raise ValueError(
                "Give 'allowed_callables' to the serializer that is the 'format', or name the format"
            )
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"'format' must be a serializer or the name of one, but is a {type(value).__name__}"
        )
    from apscheduler.plugins import load_component

    options: Mapping[str, Any] = (
        {} if allowed_callables is None else {"allowed_callables": allowed_callables}
    )
    cls = PickleSerializer if value == "pickle" else load_component("serializer", value)
    made = cls(**options)
    if not isinstance(made, Serializer):
        raise TypeError(f"{value!r} is no serializer, but a {type(made).__name__}")
    return made
