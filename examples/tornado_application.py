"""A Tornado web server with jobs of its own: coroutines on the loop, functions in threads."""

import asyncio
import threading

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from apscheduler.schedulers.tornado import TornadoScheduler


class Hello(RequestHandler):
    def get(self) -> None:
        self.write("Hello from the server")


async def fetch(url: str, done: asyncio.Event) -> None:
    response = await AsyncHTTPClient().fetch(url)
    print(response.body.decode())
    done.set()


def work(done: threading.Event) -> None:
    print("Working beside the loop")
    done.set()


async def main() -> None:
    fetched, worked = asyncio.Event(), threading.Event()
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/", Hello)]))
    server.add_sockets(sockets)
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"
    async with TornadoScheduler() as scheduler:
        scheduler.add_job(work, args=[worked])
        scheduler.add_job(fetch, "interval", seconds=1, args=[url, fetched])
        await asyncio.wait_for(fetched.wait(), 20)
        await asyncio.to_thread(worked.wait, 20)
    server.stop()
    await server.close_all_connections()
    print("Stopped")


asyncio.run(main())
