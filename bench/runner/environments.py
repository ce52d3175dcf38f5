"""The two environments that are compared: installed alike, from wheels, with the same versions of everything else."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

BENCH = Path(__file__).parent.parent
ROOT = BENCH.parent
UV = ROOT / "scripts" / "uv"
CONSTRAINTS = ROOT / "constraints.txt"
RELEASE = "3.11.3"
DRIVERS = ("psycopg[binary]", "pymysql", "redis", "pymongo", "kazoo")
# What schedules are compared with.
OTHERS = ("cronsim",)
# What only the released APScheduler needs: its client of etcd does not work with newer versions of protobuf.
RELEASED_DRIVERS = ("etcd3", "protobuf<4")


def prepare_released() -> Path:
    """Return the interpreter of an environment with the released APScheduler."""
    requirements = [
        f"apscheduler=={RELEASE}",
        "sqlalchemy",
        *DRIVERS,
        *OTHERS,
        *RELEASED_DRIVERS,
    ]
    recipe = f"{sys.version}\n{requirements}\n{CONSTRAINTS.read_text()}"
    return _prepare(BENCH / f".venv-{RELEASE}", recipe, requirements)


def prepare_ours() -> Path:
    """Return the interpreter of an environment with every distribution of this checkout, as it is now."""
    digest = hashlib.sha256(
        f"{sys.version}\n{DRIVERS}\n{OTHERS}\n{CONSTRAINTS.read_text()}".encode()
    )
    for path in _sources():
        digest.update(str(path).encode())
        digest.update(path.read_bytes())
    directory, recipe = BENCH / ".venv-here", digest.hexdigest()
    if _is_prepared(directory, recipe):
        return _interpreter(directory)
    with tempfile.TemporaryDirectory(prefix="apscheduler-bench-") as wheels:
        print("Building the wheels of this checkout", file=sys.stderr)
        _run(UV, "build", "-q", "--all-packages", "--wheel", "--out-dir", wheels)
        names = sorted(str(wheel) for wheel in Path(wheels).glob("*.whl"))
        return _prepare(directory, recipe, [*names, *DRIVERS, *OTHERS])


def _sources() -> Iterator[Path]:
    for distribution in (ROOT, ROOT / "core", *sorted(ROOT.glob("plugins/*/*"))):
        yield from distribution.glob("pyproject.toml")
        for path in sorted((distribution / "src").rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path


def _prepare(directory: Path, recipe: str, requirements: Sequence[str]) -> Path:
    """Make the environment, unless it was made by the same recipe before."""
    interpreter = _interpreter(directory)
    if _is_prepared(directory, recipe):
        return interpreter
    print(f"Installing {directory.name}", file=sys.stderr)
    _run(UV, "venv", "-q", "--clear", "--python", sys.executable, str(directory))
    _run(
        UV,
        *("pip", "install", "-q", "--python", str(interpreter), "--compile-bytecode"),
        *("--constraints", str(CONSTRAINTS), *requirements),
    )
    _stamp(directory).write_text(recipe)
    return interpreter


def _is_prepared(directory: Path, recipe: str) -> bool:
    stamp = _stamp(directory)
    return stamp.is_file() and stamp.read_text() == recipe


def _stamp(directory: Path) -> Path:
    return directory / "recipe.txt"


def _interpreter(directory: Path) -> Path:
    return directory / "bin" / "python"


def _run(program: Path, *arguments: str) -> None:
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run([program, *arguments], check=True, cwd=ROOT, env=environment)
