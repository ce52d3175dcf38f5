"""``apscheduler plugins``: what is installed, from where, and what is known but missing."""

from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.text import Text

from apscheduler.checks import BASE_CLASSES as OTHER_BASE_CLASSES
from apscheduler.cli.errors import describe_error
from apscheduler.cli.output import Output, output_options
from apscheduler.cli.sources import scheduler_warnings
from apscheduler.distributions import COMPONENTS, distribution_of
from apscheduler.hooks import PROJECT, get_hooks
from apscheduler.installed import entry_points_of
from apscheduler.plugins import KINDS, Kind, installed_components
from apscheduler.triggers.base import BaseTrigger

BASE_CLASSES: Mapping[Kind, type] = {"trigger": BaseTrigger, **OTHER_BASE_CLASSES}


@click.command(
    help="""List the installed components and hook plugins with the distributions they come from, and the components of
    this project that are not installed.

    Components are not imported, unless there is --load, which finds those that cannot be, and those that are refused when they are used; hook plugins are.

    \b
    apscheduler plugins
    apscheduler plugins --kind jobstore --load
    apscheduler plugins --json
    """
)
@click.option("--kind", type=click.Choice([*KINDS]), help="Only this kind.")
@click.option("--load", is_flag=True, help="Import each component.")
@output_options
def plugins(kind: Kind | None, load: bool, output: Output) -> None:
    """List plugins."""
    kinds = [kind] if kind is not None else [*KINDS]
    components = [each for kind in kinds for each in _components(kind, load)]
    hooks = [] if kind is not None else list(_hooks())
    if output.is_json:
        output.document({"components": components, "hooks": hooks})
        return
    output.table(
        ["kind", "name", "distribution", "version", "class"],
        [
            [
                each["kind"],
                each["name"],
                each["distribution"],
                each["version"],
                _state(each),
            ]
            for each in components
        ],
    )
    if hooks:
        output.say("")
        output.table(
            ["hook plugin", "distribution", "version", "hooks"],
            [
                [
                    each["name"],
                    each["distribution"],
                    each["version"],
                    Text(each["error"], "red")
                    if each["error"]
                    else ", ".join(each["hooks"]),
                ]
                for each in hooks
            ],
        )


def _state(component: dict[str, Any]) -> Text:
    if not component["installed"]:
        return Text(f"not installed: pip install {component['distribution']}", "dim")
    if component["error"]:
        return Text(component["error"], "red")
    return Text(component["class"])


def _components(kind: Kind, load: bool) -> Iterator[dict[str, Any]]:
    installed = installed_components(kind)
    for name in sorted({*installed, *COMPONENTS[kind]}):
        component = installed.get(name)
        error = None
        if component is not None and load:
            try:
                _check_base(component.load(), kind)
            except Exception as exc:  # other people's modules
                error = f"{type(exc).__name__}: {exc}"
        yield {
            "kind": kind,
            "name": name,
            "distribution": distribution_of(kind, name)
            if component is None
            else component.distribution,
            "version": None if component is None else component.version,
            "class": COMPONENTS[kind][name] if component is None else component.value,
            "installed": component is not None,
            "error": error,
        }


def _check_base(cls: type, kind: Kind) -> None:
    """Check that a class is of the kind that it is installed as.

    :raises TypeError: if it is not
    """
    base = BASE_CLASSES[kind]
    if not issubclass(cls, base):
        raise TypeError(
            f"{cls.__qualname__} must be a subclass of {base.__name__}, and is refused when it is used"
        )


def _hooks() -> Iterator[dict[str, Any]]:
    hooks = get_hooks()
    with scheduler_warnings(lambda text: None):  # the table tells of broken ones
        hooks.load_installed()
    for entry_point in entry_points_of(PROJECT):
        plugin = hooks.get_plugin(entry_point.name)
        error = hooks.broken.get(entry_point.name)
        yield {
            "name": entry_point.name,
            "distribution": entry_point.dist.name if entry_point.dist else None,
            "version": entry_point.dist.version if entry_point.dist else None,
            "value": entry_point.value,
            "hooks": sorted(name for name in dir(plugin) if name.startswith(PROJECT)),
            "error": None if error is None else f"skipped: {describe_error(error)}",
        }
