"""A gevent program with jobs of its own: they run in greenlets and wait for one another as greenlets do."""

from gevent import monkey

monkey.patch_all()

import time  # patched: sleep() lets other greenlets go on

from gevent.queue import Queue

from apscheduler.schedulers.gevent import GeventScheduler

letters = Queue()


def write(name: str) -> None:
    time.sleep(0.1)
    letters.put(f"Hello {name}")


def read(scheduler: GeventScheduler) -> None:
    for _ in range(2):
        print(letters.get(timeout=20))
    scheduler.shutdown()


scheduler = GeventScheduler()
scheduler.add_job(read, args=[scheduler])
scheduler.add_job(write, "interval", seconds=0.5, args=["you"])
scheduler.start().join()
print("Stopped")
