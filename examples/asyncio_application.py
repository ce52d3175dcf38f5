"""An asyncio application with jobs of its own: coroutines on the loop, functions in threads."""

import asyncio
import threading

from apscheduler.schedulers.asyncio import AsyncIOScheduler


async def greet(name: str, done: asyncio.Event) -> None:
    await asyncio.sleep(0.1)
    print(f"Hello {name}")
    done.set()


def work(threads: list[str]) -> None:
    threads.append(threading.current_thread().name)
    print("Working beside the loop")


async def main() -> None:
    done = asyncio.Event()
    threads: list[str] = []
    async with AsyncIOScheduler() as scheduler:
        scheduler.add_job(work, args=[threads])
        scheduler.add_job(greet, "interval", seconds=1, args=["you", done])
        await asyncio.wait_for(done.wait(), 20)
    print("Stopped")


asyncio.run(main())
