"""The configurations of the README work."""

import re
from pathlib import Path
from typing import Any

from apscheduler.config import create_scheduler
from apscheduler.jobstores.redis.scripts import PRELUDE
from apscheduler.testing.servers import Server

README = Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")
ADDRESS = "redis://localhost:6379/0"


def blocks(language: str, address: str) -> list[str]:
    """Return the examples in a language, with a server that is there."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found and ADDRESS in found[0]
    return [text.replace(ADDRESS, address) for text in found]


def run_a_job(scheduler: Any) -> None:
    scheduler.start(paused=True)
    scheduler.add_job("time:time", "interval", hours=1, id="a")
    assert [job.id for job in scheduler.get_jobs()] == ["a"]
    scheduler.shutdown()


def test_the_configuration_in_python_works(own_redis: Server) -> None:
    first, _ = blocks("python", own_redis.url)
    names: dict[str, Any] = {}

    exec(first, names)  # noqa: S102  # what is written in the README

    run_a_job(names["scheduler"])


def test_the_configuration_in_a_file_works(own_redis: Server, tmp_path: Path) -> None:
    (text,) = blocks("ini", own_redis.url)
    file = tmp_path / "scheduler.ini"
    file.write_text(text)

    run_a_job(create_scheduler(file))


def test_clients_are_made_as_the_readme_says() -> None:
    _, second = blocks("python", ADDRESS)
    names: dict[str, Any] = {}
    exec(second, names)  # noqa: S102  # what is written in the README

    store = names["store_behind_sentinel"]()

    assert store.redis.connection_pool.service_name == "mymaster"


def test_every_key_is_in_the_table() -> None:
    names = set(re.findall(r"key\('(\w+)'\)", PRELUDE))

    table = README.partition("| key | type |")[2].partition("\n\n")[0]
    assert len(names) > 10
    assert {name for name in names if f".{name}`" not in table} == set()
