"""A private ZooKeeper, and a path of one's own in any."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apscheduler.testing.servers.machine import NotInstalled, find_program
from apscheduler.testing.servers.processes import Server

JAR = "/usr/share/java/zookeeper.jar"
CONFIGURATION = "/etc/zookeeper/conf"

# Sessions may be short: times are multiples of a tick, in milliseconds. kazoo asks for the version with a command of
# four letters.
SETTINGS = """\
tickTime=200
minSessionTimeout=400
maxSessionTimeout=60000
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""


class ZooKeeper(Server):
    """A private ZooKeeper of one member, with sessions from 0.4 s."""

    kind = "zookeeper"
    standard_port = 2181
    standard_urls = ("127.0.0.1:2181",)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    @classmethod
    def probe(cls, url: str) -> str:
        client = connected(url, seconds=2)
        try:
            return ".".join(map(str, client.server_version()))
        finally:
            close(client)

    def prepare(self, directory: Path) -> None:
        if not os.path.exists(JAR):
            raise NotInstalled(f"zookeeper is not installed: there is no {JAR}")
        place = f"dataDir={directory}/data\nclientPort={self.port}\n"
        (directory / "zoo.cfg").write_text(SETTINGS + place)

    def command(self, directory: Path) -> list[str]:
        java = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        classes = ["-cp", f"{CONFIGURATION}:{JAR}:/usr/share/java/*"]
        log = [
            f"-Dzookeeper.log.dir={directory}",
            "-Dzookeeper.root.logger=WARN,CONSOLE",
        ]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        program = find_program("java")
        return [
            program,
            *java,
            *classes,
            *log,
            "-Dzookeeper.forceSync=no",
            main,
            f"{directory}/zoo.cfg",
        ]

    def is_ready(self) -> bool:
        with self.connect() as connection:
            connection.sendall(b"srvr")  # to "ruok" it answers before it takes sessions
            return connection.recv(9) == b"Zookeeper"


def connected(url: str, seconds: float) -> Any:
    """Return a client that has reached a server within this time."""
    from kazoo.client import KazooClient  # type: ignore[import-untyped]  # it has none

    client = KazooClient(hosts=url, timeout=seconds)
    try:
        client.start(timeout=seconds)
    except BaseException:
        close(client)
        raise
    return client


def close(client: Any) -> None:
    client.stop()
    client.close()


@contextmanager
def temporary_path(url: str) -> Iterator[str]:
    """Give a path that no node has; nodes below it in the end are removed, others are not touched."""
    path = f"/test-{uuid.uuid4().hex[:12]}"
    try:
        yield path
    finally:
        client = connected(url, seconds=10)
        try:
            client.delete(path, recursive=True)  # says nothing if there is none
        finally:
            close(client)
