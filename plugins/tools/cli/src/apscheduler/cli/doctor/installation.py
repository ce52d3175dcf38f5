"""Is the right package there, and do its distributions fit together?"""

from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import apscheduler
from apscheduler.cli.doctor.findings import Finding, ok, problem
from apscheduler.distributions import DISTRIBUTIONS

OURS = frozenset({"apscheduler-core", "apscheduler-cli", *DISTRIBUTIONS.values()})
PACKAGE = "apscheduler/__init__.py"


def examine_installation() -> Iterator[Finding]:
    """Look at the distributions in this environment."""
    installed = {_name(each): each for each in distributions()}
    yield _find_rival(installed.get("apscheduler"))
    ours = {name: each.version for name, each in installed.items() if name in OURS}
    if "apscheduler" in installed and not _has_code(installed["apscheduler"]):
        ours["apscheduler"] = installed["apscheduler"].version
    yield _compare_versions(ours)


def _name(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"]).lower().replace("_", "-")


def _has_code(distribution: Distribution) -> bool:
    """Return whether it brings the package itself: of ours, the core does that."""
    return any(str(file) == PACKAGE for file in distribution.files or ())


def _find_rival(distribution: Distribution | None) -> Finding:
    subject = "package apscheduler"
    place = Path(apscheduler.__file__).parent
    if distribution is not None and _has_code(distribution):
        return problem(
            subject,
            f"the distribution apscheduler {distribution.version} brings a package of its own, and files of both are "
            f"mixed or hidden in {place}",
            "Uninstall it, and install the distribution apscheduler of this project again",
        )
    return ok(subject, f"{apscheduler.__version__} in {place}")


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
