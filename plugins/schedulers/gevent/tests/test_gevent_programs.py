"""Whole programs: what depends on when something is patched, forked, or ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from apscheduler.testing.jobs import PATIENCE

PATCH = "from gevent import monkey; monkey.patch_all()\n"
WORLDS = pytest.mark.parametrize("start", ["", PATCH], ids=["unpatched", "patched"])

FORK = """
import os, sys, time
import gevent
from gevent.os import fork_and_watch, waitpid
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.gevent import GeventScheduler

def note():
    with open("runs", "a") as file:
        print(os.getpid(), file=file)

def count(pid):
    with open("runs") as file:
        return file.read().split().count(str(pid))

def wait_for(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        gevent.sleep(0.01)

jobstores = {"default": SQLAlchemyJobStore(url="sqlite:///jobs")} if KEPT else {}
scheduler = GeventScheduler(jobstores=jobstores)
scheduler.start()
scheduler.add_job("__main__:note", "interval", seconds=0.05, id="note")
wait_for(lambda: os.path.exists("runs"))

pid = fork_and_watch()
if pid == 0:
    try:
        parent = os.getppid()
        runs = count(parent)
        wait_for(lambda: count(parent) >= runs + 5)  # here greenlets go on, too
        if KEPT:
            scheduler.add_job("__main__:note", "date", id="from the child")
        scheduler.shutdown()
        os._exit(3)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)
status = os.waitstatus_to_exitcode(waitpid(pid, 0)[1])
runs = count(os.getpid())
wait_for(lambda: count(os.getpid()) >= runs + 5)
wait_for(lambda: scheduler.get_job("from the child") is None)
scheduler.shutdown()
print("child:", status, "runs in it:", count(pid))
"""


def run(program: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@WORLDS
@pytest.mark.parametrize("kept", [False, True], ids=["memory", "database"])
def test_forked_process_is_a_client_although_greenlets_go_on_in_it(
    start: str, kept: bool, tmp_path: Path
) -> None:
    output = run(f"{start}KEPT = {kept}\n{FORK}", tmp_path)

    assert output == "child: 3 runs in it: 0\n"


FORKED_WHILE_WAITING = """
import os
import gevent
from gevent.os import fork, waitpid
from apscheduler.schedulers.gevent import GeventScheduler

def note():
    with open("runs", "a") as file:
        print(os.getpid(), file=file)

scheduler = GeventScheduler()
scheduler.start()
executor = scheduler._lookup_executor("default")
submit, children = executor._do_submit_job, []

def submit_and_fork(job, run_times):
    submit(job, run_times)
    child = fork()
    if child == 0:
        gevent.spawn_later(0.2, os._exit, 0)  # here greenlets go on, too
    else:
        children.append(child)

executor._do_submit_job = submit_and_fork
scheduler.add_job("__main__:note")
while not children or not os.path.exists("runs"):
    gevent.sleep(0.01)
waitpid(children[0], 0)
scheduler.shutdown()
with open("runs") as file:
    print(file.read().split() == [str(os.getpid())])
"""


@WORLDS
def test_what_waits_for_its_greenlet_during_a_fork_runs_in_the_parent_only(
    start: str, tmp_path: Path
) -> None:
    assert run(f"{start}{FORKED_WHILE_WAITING}", tmp_path) == "True\n"


OLDER_THREAD = """
import queue, threading
requests, answers = queue.SimpleQueue(), queue.SimpleQueue()

def serve():
    while (call := requests.get()) is not None:
        try:
            answers.put(call())
        except BaseException as exc:
            answers.put(exc)

thread = threading.Thread(target=serve, daemon=True)
thread.start()

from gevent import monkey; monkey.patch_all()
import gevent
from apscheduler.schedulers.gevent import GeventScheduler

def ask(call):
    requests.put(call)
    with gevent.Timeout(15):
        while answers.empty():
            gevent.sleep(0.001)
    return answers.get()

def until(condition):
    with gevent.Timeout(15):
        while not condition():
            gevent.sleep(0.001)

