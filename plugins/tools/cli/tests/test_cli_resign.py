"""``apscheduler resign``: from one serializer to another, as a user would do it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from apscheduler.cli.main import cli
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.nodes import Identity
from apscheduler.runs import Run, RunState
from apscheduler.serializers import PickleSerializer, Serializer
from apscheduler.serializers.json import JsonSerializer
from apscheduler.serializers.signed import SignedSerializer
from apscheduler.testing.jobs import make_job
from apscheduler.triggers.interval import IntervalTrigger

KEY, NEW_KEY = "the-key-of-these-tests", "the-new-key-of-these-tests"

STORE = """
[apscheduler.jobstores.default]
type = sqlalchemy
url = sqlite:///jobs.db
"""
SERIALIZER = STORE + "[apscheduler.jobstores.default.serializer]\n"
CONFIGS = {
    "plain.ini": STORE,
    "signed.ini": SERIALIZER + f"type = signed\nkey = {KEY}\n",
    "new.ini": SERIALIZER + f'type = signed\nkey = {NEW_KEY}\nold_keys = ["{KEY}"]\n',
    "json.ini": SERIALIZER + "type = json\n",
    "memory.ini": "[apscheduler.jobstores.default]\ntype = memory\n",
}
# The module that the jobs are from is not there.
FUNC = "not_here:work"


@pytest.fixture(autouse=True)
def configs(project: Path) -> None:
    for name, text in CONFIGS.items():
        (project / name).write_text(text)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["resign", *arguments])


def fill(serializer: Serializer | None = None) -> None:
    """Store two jobs and a run that waits, of a function that the command cannot import."""
    due = datetime(2030, 1, 1, tzinfo=UTC)
    jobs = []
    for job_id in ("a", "b"):
        job = make_job(print, id=job_id)
        job.func_ref, job.next_run_time = FUNC, due
        job.trigger = IntervalTrigger(hours=1, timezone=UTC)
        jobs.append(job)
    run = Run(Identity().new_id(), "a", None, RunState.READY, due)
    run.available_at = due
    with opened(serializer) as store:
        store.add_jobs(jobs)
        store.add_ready_run(jobs[0], run)


class opened:
    """A store as a program would open it."""

    def __init__(self, serializer: Serializer | None):
        self.store = SQLAlchemyJobStore("sqlite:///jobs.db", serializer=serializer)

    def __enter__(self) -> SQLAlchemyJobStore:
        self.store.start(None, "default")
        return self.store

    def __exit__(self, *details: object) -> None:
        self.store.shutdown()


def states() -> list[bytes]:
    with opened(None) as store:
        return sorted(state.data for state in store.read_states())


def assert_readable(serializer: Serializer) -> None:
    with opened(serializer) as store:
        found = list(store.read_states())
        assert [serializer.loads(state.data)["func"] for state in found] == [FUNC] * 3
        errors = [record.error for record in store.get_job_records()]
    assert errors == [None, None]


def test_what_was_not_signed_is_signed_without_importing_it() -> None:
    fill()

    result = invoke("--config", "signed.ini", "--from", "pickle")

    assert (result.output, result.exit_code) == ("3 states: 3 written.\n", 0)
    assert_readable(SignedSerializer(KEY))
    again = invoke("--config", "signed.ini")
    assert (again.output, again.exit_code) == ("3 states: 3 current.\n", 0)


def test_nothing_is_signed_that_was_not_said_to_be_trusted() -> None:
    fill()
    before = states()

    result = invoke("--config", "signed.ini")

    assert result.exit_code == 1
    assert result.output.count("refused  job") == 3
    assert "job 'b' in store 'default': The stored state is not signed" in result.output
    assert result.output.endswith("3 states: 3 refused.\n")
    assert states() == before


@pytest.mark.parametrize("place", [("-s", "sqlite:///jobs.db"), ("-c", "json.ini")])
def test_listings_without_the_key_say_that_states_are_signed(
    place: tuple[str, str],
) -> None:
    fill(SignedSerializer(KEY))

    listed = CliRunner().invoke(cli, ["jobs", "list", *place])

    why = "? (SignatureError: The state is signed: give --config with its serializer)"
    assert listed.stdout.count(why) == 2


def test_a_dry_run_writes_nothing() -> None:
    fill()
    before = states()

    result = invoke("--config", "signed.ini", "--from", "pickle", "--dry-run")

    assert result.output == "3 states: 3 to write.\n"
    assert states() == before


def test_one_state_is_spoken_of_as_one() -> None:
    fill()
    with opened(None) as store:
        store.remove_all_jobs()

    result = invoke("--config", "plain.ini")

    assert result.output == "1 state: 1 current.\n"


def test_a_new_key_needs_only_the_old_one_in_the_configuration() -> None:
    fill(SignedSerializer(KEY))

    result = invoke("--config", "new.ini")

    assert result.output == "3 states: 3 written.\n"
    assert_readable(SignedSerializer(NEW_KEY))


def test_the_format_is_changed_and_changed_back() -> None:
    fill(SignedSerializer(KEY))

    there = invoke("--config", "json.ini", "--from", "signed.ini")
    assert there.output == "3 states: 3 written.\n"
    assert_readable(JsonSerializer())
    back = invoke("--config", "plain.ini", "--from", "pickle", "--from", "json")
    assert back.output == "3 states: 3 written.\n"
    assert_readable(PickleSerializer())


def test_a_job_that_cannot_be_written_is_named_and_the_others_are() -> None:
    fill()
    with opened(None) as store:
        state = next(each for each in store.read_states() if each.job_id == "b")
        assert store.replace_state(state, state.data[:-20])

    result = invoke("--config", "signed.ini", "--from", "pickle")

    assert result.exit_code == 1
    assert "refused  job 'b' in store 'default'" in result.output
    assert "3 states: 2 written, 1 refused." in result.output


def test_machines_get_one_document() -> None:
    fill()

    result = invoke("--config", "signed.ini", "--from", "pickle", "--json")

    document = json.loads(result.output)
    assert document["counts"] == {"written": 3}
    assert document["dry_run"] is False
    assert {each["job"] for each in document["states"]} == {"a", "b"}
    (copy,) = [each for each in document["states"] if each["run"] is not None]
    assert copy["job"] == "a" and copy["error"] is None


def test_a_store_is_chosen_by_its_url() -> None:
    fill()

    result = invoke(
        *("--store", "sqlite:///jobs.db", "--store-option", "serializer=json"),
        *("--from", "pickle"),
    )

    assert result.output == "3 states: 3 written.\n"
    assert_readable(JsonSerializer())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "signed.ini", "--from", "nowhere.ini"], "cannot be read"),
        (
            ["--config", "signed.ini", "--from", "pickl"],
            "no such serializer, nor a configuration of that name; there is json, pickle, signed",
        ),
        (["--config", "signed.ini", "--from", "memory.ini"], "has no serializer"),
        (["--config", "signed.ini", "--from", "signed"], "either 'key' or 'key_file'"),
        (["--config", "memory.ini"], "has its jobs in memory"),
        ([], "Say where the jobs are"),
    ],
)
def test_mistakes_are_explained(arguments: list[str], message: str) -> None:
    fill()

    result = invoke(*arguments)

    assert result.exit_code in (1, 2)
    assert message in result.output
    assert KEY not in result.output
    assert "Traceback" not in result.output
