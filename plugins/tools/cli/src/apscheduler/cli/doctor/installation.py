"""Is the right package there, and do its distributions fit together?"""

from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path

import apscheduler
from apscheduler.cli.doctor.findings import Finding, ok, problem
from apscheduler.cli.mixture import PACKAGE, advise, find_rivals, has_code, name_of
from apscheduler.distributions import DISTRIBUTIONS

OURS = frozenset({"apscheduler-core", "apscheduler-cli", *DISTRIBUTIONS.values()})
PLACE = Path(apscheduler.__file__).resolve().parent


def examine_installation(places: Sequence[str]) -> Iterator[Finding]:
    """Look at the distributions in this environment.

    :param places: directories from which programs import
    """
    installed = list(distributions())
    rivals = list(find_rivals(installed))
    if not rivals:
        yield ok("package apscheduler", f"{apscheduler.__version__} in {PLACE}")
    for rival in rivals:
        yield problem(
            "package apscheduler",
            f"the distribution apscheduler {rival.version} brings a package of its own, and files of both are mixed or "
            f"hidden in {PLACE}",
            advise(installed),
        )
    yield from _find_copies(places)
    ours = {
        name_of(each): each.version
        for each in installed
        if name_of(each) in OURS
        or (name_of(each) == "apscheduler" and not has_code(each))
    }
    yield _compare_versions(ours)


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