scheduler = GeventScheduler()
heard, hubs = [], []
scheduler.add_listener(lambda event: heard.append(event.code))
greenlet = scheduler.start()
gevent.idle()
job = ask(lambda: scheduler.add_job(lambda: hubs.append(gevent.get_hub())))
until(lambda: hubs)
print(hubs[0] is gevent.get_hub())
print(ask(scheduler.wakeup), ask(scheduler.get_jobs))
print(ask(scheduler.shutdown))
greenlet.join()
print(greenlet.dead)
requests.put(None)
"""


def test_thread_from_before_patching_can_use_the_scheduler(tmp_path: Path) -> None:
    assert run(OLDER_THREAD, tmp_path) == "True\nNone []\nNone\nTrue\n"


ENDING = """
import threading, time
import gevent
from gevent import monkey
from apscheduler.schedulers.gevent import GeventScheduler

scheduler = GeventScheduler()
greenlet = scheduler.start()
scheduler.add_job(gevent.sleep, args=[0.1])
gevent.sleep(0.05)
allocate_lock, start_new_thread, sleep = (
    monkey.get_original(*name)
    for name in [("_thread", "allocate_lock"), ("_thread", "start_new_thread"), ("time", "sleep")]
)
ended = allocate_lock()
ended.acquire()

def stop():
    scheduler.shutdown()
    ended.release()

start_new_thread(stop, ())
greenlet.join()
print("joined")
print(ended.acquire(True, 15))  # the hub does not run any more
"""


@WORLDS
def test_program_may_stop_its_hub_when_it_has_joined_the_greenlet(
    start: str, tmp_path: Path
) -> None:
    assert run(start + ENDING, tmp_path) == "joined\nTrue\n"


SIGNAL = """
import os, signal
import gevent
from apscheduler.schedulers.gevent import GeventScheduler

def work():
    gevent.spawn_later(0.01, os.kill, os.getpid(), signal.SIGTERM)
    gevent.sleep(0.2)
    print("worked")

scheduler = GeventScheduler()
signal.signal(signal.SIGTERM, lambda *args: scheduler.shutdown())
scheduler.add_job(work)
scheduler.start().join()
print("stopped")
"""


@WORLDS
def test_signal_handler_can_shut_the_scheduler_down(start: str, tmp_path: Path) -> None:
    assert run(start + SIGNAL, tmp_path) == "worked\nstopped\n"


LEFT = """
import threading
import gevent
from apscheduler.schedulers.gevent import GeventScheduler

def stop():
    try:
        scheduler.shutdown()
    except RuntimeError as exc:
        print(exc)

scheduler = GeventScheduler()
scheduler.start()
scheduler.add_job(gevent.sleep, args=[60])
gevent.sleep(0.05)
threading.Thread(target=stop).start()
gevent.sleep(0.05)
"""


def test_program_that_ends_does_not_wait_for_a_shutdown_that_needs_its_hub(
    tmp_path: Path,
) -> None:
    assert run(LEFT, tmp_path) == "The hub that was asked to make a call has ended\n"


POSTGRESQL = """
import gevent
from sqlalchemy import event
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.gevent import GeventScheduler

ticks = 0
during = []

def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1

def work():
    return "worked"

store = SQLAlchemyJobStore(URL)
scheduler = GeventScheduler(jobstores={"default": store})
results = []
scheduler.add_listener(lambda e: results.append(e.retval), EVENT_JOB_EXECUTED)
greenlet = scheduler.start()

@event.listens_for(store.engine, "before_cursor_execute")
def be_far_away(connection, cursor, statement, parameters, context, executemany):
    before = ticks
    cursor.execute("SELECT pg_sleep(0.2)")
    during.append(ticks - before)

gevent.spawn(tick)
gevent.spawn(scheduler.add_job, "__main__:work")  # patched, it waits as a greenlet
with gevent.Timeout(30):
    while not results:
        gevent.sleep(0.01)
during.clear()
scheduler.wakeup()
with gevent.Timeout(30):
    while not during:
        gevent.sleep(0.01)
scheduler.shutdown()
print(results, during[0] > 2)
"""


@WORLDS
def test_hub_goes_on_while_postgresql_takes_its_time(
    start: str, postgresql_database_url: str, tmp_path: Path
) -> None:
    """Patched, the driver waits as greenlets do; else it waits in a thread of the scheduler."""
    output = run(f"{start}URL = {postgresql_database_url!r}\n{POSTGRESQL}", tmp_path)

    assert output == "['worked'] True\n"
