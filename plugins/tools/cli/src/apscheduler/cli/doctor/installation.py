"""Is the right package there, and do its distributions fit together?"""

from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

import apscheduler
from apscheduler.cli.doctor.findings import Finding, ok, problem
from apscheduler.distributions import DISTRIBUTIONS

OURS = frozenset({"apscheduler-core", "apscheduler-cli", *DISTRIBUTIONS.values()})
PACKAGE = "apscheduler/__init__.py"
PLACE = Path(apscheduler.__file__).resolve().parent


def examine_installation(places: Sequence[str]) -> Iterator[Finding]:
    """Look at the distributions in this environment.

    :param places: directories from which programs import
    """
    installed = [(_name(each), each) for each in distributions()]
    yield from _find_rivals([each for name, each in installed if name == "apscheduler"])
    yield from _find_copies(places)
    ours = {name: each.version for name, each in installed if name in OURS}
    for name, each in installed:
        if name == "apscheduler" and not _has_code(each):
            ours[name] = each.version
    yield _compare_versions(ours)


def _name(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"]).lower().replace("_", "-")


def _has_code(distribution: Distribution) -> bool:
    """Return whether it brings the package itself: of ours, the core does that."""
    return any(str(file) == PACKAGE for file in distribution.files or ())


def _find_rivals(called_apscheduler: Sequence[Distribution]) -> Iterator[Finding]:
    rivals = [each.version for each in called_apscheduler if _has_code(each)]
    if not rivals:
        yield ok("package apscheduler", f"{apscheduler.__version__} in {PLACE}")
    for version in rivals:
        yield problem(
            "package apscheduler",
            f"the distribution apscheduler {version} brings a package of its own, and files of both are mixed or "
            f"hidden in {PLACE}",
            "Uninstall it, and install the distribution apscheduler of this project again",
        )


def _find_copies(places: Sequence[str]) -> Iterator[Finding]:
    """Look for other modules of that name: whichever comes first on the path hides the others."""
    for place in dict.fromkeys(Path(place or ".").resolve() for place in places):
        for found in (place / PACKAGE, place / "apscheduler.py"):
            if found.exists() and found.parent != PLACE:
                yield problem(
                    "package apscheduler",
                    f"programs that import from {place} may get {found.relative_to(place)} there in place of this one",
                    "Rename or remove it",
                )


def _compare_versions(ours: dict[str, str]) -> Finding:
    subject = "distributions"
    versions = sorted(set(ours.values()))
    if len(versions) > 1:
        usual = max(versions, key=lambda version: list(ours.values()).count(version))
        others = [
            f"{name} {ours[name]}" for name in sorted(ours) if ours[name] != usual
        ]
        return problem(
            subject,
            f"most are {usual}, but there is {', '.join(others)}",
            "Install the same version of all",
        )
    return ok(subject, f"{len(ours)} of version {', '.join(versions)}")
