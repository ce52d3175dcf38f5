"""From one serializer to another: what is in a store is written anew, piece by piece, whatever else goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apscheduler.jobstores.restore import check_identity
from apscheduler.jobstores.serializing import SerializingJobStore, StoredState
from apscheduler.serializers import Serializer
from apscheduler.serializers.allowing import state_in
from apscheduler.serializers.signed import SignedSerializer

# What others change meanwhile is looked at again; so often in a row is no coincidence.
MAX_PASSES = 20


@dataclass(frozen=True)
class Resigned:
    """What was done about the state of a job.

    :ivar run_id: the run that the state is kept with; None: it is that of the job itself
    :ivar was_current: it was as the serializer writes it already
    :ivar error: why it cannot be written anew, and was left as it is
    """

    job_id: str
    run_id: str | None
    was_current: bool = False
    error: Exception | None = None


def resign(
    store: SerializingJobStore,
    sources: Sequence[Serializer] = (),
    dry_run: bool = False,
) -> Iterator[Resigned]:
    """Write every state in a store as its serializer does, and say what became of each.

    Each is written only if it is still what was read. What is signed with an old key of the serializer is signed
    with the new one. Bytes are not loaded where the format stays the same.

    :param sources: serializers that states may have been written with; whatever they accept is trusted
    :param dry_run: write nothing
    """
    target = store.serializer
    known = [target, *sources] if isinstance(target, SignedSerializer) else [*sources]
    done: set[tuple[str, str | None]] = set()
    for _ in range(MAX_PASSES):
        changed: list[StoredState] = []
        for state in store.read_states():
            place = state.job_id, state.run_id
            if place in done:
                continue
            try:
                data = convert(state, target, known)
                is_written = data is None or dry_run or store.replace_state(state, data)
            except Exception as exc:  # damaged bytes may raise anything
                done.add(place)
                yield Resigned(*place, error=exc)
                continue
            if not is_written:
                changed.append(state)
                continue
            done.add(place)
            yield Resigned(*place, was_current=data is None)
        if not changed:
            return
    for state in changed:
        error = RuntimeError(f"Others have changed it {MAX_PASSES} times in a row")
        yield Resigned(state.job_id, state.run_id, error=error)


def convert(
    state: StoredState, target: Serializer, sources: Sequence[Serializer]
) -> bytes | None:
    """Return a state as a serializer writes it, None if it is written so already.

    :raises Exception: if none of the serializers has written it, or it is the state of another job
    """
    if target.is_current(state.data):
        _check(target, state.data, state.job_id)
        return None
    format = _format_of(target)
    errors: list[Exception] = []
    for source in sources:
        try:
            payload = _open(source, state.data)
            if type(_format_of(source)) is not type(format):
                _check(_format_of(source), payload, state.job_id)
                payload = format.dumps(_format_of(source).loads(payload))
            _check(format, payload, state.job_id)
        except Exception as exc:  # perhaps another one has written it
            errors.append(exc)
            continue
        return target.sign(payload) if isinstance(target, SignedSerializer) else payload
    if errors:
        raise errors[0]
    raise ValueError(
        "The stored state is not what the serializer writes, and it is not known what has written it"
    )


def _format_of(serializer: Serializer) -> Serializer:
    return serializer.format if isinstance(serializer, SignedSerializer) else serializer


def _open(source: Serializer, data: bytes) -> bytes:
    """Return what is inside a signature, or the data itself where there should be none."""
    return source.verify(data) if isinstance(source, SignedSerializer) else data


def _check(serializer: Serializer, data: bytes, job_id: str) -> None:
    """Check that something is the state of a job, without running anything of it.

    :raises Exception: if it is not
    """
    check_identity(job_id, state_in(serializer.describe(data))["id"])
