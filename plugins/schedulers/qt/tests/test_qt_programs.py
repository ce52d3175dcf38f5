"""Whole programs, each in a process of its own: how Qt and Python end matters to them."""

import os
import subprocess
import sys
import types
from pathlib import Path
from textwrap import dedent

import pytest

from apscheduler.schedulers import qt
from apscheduler.schedulers.qt import BINDINGS, import_qtcore

BINDING = qt.QtCore.__name__.partition(".")[0]
BEGINNING = f"""
    import os, signal, sys, threading, time
    from {BINDING}.QtCore import QCoreApplication, QThread, QTimer
    from apscheduler.events import *
    from apscheduler.schedulers.qt import QtScheduler

    def told(event):
        print("executed" if event.code == EVENT_JOB_EXECUTED else "shut down", flush=True)

    def make():
        scheduler = QtScheduler(timezone="UTC")
        scheduler.add_listener(told, EVENT_JOB_EXECUTED | EVENT_SCHEDULER_SHUTDOWN)
        return scheduler

    may_end = threading.Event()
"""


def run_program(text: str, **environment: str) -> list[str]:
    """Run a program that has to end by itself, without any complaint, and return the lines that it has printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(BEGINNING) + dedent(text)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.splitlines()


def test_program_shuts_down_after_its_loop_and_waits_for_jobs() -> None:
    lines = run_program("""
        application = QCoreApplication([])
        scheduler = make()
        scheduler.start()
        def work():
            scheduler._life.loop.call_soon(application.quit)
            may_end.wait(20)
        scheduler.add_job(work)
        application.exec()
        threading.Timer(0.05, may_end.set).start()
        scheduler.shutdown()
        print("over")
    """)

    assert lines == ["executed", "shut down", "over"]


def test_program_shuts_down_when_it_is_about_to_quit() -> None:
    lines = run_program("""
        application = QCoreApplication([])
        scheduler = make()
        application.aboutToQuit.connect(scheduler.shutdown)
        scheduler.start()
        def work():
            scheduler._life.loop.call_soon(application.quit)
            may_end.wait(20)
        scheduler.add_job(work)
        application.exec()
        may_end.set()
    """)

    assert lines == ["executed", "shut down"]


def test_slot_can_shut_down_and_quit_when_that_is_complete() -> None:
    lines = run_program("""
        application = QCoreApplication([])
        scheduler = make()
        scheduler.add_listener(lambda event: application.quit(), EVENT_SCHEDULER_SHUTDOWN)
        scheduler.start()
        scheduler.add_job(may_end.wait, args=[20])
        def quit():
            scheduler.shutdown()
            print("the loop goes on", flush=True)
            QTimer.singleShot(20, may_end.set)
        QTimer.singleShot(20, quit)
        application.exec()
        print("over")
    """)

    assert lines == ["the loop goes on", "executed", "shut down", "over"]


def test_program_ends_without_shutting_down() -> None:
    assert (
        run_program("""
        application = QCoreApplication([])
        scheduler = make()
        scheduler.start()
        scheduler.add_job(print, "interval", seconds=3600)
        QTimer.singleShot(20, application.quit)
        application.exec()
    """)
        == []
    )


def test_application_may_be_gone_before_the_scheduler() -> None:
    lines = run_program("""
        scheduler = make()
        def main():
            application = QCoreApplication([])
            scheduler.start()
            scheduler.add_job(print, "interval", seconds=3600)
            QTimer.singleShot(20, application.quit)
            application.exec()
        main()
        scheduler.wakeup()
        scheduler.shutdown()
        print(scheduler.running)
    """)

    assert lines == ["shut down", "False"]


def test_scheduler_is_started_again_with_another_application() -> None:
    lines = run_program("""
        scheduler = make()
        def main():
            application = QCoreApplication.instance() or QCoreApplication([])
            scheduler.start()
            scheduler.add_job(lambda: scheduler._life.loop.call_soon(application.quit))
            application.exec()
            scheduler.shutdown()
            if hasattr(application, "shutdown"):
                application.shutdown()
        main()
        main()
    """)

    assert lines == 2 * ["executed", "shut down"]


def test_start_without_an_application_says_what_to_do() -> None:
    [line] = run_program("""
        scheduler = make()
        try:
            scheduler.start()
        except RuntimeError as exc:
            print(exc)
        assert not scheduler.running
    """)

    assert "needs a Qt application" in line
    assert f"QCoreApplication of {BINDING}" in line


def test_jobs_run_in_a_thread_of_qt_with_its_own_loop() -> None:
    lines = run_program("""
        application = QCoreApplication([])
        class Worker(QThread):
            def run(self):
                scheduler.start()
                scheduler.add_job(int)
                self.exec()
        scheduler = make()
        worker = Worker()
        scheduler.add_listener(lambda event: worker.quit(), EVENT_JOB_EXECUTED)
        worker.finished.connect(application.quit)
        worker.start()
        application.exec()
        worker.wait()
        scheduler.shutdown()
    """)

    assert lines == ["executed", "shut down"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_process_shuts_down_without_the_loop_of_its_parent() -> None:
    lines = run_program("""
        application = QCoreApplication([])
        scheduler = make()
        scheduler.start()
        scheduler.add_job(int, "interval", hours=1)
        QTimer.singleShot(20, application.quit)
        application.exec()
        import warnings
        warnings.simplefilter("ignore")  # of a fork beside threads
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)  # rather than wait for ever
            scheduler.shutdown()
            os._exit(int(scheduler.running))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), scheduler.running)
        scheduler.add_job(application.quit)
        application.exec()
        scheduler.shutdown()
    """)

    assert lines == ["shut down", "0 True", "executed", "shut down"]


def test_binding_that_the_program_has_loaded_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in BINDINGS:
        monkeypatch.delitem(sys.modules, f"{name}.QtCore", raising=False)
    another = types.ModuleType("PyQt5.QtCore")
    monkeypatch.setitem(sys.modules, "PyQt5", types.ModuleType("PyQt5"))
    monkeypatch.setitem(sys.modules, "PyQt5.QtCore", another)

    assert import_qtcore() is another


def test_without_any_binding_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in BINDINGS:
        monkeypatch.setitem(sys.modules, f"{name}.QtCore", None)
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ImportError) as caught:
        import_qtcore()

    assert str(caught.value) == (
        "QtScheduler needs one of PySide6, PyQt6, PyQt5, PySide2, and none of them can be imported: "
        "pip install apscheduler-scheduler-qt[pyside6]"
    )


def test_library_that_a_binding_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in BINDINGS:
        monkeypatch.delitem(sys.modules, f"{name}.QtCore", raising=False)
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "PyQt6")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "PyQt6").mkdir()
    (tmp_path / "PyQt6/__init__.py").touch()
    (tmp_path / "PyQt6/QtCore.py").write_text("raise ImportError('libglib-2.0.so.0')")

    with pytest.raises(ImportError, match=r"imported \(libglib-2\.0\.so\.0\): pip"):
        import_qtcore()
