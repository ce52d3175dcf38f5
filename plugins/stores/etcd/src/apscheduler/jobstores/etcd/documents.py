"""What is written: records of jobs, runs that are going on, runs that wait, leases."""

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from apscheduler.jobstores.contract import Claim
from apscheduler.jobstores.history import decode_run, encode_run, options_of
from apscheduler.nodes import Lease, Node
from apscheduler.records import replace
from apscheduler.runs import Completion, Run, RunState
from apscheduler.serializers import PickleSerializer, Serializer
from apscheduler.util import utc_timestamp_to_datetime

Document = dict[str, Any]

# How a pickled record begins: a dict whose first key is "next_run_time", with a float or None.
HEAD = re.compile(
    rb"\x80[\x02-\x05](?:\x95.{8})?\}(?:\x94|q\0)\((?:\x8c\r|X\r\0\0\0)next_run_time(?:\x94|q\x01)(?:G(.{8})|N)",
    re.DOTALL,
)
DOUBLE = struct.Struct(">d")
# Longer texts of errors are cut: the runs that end together are written together, and a server takes only so much.
MAX_TEXT = 8000
# Text that is not longer is not made shorter.
SMALL_BYTES = 300


def read_time(data: bytes, serializer: Serializer) -> float | None:
    """Return the run time in the record of a job, loading what else is in it only if there is no other way.

    That of a record that cannot be loaded is long ago, so that it is tried, and reported, by the next claim.
    """
    if type(serializer) is PickleSerializer and (head := HEAD.match(data)):
        packed = head[1]
        return None if packed is None else float(DOUBLE.unpack(packed)[0])
    try:
        timestamp = serializer.loads(data)["next_run_time"]
        return None if timestamp is None else float(timestamp)
    except Exception:
        return 0.0


def pack(content: Any) -> bytes:
    """Return as JSON, compressed if that is worth it."""
    text = json.dumps(content, separators=(",", ":")).encode()
    return text if len(text) <= SMALL_BYTES else zlib.compress(text, 1)


def unpack(data: bytes) -> Any:
    """Return what was packed."""
    # JSON begins with a bracket, which compressed data does not.
    return json.loads(data if data[:1] in b"[{" else zlib.decompress(data))


# Runs that are going on. One key has all that one node has claimed with one request, as rows of:
ID, JOB_ID, CLAIM_ID, TIME, ATTEMPT, EXTRA = range(6)

Row = list[Any]


def started_rows(claim: Claim, copy: bytes | None) -> list[Row]:
    """Return the rows of the runs that a claim starts.

    :param copy: of the job, for those who may have to start them again
    """
    times = claim.run_times
    extra = options_of(claim.job)
    if copy is not None:
        extra["job"] = _to_text(copy)
    return [
        [run_id, claim.job.id, times.claim_id, time.timestamp(), times.attempt]
        + ([extra] if extra else [])
        for run_id, time in zip(times.run_ids, times, strict=True)
    ]


def extra_in(row: Row) -> Document:
    """Return what a row has kept of its job."""
    return row[EXTRA] if len(row) > EXTRA else {}


def options_in(row: Row) -> Document:
    """Return what a row has kept of its job, without the copy."""
    return {name: value for name, value in extra_in(row).items() if name != "job"}


def running_run(row: Row, node: str, alias: str | None) -> Run:
    """Return the run of a row."""
    time = utc_timestamp_to_datetime(row[TIME])
    assert time is not None
    run = Run(row[ID], row[JOB_ID], alias, RunState.RUNNING, time)
    run.claim_id, run.attempt, run.node = row[CLAIM_ID], row[ATTEMPT], node
    return run


# Runs that wait, and a copy of their job. Those that start together are under one key.


def ready_document(runs: Sequence[Run], copy: bytes, options: Document) -> bytes:
    """Return what is written of runs that wait.

    :param copy: of the job
    :param options: of the job that matter as long as its runs are open
    """
    documents = [encode_run(replace(run, node=None)) for run in runs]
    return pack({**options, "runs": documents, "job": _to_text(copy)})


def ready_runs(document: Document, alias: str | None) -> list[Run]:
    """Return the runs that wait together."""
    return [decode_run(run, alias) for run in document["runs"]]


def copy_in(holder: Document | Row) -> bytes:
    """Return the copy of a job, in what is kept of runs that wait, or in the row of a run."""
    document = holder if isinstance(holder, dict) else extra_in(holder)
    return base64.b64decode(document["job"])


def copies_in(content: Document | list[Row]) -> Iterator[tuple[str, str, bytes]]:
    """Return identifiers of job and run, and the copy, of what is under a key of runs that wait or that are going on."""
    if isinstance(content, dict):
        first = content["runs"][0]  # they share one copy
        yield first["job_id"], first["id"], copy_in(content)
        return
    for row in content:
        if "job" in extra_in(row):
            yield row[JOB_ID], row[ID], copy_in(row)


def replace_copy(
    content: Document | list[Row], run_id: str, old: bytes, new: bytes
) -> bool:
    """Put another copy in the place of that of a run, if it is still the old one; return whether it was."""
    if (run_id, old) not in [(id, copy) for _, id, copy in copies_in(content)]:
        return False
    if isinstance(content, dict):
        content["job"] = _to_text(new)
    else:
        for row in content:
            if row[ID] == run_id:
                row[EXTRA]["job"] = _to_text(new)
    return True


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Runs that have ended.


def ended_row(run: Run, history: int | None) -> Document:
    """Return what is written of a run that has ended.

    :param history: how many the job keeps, None if as many as others
    """
    document = encode_run(run)
    if history is not None:
        document["history"] = history
    return document


def finish(run: Run, completion: Completion) -> Run:
    """Put the outcome on a run."""
    run.state, run.finished_at = completion.state, completion.finished_at
    run.started_at, run.duration = completion.started_at, completion.duration
    exception, traceback = completion.exception, completion.traceback
    run.exception = exception and exception[:MAX_TEXT]
    run.traceback = traceback and traceback[-MAX_TEXT:]
    return run


# Leases. Later ones are greater, so that the server can tell which of two to keep.


def lease_text(node: Node, expires_at: datetime) -> str:
    """Return what is kept of a node while it owns runs."""
    microseconds = max(round(expires_at.timestamp() * 1e6), 0)
    return f"{microseconds:020d} {json.dumps([node.host, node.boot, node.pid])}"


def to_lease(node_id: str, text: str) -> Lease:
    """Return the lease of a node from what is kept of it."""
    microseconds, _, rest = text.partition(" ")
    host, boot, pid = json.loads(rest)
    expires_at = datetime.fromtimestamp(int(microseconds) / 1e6, UTC)
    return Lease(Node(node_id, host, boot, pid), expires_at)


def sortable(timestamp: float) -> str:
    """Return seconds since 1970 as text of fixed length that sorts like the number."""
    return f"{round(timestamp * 1e6) + 2**62:016x}"
