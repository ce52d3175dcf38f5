"""A Twisted server with jobs of its own: coroutines on the reactor, functions in its threads."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol

from apscheduler.schedulers.twisted import TwistedScheduler

scheduler = TwistedScheduler()


class Hello(Protocol):
    def connectionMade(self) -> None:
        self.transport.write(b"Hello from the server")
        self.transport.loseConnection()


class Reader(Protocol):
    def __init__(self) -> None:
        self.text: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.text.callback(data.decode())


async def fetch(port: int) -> None:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    reader = await connectProtocol(endpoint, Reader())
    print(await reader.text)
    reactor.stop()


def work() -> None:
    print("Working beside the reactor")


def stop() -> "Deferred[None]":
    scheduler.shutdown()
    return scheduler.wait_closed()


async def main() -> None:
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port: Any = await endpoint.listen(Factory.forProtocol(Hello))
    scheduler.start()
    scheduler.add_job(work)
    scheduler.add_job(fetch, "interval", seconds=1, args=[port.getHost().port])
    reactor.addSystemEventTrigger("before", "shutdown", stop)


reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()))
reactor.run()
print("Stopped")
