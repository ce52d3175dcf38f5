"""A place of one's own on a shared server is empty, and goes with all that is in it and with nothing else."""

from typing import Any

import pytest

from apscheduler.testing.servers import etcd, mongodb, mysql, postgresql, redis, sql
from apscheduler.testing.servers import zookeeper as zookeeper_server


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("postgresql", postgresql.temporary_schema),
        ("mysql", mysql.temporary_database),
    ],
)
def test_a_schema_or_database(
    kind: str, place: Any, request: pytest.FixtureRequest
) -> None:
    from sqlalchemy import text

    table = sql.unique_name()
    there = text(
        f"select count(*) from information_schema.tables where table_name = '{table}'"
    )
    shared = request.getfixturevalue(f"{kind}_url")

    with place(shared) as mine, place(shared) as yours:
        for url in (mine, yours):
            sql.execute(url, text(f"create table {table} (id int)"))
        both = sql.execute(shared, there)
        sql.execute(yours, text(f"drop table {table}"))
        mine_alone = sql.execute(shared, there)

    assert (both, mine_alone) == (2, 1)
    assert sql.execute(shared, there) == 0


def test_a_prefix_of_redis(redis_url: str, redis_prefix: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.set(f"{redis_prefix}mine", 1)
        with redis.temporary_prefix(redis_url) as other:
            empty = client.keys(f"{other}*")
            client.set(f"{other}apple", 1)

        assert empty == client.keys(f"{other}*") == []
        assert client.keys(f"{redis_prefix}*") == [f"{redis_prefix}mine"]


def test_a_database_of_mongodb(mongodb_url: str, mongodb_database_name: str) -> None:
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        client[mongodb_database_name]["apples"].insert_one({})
        with mongodb.temporary_database(mongodb_url) as other:
            new = other not in client.list_database_names()
            client[other]["apples"].insert_one({})

        assert new
        assert other not in client.list_database_names()
        assert mongodb_database_name in client.list_database_names()


def keys_below(url: str, path: str) -> int:
    body = {"key": etcd.encoded(path), "range_end": etcd.encoded(path[:-1] + "~")}
    return int(etcd.ask(f"{url}/v3/kv/range", body).get("count", 0))


def test_a_path_of_etcd(etcd_url: str, etcd_path: str) -> None:
    def put(key: str) -> None:
        body = {"key": etcd.encoded(key), "value": etcd.encoded("1")}
        etcd.ask(f"{etcd_url}/v3/kv/put", body)

    put(f"{etcd_path}/mine")
    with etcd.temporary_path(etcd_url) as other:
        empty = keys_below(etcd_url, other)
        put(f"{other}/apple")

    assert empty == keys_below(etcd_url, other) == 0
    assert keys_below(etcd_url, etcd_path) == 1


def test_a_path_of_zookeeper(zookeeper_url: str, zookeeper_path: str) -> None:
    client = zookeeper_server.connected(zookeeper_url, seconds=10)
    try:
        client.create(f"{zookeeper_path}/mine", makepath=True)
        with zookeeper_server.temporary_path(zookeeper_url) as other:
            empty = client.exists(other)
            client.create(f"{other}/apples/apple", makepath=True)

        assert empty is None
        assert client.exists(other) is None
        assert client.exists(f"{zookeeper_path}/mine")
    finally:
        zookeeper_server.close(client)
