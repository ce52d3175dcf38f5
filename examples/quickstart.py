"""What the jobs of quickstart.ini do: plain functions that know nothing of schedulers."""

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

# The database of the jobs lives here too, and SQLite creates files, but no directories.
Path("quickstart-data").mkdir(exist_ok=True)


def backup(database: str, directory: str, keep: int) -> None:
    """Copy an SQLite database while it is in use, and delete all but the last copies.

    :param keep: how many copies remain
    """
    source_path, copies = Path(database), Path(directory)
    copies.mkdir(parents=True, exist_ok=True)
    copy_path = copies / f"{source_path.stem}-{datetime.now():%Y%m%d-%H%M%S}.sqlite"
    unfinished = copy_path.with_suffix(".part")
    with (
        closing(sqlite3.connect(source_path)) as source,
        closing(sqlite3.connect(unfinished)) as copy,
    ):
        source.backup(copy)
    unfinished.replace(copy_path)  # whoever finds a copy finds a whole one
    found = sorted(copies.glob(f"{source_path.stem}-*.sqlite"))
    for old in found[:-keep]:
        old.unlink()
    print(f"          copied to {copy_path}; copies now: {len(found[-keep:])}")


def report(directory: str) -> None:
    """Print how much space the files in a directory take."""
    sizes = [
        path.stat().st_size for path in Path(directory).rglob("*") if path.is_file()
    ]
    print(f"          {directory} has {len(sizes)} files, {sum(sizes) / 1024:.0f} KiB")
