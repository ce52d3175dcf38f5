"""Another distribution that brings a package ``apscheduler``, such as APScheduler 3, over or under this project.

Then nothing of this project may be importable: only the standard library is used here.
"""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

PACKAGE = "apscheduler/__init__.py"
CORE, CLI = "apscheduler-core", "apscheduler-cli"


def explain_import(exc: ImportError) -> str | None:
    """Return why the command cannot be imported and what to do; None if no other package is the reason."""
    if not (exc.name or "").startswith("apscheduler"):
        return None
    installed = list(distributions())
    rivals = list(find_rivals(installed))
    if rivals:
        rival = f"{rivals[0].metadata['Name']} {rivals[0].version}"
        what = (
            f"The distribution {rival} brings a package apscheduler of its own, and its files are mixed with, or hide, "
            "those of this project"
        )
    elif any(_lacks_files(each) for each in installed if name_of(each) == CORE):
        what = f"Files of {CORE} are gone, as they are when APScheduler 3 was installed over it and removed"
    else:
        return None
    return f"{what}: {exc}. {advise(installed)}"


def find_rivals(installed: list[Distribution]) -> Iterator[Distribution]:
    """Find distributions of our name that bring the package itself: of ours, the core does that."""
    for each in installed:
        if name_of(each) == "apscheduler" and has_code(each):
            yield each


def advise(installed: list[Distribution]) -> str:
    """Return what to do, a sentence."""
    # The first on the path counts.
    versions = {name_of(each): each.version for each in reversed(installed)}
    version = versions.get(CLI)
    pin = f"=={version}" if version else ""
    ours = sorted(
        name
        for name in versions
        if name.startswith("apscheduler-") and versions[name] == version
    )
    wanted = " ".join(f"{name}{pin}" for name in ["apscheduler", *ours])
    # One after the other: to remove the other one takes away files that both have.
    return (
        "To mend it, run first 'pip uninstall -y apscheduler', then "
        f"'pip install --force-reinstall --no-deps {wanted}'"
    )


def name_of(distribution: Distribution) -> str:
    """Return the name of a distribution in the form that can be compared."""
    return str(distribution.metadata["Name"]).lower().replace("_", "-")


def has_code(distribution: Distribution) -> bool:
    """Return whether it brings the package itself."""
    return any(str(file) == PACKAGE for file in distribution.files or ())


def _lacks_files(distribution: Distribution) -> bool:
    files = distribution.files or ()
    return any(
        not Path(file.locate()).exists() for file in files if file.suffix == ".py"
    )
