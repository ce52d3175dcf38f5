"""A program with something else to do: jobs run in threads beside it."""

import queue

from apscheduler.schedulers.background import BackgroundScheduler

letters: "queue.Queue[str]" = queue.Queue()


def write(name: str) -> None:
    letters.put(f"Hello {name}")


scheduler = BackgroundScheduler()
scheduler.start()
scheduler.add_job(write, "interval", seconds=0.5, args=["you"])
for _ in range(2):  # what the program does meanwhile
    print(letters.get(timeout=20))
scheduler.shutdown()
print("Stopped")
