"""Where commands find their job stores, and how they fail: what every command has in common."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from apscheduler.cli.main import CommandGroup
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.sources import Source, jobstore_option, source_options
from apscheduler.jobstores.base import JobLookupError

for module in ("apscheduler.jobstores.sqlalchemy", "apscheduler.triggers.date"):
    pytest.importorskip(module)

SQLITE = "sqlite:///jobs.db"
CONFIG = """
[apscheduler]
timezone = Europe/Berlin
jobstores.default.type = sqlalchemy
jobstores.default.url = sqlite:///jobs.db
jobstores.other.type = sqlalchemy
jobstores.other.url = sqlite:///other.db

[apscheduler.jobs.declared]
func = no_such_module:function
trigger = interval
minutes = 5
"""


@click.command()
@source_options
@jobstore_option
@output_options
def count(source: Source, jobstore: str | None, output: Output) -> None:
    """Count jobs, and create the stores."""
    with source.open(jobstore, creates=True) as client:
        stores = sorted(client._jobstores)
        if output.is_json:
            output.document({"stores": stores, "jobs": len(client.get_jobs())})
        output.say(f"{len(client.get_jobs())} jobs in {', '.join(stores)}")


@click.command()
@source_options
def look(source: Source) -> None:
    """Look which stores there are."""
    with source.open() as client:
        click.echo(", ".join(sorted(client._jobstores)))


@click.command()
@source_options
def fail(source: Source) -> None:
    """Fail while the store is open."""
    with source.open(creates=True):
        raise ConnectionError("the cable is broken")


@click.command()
@source_options
def err(source: Source) -> None:
    """Have a defect."""
    with source.open(creates=True):
        raise JobLookupError("x")


def invoke(*arguments: str, **options: Any) -> Result:
    commands = {each.name: each for each in (count, look, fail, err) if each.name}
    return CliRunner().invoke(CommandGroup("x", commands), arguments, **options)


@pytest.fixture
def config() -> str:
    Path("jobs.ini").write_text(CONFIG)
    return "jobs.ini"


def test_a_store_is_opened_by_its_url() -> None:
    assert invoke("count", "--store", SQLITE).output == "0 jobs in default\n"


def test_the_stores_of_a_configuration_are_opened_and_its_jobs_left_alone(
    config: str,
) -> None:
    assert invoke("count", "--config", config).output == "0 jobs in default, other\n"


def test_one_store_of_a_configuration_can_be_chosen(config: str) -> None:
    result = invoke("count", "-c", config, "--jobstore", "other")

    assert result.output == "0 jobs in other\n"
    assert not Path("jobs.db").exists()


def test_a_store_that_is_not_configured_is_named_with_those_that_are(
    config: str,
) -> None:
    result = invoke("count", "-c", config, "--jobstore", "third")

    assert result.exit_code == 1
    assert "There is no job store 'third'; there is 'default', 'other'" in result.stderr


def test_whoever_only_looks_is_told_that_there_is_nothing_and_creates_nothing() -> None:
    result = invoke("look", "--store", SQLITE)

    assert result.exit_code == 1
    assert f"There is nothing in {SQLITE} yet, of job store 'default'" in result.stderr
    assert not Path("jobs.db").exists()


@pytest.mark.parametrize(
    "url, shown",
    [
        ("sqlite:///jobs.db", "sqlite:///{here}/jobs.db"),
        ("sqlite:///../jobs.db?timeout=5", "sqlite:///{above}/jobs.db?timeout=5"),
        ("sqlite:///${NAME}.db", "sqlite:///${NAME}.db"),
    ],
)
def test_where_nothing_was_found_is_told_as_an_absolute_path(
    url: str, shown: str, project: Path
) -> None:
    Path("jobs.ini").write_text(
        f"[apscheduler.jobstores.default]\ntype = sqlalchemy\nurl = {url}\n"
    )

    result = invoke("look", "-c", "jobs.ini", env={"NAME": "hidden-word"})

    place = shown.replace("{here}", f"{project}").replace(
        "{above}", f"{project.parent}"
    )
    assert f"nothing in jobs.ini yet, of job store 'default' ({place})" in result.stderr
    assert "hidden-word" not in result.stderr


def test_whoever_only_looks_sees_those_stores_of_which_there_is_something(
    config: str,
) -> None:
    invoke("count", "-c", config, "--jobstore", "other")

    result = invoke("look", "-c", config)

    assert (result.output, result.exit_code) == ("other\n", 0)
    assert not Path("jobs.db").exists()


@pytest.mark.parametrize(
    "name, value", [("APSCHEDULER_CONFIG", "jobs.ini"), ("APSCHEDULER_STORE", SQLITE)]
)
def test_environment_variables_take_the_place_of_options(
    name: str, value: str, config: str
) -> None:
    assert invoke("count", env={name: value}).exit_code == 0


def test_options_go_before_variables_and_the_configuration_before_the_store(
    config: str,
) -> None:
    env = {"APSCHEDULER_CONFIG": config, "APSCHEDULER_STORE": "sqlite:///third.db"}

    assert "in default, other" in invoke("count", env=env).stdout
    assert "in default\n" in invoke("count", "--store", SQLITE, env=env).stdout


def test_options_of_a_store_are_passed_on() -> None:
    invoke("count", "-s", SQLITE, "--store-option", "tablename=elsewhere")

    assert b"elsewhere" in Path("jobs.db").read_bytes()


MISTAKES = [
    ((), "Say where the jobs are: --config FILE"),
    (("-c", "jobs.ini", "-s", SQLITE), "either --config or --store, not both"),
    (("-c", "redis://:word@host"), "takes a file; write --store redis://:***@host"),
    (("-s", "other"), "--jobstore for the alias of a store"),
    (("-s", "pigeon://loft"), "No job store is known for URLs that begin with pigeon"),
    (("-c", "jobs.ini", "--store-option", "a=b"), "--store-option goes with --store"),
    (("-s", SQLITE, "--store-option", "a"), "must look like tablename=other_jobs"),
    (("-s", SQLITE, "--store-option", "tablname=x"), "did you mean 'tablename'"),
    (("-c", "no.ini"), "no.ini: cannot be read"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES)
def test_mistakes_on_the_command_line_are_explained(
    arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("count", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "stores, message",
    [
        ("jobstores.default.type = memory", "has its jobs in memory: jobs there live"),
        ("", "has no job store, so that its jobs are in memory: jobs there live"),
    ],
)
def test_what_lives_in_the_memory_of_another_process_cannot_be_seen(
    stores: str, message: str
) -> None:
    pytest.importorskip("apscheduler.jobstores.memory")
    Path("memory.ini").write_text(f"[apscheduler]\ntimezone = UTC\n{stores}\n")

    result = invoke("count", "-c", "memory.ini")

    assert result.exit_code == 1
    assert message in result.stderr


def test_a_store_that_cannot_be_opened_is_told_without_password_and_traceback() -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://me:hidden-word@127.0.0.1:1/db"

    result = invoke("count", "--store", url)

    assert result.exit_code == 1
    assert "cannot be opened" in result.stderr
    assert "hidden-word" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_store_that_fails_later_is_told_without_traceback() -> None:
    result = invoke("fail", "-s", SQLITE)

    assert result.exit_code == 1
    assert "fails: ConnectionError: the cable is broken" in result.stderr


def test_defects_are_not_hidden() -> None:
    assert isinstance(invoke("err", "-s", SQLITE).exception, JobLookupError)


def test_machines_get_errors_as_json_on_standard_error() -> None:
    usage = invoke("count", "--json")
    failure = invoke("count", "--json", "-s", "sqlite:///no/such/dir/x.db")
    wrong = invoke("count", "--json", "-c", "no.ini")

    errors = [json.loads(each.stderr)["error"] for each in (usage, failure, wrong)]
    assert [error["kind"] for error in errors] == ["usage", "failure", "configuration"]
    assert [error["exit_code"] for error in errors] == [2, 1, 2]
    assert not usage.stdout + failure.stdout + wrong.stdout


def test_machines_get_answers_as_one_json_document() -> None:
    result = invoke("count", "--json", "-s", SQLITE)

    assert json.loads(result.stdout) == {"stores": ["default"], "jobs": 0}
    assert not result.stderr


# Stores on servers


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of an empty store on a server, and its options."""
    get: Callable[[str], str] = request.getfixturevalue
    kind = request.param
    pytest.importorskip(f"apscheduler.jobstores.{STORES.get(kind, kind)}")
    if kind in ("postgresql", "mysql"):
        yield get(f"{kind}_database_url"), {}
    elif kind == "redis":
        prefix = get("redis_prefix")
        keys = ("jobs_key", "run_times_key")
        yield get("redis_url"), {key: f"{prefix}{key}" for key in keys}
    elif kind == "mongodb":
        yield get("mongodb_url"), {"database": get("mongodb_database_name")}
    else:
        address = get(f"{kind}_url").removeprefix("http://")
        yield f"{kind}://{address}{get(f'{kind}_path')}", {}


STORES = {"postgresql": "sqlalchemy", "mysql": "sqlalchemy"}


@pytest.mark.parametrize(
    "server",
    ["postgresql", "mysql", "redis", "mongodb", "etcd", "zookeeper"],
    indirect=True,
)
def test_stores_on_servers_are_opened_by_their_urls(
    server: tuple[str, dict[str, str]],
) -> None:
    url, options = server
    pairs = (("--store-option", f"{key}={value}") for key, value in options.items())
    arguments = ["--store", url, *(word for pair in pairs for word in pair)]

    looked = invoke("look", *arguments)
    counted = invoke("count", *arguments)

    assert "There is nothing in " in looked.stderr
    assert counted.output == "0 jobs in default\n"
