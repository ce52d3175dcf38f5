"""The same jobs in a store of each kind: python job_stores.py KIND [ADDRESS [NAME]].

What the first program adds, the next one finds: start it again, or twice at the same time.
"""

import sys
import threading

from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.background import BackgroundScheduler


def memory(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.memory import MemoryJobStore

    return MemoryJobStore()  # the one store that forgets


def sqlalchemy(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    return SQLAlchemyJobStore(address or "sqlite:///jobs.sqlite", tablename=name)


def redis(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.redis import RedisJobStore

    url = address or "redis://localhost:6379/0"
    jobs, times = f"{name}.jobs", f"{name}.run_times"
    return RedisJobStore(url=url, jobs_key=jobs, run_times_key=times)


def mongodb(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.mongodb import MongoDBJobStore

    return MongoDBJobStore(database=name, host=address or "mongodb://localhost:27017")


def etcd(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.etcd import EtcdJobStore

    host, _, port = (address or "localhost:2379").rpartition(":")
    return EtcdJobStore(path=f"/{name.strip('/')}", host=host, port=int(port))


def zookeeper(address: str, name: str) -> BaseJobStore:
    from apscheduler.jobstores.zookeeper import ZooKeeperJobStore

    hosts = address or "localhost:2181"
    return ZooKeeperJobStore(path=f"/{name.strip('/')}", hosts=hosts)


KINDS = [memory, sqlalchemy, redis, mongodb, etcd, zookeeper]


def work(name: str) -> None:
    print(f"Hello {name}")


def main(kind: str = "memory", address: str = "", name: str = "example") -> None:
    make_store = {make.__name__: make for make in KINDS}[kind]
    ran = threading.Event()
    scheduler = BackgroundScheduler()
    scheduler.add_jobstore(make_store(address, name))
    scheduler.add_listener(lambda event: ran.set(), EVENT_JOB_EXECUTED)
    scheduler.start()
    found = scheduler.get_job("greeting")
    print("Added before" if found else "New")
    # The same declaration: a job that is there keeps its time.
    scheduler.add_job(
        work,
        "interval",
        seconds=1,
        args=["you"],
        id="greeting",
        replace_existing=True,
    )
    ran.wait(20)
    scheduler.shutdown()
    print("Stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
