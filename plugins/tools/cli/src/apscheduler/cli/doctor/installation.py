"""Is the right package there, do its distributions fit together, and can plugins be used?"""

from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import apscheduler
from apscheduler.cli.doctor.findings import Finding, ok, problem
from apscheduler.cli.errors import describe_error
from apscheduler.cli.mixture import PACKAGE, advise, find_rivals, has_code, name_of
from apscheduler.cli.sources import scheduler_warnings
from apscheduler.distributions import DISTRIBUTIONS
from apscheduler.hooks import PROJECT, get_hooks
from apscheduler.installed import entry_points_of
from apscheduler.plugins import KINDS, Component, installed_components

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
    yield from _examine_plugins()


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


def _examine_plugins() -> Iterator[Finding]:
    """Look at all plugins, whether anything asks for them or not."""
    hooks = get_hooks()
    with scheduler_warnings(lambda text: None):  # they become findings
        hooks.load_installed()
    for name, error in hooks.broken.items():
        yield problem(
            f"hook plugin {name!r}",
            f"it is broken, and skipped by every scheduler: {describe_error(error)}",
            "Update or remove the distribution that it comes from",
        )
    components = [
        each for kind in KINDS for each in installed_components(kind).values()
    ]
    missing = [each for each in components if not _is_there(each)]
    for each in missing:
        yield problem(
            f"{KINDS[each.kind]} {each.name!r}",
            f"its module is missing: {each.value}",
            f"Install {each.distribution or 'what brings it'} again, or remove it",
        )
    if not hooks.broken and not missing:
        number = len(entry_points_of(PROJECT))
        yield ok("plugins", f"{len(components)} components, {number} with hooks")


def _is_there(component: Component) -> bool:
    """Return whether there is the module of a component, which is not imported: some start what they are made for."""
    try:
        return find_spec(component.value.partition(":")[0].strip()) is not None
    except ModuleNotFoundError:  # of a package that it would be in
        return False
