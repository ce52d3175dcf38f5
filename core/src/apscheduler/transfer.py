"""Jobs as JSON, to move them from one store to another."""

import base64
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, TextIO

import apscheduler
from apscheduler.job import Job
from apscheduler.util import obj_to_ref, ref_to_obj

if TYPE_CHECKING:
    from apscheduler.serializers.allowing import AllowList

CLASS, STATE, PICKLE = (
    "__apscheduler_class__",
    "__apscheduler_state__",
    "__apscheduler_pickle__",
)
VERSION = 1


def write_jobs(jobs: Iterable[Job], outfile: TextIO | str | PathLike[str]) -> None:
    """Write jobs as one JSON object.

    :raises ValueError: if the callable of a job cannot be referred to by name
    """
    # Made in full before the file is touched: a job that cannot be written must not cost an older export.
    states = ", ".join(map(_encode_job, jobs))
    version = json.dumps(apscheduler.version)
    text = (
        f'{{"version": {VERSION}, "scheduler_version": {version}, "jobs": [{states}]}}'
    )
    with _opened(outfile, "w") as file:
        file.write(text)


def _encode_job(job: Job) -> str:
    state = job.__getstate__()
    try:
        return json.dumps(state, default=_encode)
    except Exception as exc:
        exc.add_note(f"Job {job.id!r} cannot be exported")
        raise


def read_jobs(
    infile: TextIO | str | PathLike[str], allowed: "AllowList | None" = None
) -> list[Job]:
    """Return the jobs of a file that ``write_jobs`` has written.

    :param allowed: what the file may refer to; None: reading runs whatever code the file names
    :raises ValueError: if it is no such file
    """
    with _opened(infile, "r") as file:
        document = json.load(file, object_hook=_Reader(allowed).decode)
    if not isinstance(document, dict):
        raise ValueError(
            f"Exported jobs must be a JSON object, but this is a {type(document).__name__}"
        )
    if document.get("version") != VERSION:
        raise ValueError(
            f"Exported jobs must have version {VERSION}, but these have {document.get('version')!r}"
        )
    states = document.get("jobs")
    if not isinstance(states, list):
        raise ValueError(
            f"Exported jobs must have a list of 'jobs', but these have {states!r}"
        )
    jobs = []
    for state in states:
        if allowed is not None:
            allowed.check_state(state)
        job = Job.__new__(Job)
        job.__setstate__(state)
        jobs.append(job)
    return jobs


@contextmanager
def _opened(file: Any, mode: str) -> Iterator[Any]:
    if isinstance(file, str | PathLike):
        with open(file, mode, encoding="utf-8") as opened:
            yield opened
    else:
        yield file


def _encode(value: Any) -> dict[str, Any]:
    if hasattr(value, "__setstate__"):
        state = value.__getstate__()
        if isinstance(state, Mapping):
            return {CLASS: obj_to_ref(type(value)), STATE: state}
    return {PICKLE: base64.b64encode(pickle.dumps(value)).decode("ascii")}


class _Reader:
    """Makes objects again of what ``_encode`` has returned."""

    def __init__(self, allowed: "AllowList | None"):
        self._allowed = allowed

    def decode(self, value: dict[str, Any]) -> Any:
        if CLASS in value:
            return self._make(value[CLASS], value[STATE])
        if PICKLE in value:
            return self._unpickle(base64.b64decode(value[PICKLE]))
        return value

    def _make(self, reference: str, state: Any) -> Any:
        if self._allowed is None:
            cls = ref_to_obj(reference)
            instance = cls.__new__(cls)
            instance.__setstate__(state)
            return instance
        from apscheduler.serializers.unpickling import make_restricted

        return make_restricted(reference, state, self._allowed)

    def _unpickle(self, data: bytes) -> Any:
        if self._allowed is None:
            return pickle.loads(data)
        from apscheduler.serializers.unpickling import RestrictedUnpickler

        return RestrictedUnpickler(data, self._allowed).load()
