"""Test runs that use the fixtures: what they share, what they say, and that nothing outlives them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from apscheduler.testing.servers import SERVERS

PLUGIN = "apscheduler.testing.servers.fixtures"
SECONDS = 40

USES_REDIS = """
import pathlib

def test_uses_redis(redis_url, redis_prefix):
    pathlib.Path("url").write_text(redis_url)
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a file of tests with these options and additions to the environment; return exit code and output."""

    def run(source: str, *options: str, **environment: str | None) -> tuple[int, str]:
        (tmp_path / "test_it.py").write_text(source)
        done = subprocess.run(
            command(*options),
            cwd=tmp_path,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def command(*options: str) -> list[str]:
    alone = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
    return [sys.executable, "-m", "pytest", "-p", PLUGIN, *alone, "-rs", *options]


def clean_environment(**additions: str | None) -> dict[str, str]:
    """Return the environment without what concerns servers, except what is given here."""
    ours = re.compile("APSCHEDULER_TEST_.*|CI|PYTEST_.*")
    kept = {
        name: value for name, value in os.environ.items() if not ours.fullmatch(name)
    }
    added = {"APSCHEDULER_TEST_SERVERS": "private", **additions}
    return {
        **kept,
        **{name: value for name, value in added.items() if value is not None},
    }


def is_gone(url: str, kind: str = "redis") -> bool:
    try:
        SERVERS[kind].probe(url)
    except Exception:
        return True
    return False


def test_the_end_of_a_run_tells_which_servers_it_used_and_stops_them(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, output = run(USES_REDIS)

    assert code == 0, output
    assert re.search(r"^servers: redis \d\S+ \(private\)$", output, re.MULTILINE)
    assert is_gone((tmp_path / "url").read_text())


def test_a_run_that_needs_no_server_starts_none(
    run: Callable[..., tuple[int, str]],
) -> None:
    code, output = run("def test_nothing(): pass")

    assert code == 0, output
    assert "servers:" not in output


def test_the_workers_of_a_parallel_run_share_one_set_of_servers(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    source = """
import os, pathlib, pytest, time

@pytest.mark.parametrize("number", [0, 1])
def test_uses_redis(number, redis_url):
    pathlib.Path(f"url-{os.getpid()}").write_text(redis_url)
    deadline = time.monotonic() + 30
    while len(list(pathlib.Path().glob("url-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
"""
    code, output = run(source, "-n", "2", "--dist", "each")
    urls = [path.read_text() for path in tmp_path.glob("url-*")]

    assert code == 0, output
    assert len(urls) == 2
    assert len(set(urls)) == 1
    assert output.count("servers: redis") == 1
    assert is_gone(urls[0])


NO_PRIVATE = {"APSCHEDULER_TEST_SERVERS": "env"}


def test_without_a_server_tests_are_skipped_with_the_reason(
    run: Callable[..., tuple[int, str]],
) -> None:
    code, output = run(USES_REDIS, **NO_PRIVATE)

    assert code == 0, output
    assert "1 skipped" in output
    assert "No redis server: APSCHEDULER_TEST_SERVERS allows no private redis" in output


@pytest.mark.parametrize(
    "required", [{"CI": "true"}, {"APSCHEDULER_TEST_REQUIRE": "redis"}]
)
def test_where_a_server_is_required_tests_without_it_fail(
    required: dict[str, str], run: Callable[..., tuple[int, str]]
) -> None:
    code, output = run(USES_REDIS, **NO_PRIVATE, **required)

    assert code == 1, output
    assert "1 error" in output
    assert "No redis server: " in output


def test_a_wrong_address_fails_the_tests_without_showing_the_password(
    run: Callable[..., tuple[int, str]],
) -> None:
    url = "redis://user:secret@127.0.0.1:1/0"

    for parallel in ([], ["-n", "1"]):
        code, output = run(
            USES_REDIS,
            *parallel,
            APSCHEDULER_TEST_REDIS_URL=url,
            APSCHEDULER_TEST_SERVERS=None,
        )

        assert code == 1, output
        assert "is 'redis://***@127.0.0.1:1/0', but no redis server answers" in output
        assert "secret" not in output


def test_clients_of_other_servers_need_not_be_installed(
    run: Callable[..., tuple[int, str]],
) -> None:
    source = """
import sys

def test_nothing_is_imported_that_was_not_asked_for(redis_url):
    assert "redis" in sys.modules
    others = {"sqlalchemy", "psycopg", "pymysql", "pymongo", "mongomock", "kazoo", "etcd3gw"}
    assert not others & set(sys.modules)
"""
    code, output = run(source)

    assert code == 0, output


def test_a_double_is_no_server_for_tests_that_need_the_real_one(
    run: Callable[..., tuple[int, str]],
) -> None:
    source = """
import pytest

@pytest.mark.mongod_only
def test_needs_a_real_one(mongodb_url):
    raise AssertionError

def test_is_content_with_the_double(mongodb_url, mongodb_database_name):
    pass
"""
    code, output = run(source)

    assert code == 0, output
    assert "1 passed, 1 skipped" in output
    assert "needs a real MongoDB: set APSCHEDULER_TEST_MONGODB_URL" in output
    assert re.search(
        r"^servers: mongodb \S+, a double \(private\)$", output, re.MULTILINE
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends orphans")
@pytest.mark.parametrize("parallel", [[], ["-n", "1"]], ids=["serial", "parallel"])
def test_a_run_that_is_killed_leaves_neither_server_nor_folder(
    parallel: list[str], tmp_path: Path
) -> None:
    if subprocess.run(
        ["which", "setpriv"], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs setpriv, of util-linux")
    fixtures = ", ".join(f"{kind}_url" for kind in SERVERS)
    (tmp_path / "test_it.py").write_text(f"""
import pathlib, signal, time

def test_hangs({fixtures}, own_redis):
    urls = "\\n".join([{fixtures}, own_redis.url, str(own_redis.directory)])
    pathlib.Path("writing").write_text(urls)
    pathlib.Path("writing").rename("urls")
    time.sleep(600)
""")
    run = subprocess.Popen(
        command(*parallel),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: (tmp_path / "urls").exists() or run.poll() is not None)
        *urls, own_url, directory = (tmp_path / "urls").read_text().splitlines()
        ports = [int(re.findall(r":(\d+)", url)[-1]) for url in [*urls, own_url]]
        assert all(map(is_open, ports))
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()

    wait_for(lambda: not any(map(is_open, ports)))
    wait_for(lambda: not Path(directory).exists())


def is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
