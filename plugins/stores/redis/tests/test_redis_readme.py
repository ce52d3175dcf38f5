"""What the README says of clients and keys is right."""

import re
from pathlib import Path
from typing import Any

from apscheduler.jobstores.redis.scripts import PRELUDE

README = Path(__file__).parent.parent.joinpath("README.md").read_text("utf-8")


def test_clients_are_made_as_the_readme_says() -> None:
    _, second = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(second, names)  # noqa: S102  # what is written in the README

    store = names["store_behind_sentinel"]()

    assert store.redis.connection_pool.service_name == "mymaster"


def test_every_key_is_in_the_table() -> None:
    names = set(re.findall(r"key\('(\w+)'\)", PRELUDE))

    table = README.partition("| key | type |")[2].partition("\n\n")[0]
    assert len(names) > 10
    assert {name for name in names if f".{name}`" not in table} == set()
