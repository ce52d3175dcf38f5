"""Runs as JSON documents. Of an open run, where it is kept says whether it is running or ready."""

import json
from collections.abc import Iterator
from typing import Any

from apscheduler.job import Job
from apscheduler.jobstores.contract import Claim
from apscheduler.jobstores.history import (
    decode_run,
    encode_outcome,
    encode_run,
    options_of,
)
from apscheduler.jobstores.redis.scripts import decode
from apscheduler.records import replace
from apscheduler.runs import Completion, Run, RunState

# Not as ASCII: half a surrogate, written as such, is no JSON to Lua. It is a byte in the end.
quote = json.encoder.encode_basestring


def to_json(document: dict[str, Any]) -> str:
    """Return texts, numbers and booleans as JSON, in half the time that json.dumps takes for so little."""
    pairs = [f"{quote(name)}:{_value_of(value)}" for name, value in document.items()]
    return f"{{{','.join(pairs)}}}"


def _value_of(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def running_documents(claim: Claim, node: str) -> Iterator[tuple[str, str]]:
    """Return identifier and document of each run that a claim starts."""
    job, times = claim.job, claim.run_times
    extra = options_of(job)
    if len(times) > 1:
        extra["several"] = True
    # As text, since there is one for each run: making a dictionary first takes as long as all the rest.
    common = (
        f'"job_id":{quote(job.id)},"claim_id":{quote(times.claim_id or "")},"node":{quote(node)},'
        f'"attempt":{times.attempt},"count":1'
    )
    end = f",{to_json(extra)[1:]}" if extra else "}"
    for run_id, run_time in zip(times.run_ids, times, strict=True):
        scheduled_time = run_time.timestamp()
        yield (
            run_id,
            f'{{"id":{quote(run_id)},{common},"scheduled_time":{scheduled_time!r}{end}',
        )


def ready_document(job: Job, run: Run) -> str:
    """Return the document of a run that waits."""
    document = encode_run(run) | options_of(job)
    for name in ("state", "node"):
        document.pop(name, None)
    return to_json(document)


def handed_back(claim: Claim) -> Iterator[tuple[Run, float]]:
    """Return the ready runs of a claim that is given back, and from when on they are available."""
    times = claim.run_times
    for run_time, run_id in zip(times, times.run_ids, strict=True):
        run = Run(
            run_id,
            claim.job.id,
            None,
            RunState.READY,
            run_time,
            claim_id=times.claim_id,
            attempt=times.attempt,
            available_at=times[0],
        )
        yield run, times[0].timestamp()


def finished_document(run: Run) -> str:
    """Return the document of a run that has ended."""
    return to_json(encode_run(run))


def outcome_of(completion: Completion) -> list[Any]:
    """Return what is to be written of a run that has ended, if its owner is right."""
    ending: str | bool = False
    if completion.keep:
        outcome = encode_outcome(completion)
        for name in ("exception", "traceback"):
            if name in outcome:
                outcome[name] = _storable(outcome[name])
        ending = to_json(outcome)
    return [completion.run_id, completion.node, completion.attempt, ending]


def taken_document(raw: dict[str, Any], run: Run) -> str:
    """Return the document of a run that was taken over, made from what it was before."""
    kept: dict[str, Any] = {
        name: raw[name] for name in ("max_attempts", "history") if name in raw
    }
    document = encode_run(replace(run, jobstore=None))
    if run.state is RunState.READY:
        del document["state"]
        document |= kept
    return to_json(document)


def parse(
    data: bytes, alias: str | None, state: RunState | None = None
) -> tuple[Run, dict[str, Any]]:
    """Return a run, and the document it comes from.

    :param state: of an open run
    """
    document: dict[str, Any] = json.loads(decode(data))
    if state is not None:
        document["state"] = state.value
    return decode_run(document, alias), document


def _storable(text: str) -> str:
    """Return a text with what cannot be encoded spelled out."""
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()
