"""The web applications among the examples: several workers, and each fire time is run once."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PATIENCE = 40
COMMANDS = {
    "fastapi": ["uvicorn", "--workers", "2", "--port", "{port}"],
    "flask": ["gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:{port}"],
}


@pytest.fixture(params=COMMANDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return where the application is served, by two workers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    name = f"{request.param}_application"
    command = [part.format(port=port) for part in COMMANDS[request.param]]
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", *command, f"{name}:app"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}/runs"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(PATIENCE)
        finally:
            try:
                os.killpg(server.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            log.close()
    print((tmp_path / "log").read_text())


def test_workers_share_the_jobs_and_each_fire_time_runs_once(url: str) -> None:
    workers: set[int] = set()
    times: list[str] = []
    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while len(workers) < 2 or len(times) < 3:
        assert time.monotonic() < deadline, (workers, times)
        try:
            with urlopen(url, timeout=PATIENCE) as response:
                answer = json.load(response)
        except URLError:  # the server is not there yet
            pause.wait(0.1)
            continue
        workers.add(answer["worker"])
        times = answer["times"]
        pause.wait(0.01)

    assert len(times) == len(set(times))
