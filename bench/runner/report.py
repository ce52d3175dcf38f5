"""The results as tables for people, and as JSON for programs."""

import os
import platform
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from runner.catalogue import Workload
from runner.environments import RELEASE
from runner.measuring import Metric


def print_table(console: Console, workload: Workload, metrics: list[Metric]) -> None:
    """Show the medians, their spread, and the ratio with its range."""
    rounds = max(len(metric.ours) for metric in metrics)
    table = Table(
        title=f"{workload.title} [dim]({workload.name}, {rounds} rounds)[/]",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("here", justify="right")
    table.add_column(RELEASE, justify="right")
    table.add_column("times better", justify="right")
    table.add_column("aim", justify="right")
    table.add_column("")
    for metric in metrics:
        aim = workload.aims.get(metric.name)
        table.add_row(
            metric.name,
            _describe(metric.ours, metric.unit),
            _describe(metric.released, metric.unit),
            _describe_ratio(metric),
            str(aim) if aim else "",
            {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[
                is_met(workload, metric)
            ],
        )
    console.print(table)


def is_met(workload: Workload, metric: Metric) -> bool | None:
    """Return whether the aim for this metric is met; None if there is none, or nothing to tell it by."""
    aim = workload.aims.get(metric.name)
    if aim is None or not metric.ours:
        return None
    return aim.is_met(statistics.median(metric.ours), metric.ratio)


def to_json(workload: Workload, metrics: list[Metric]) -> dict[str, Any]:
    """Return everything that was measured of a workload."""
    return {
        metric.name: {
            "unit": metric.unit,
            "here": _summary(metric.ours),
            "released": _summary(metric.released),
            "ratio": metric.ratio,
            "ratios": metric.ratios,
            "aim": str(workload.aims[metric.name])
            if metric.name in workload.aims
            else None,
            "is_met": is_met(workload, metric),
        }
        for metric in metrics
    }


def describe_machine() -> dict[str, Any]:
    """Return what the values depend on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "released": RELEASE,
    }


def _summary(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    return {"median": statistics.median(values), "values": list(values)}


def summary(values: Sequence[float], unit: str) -> str:
    """Return the median with its unit, nothing where nothing was measured."""
    if not values:
        return ""
    return f"{round_to_read(statistics.median(values))} {unit}".rstrip()


def _describe(values: Sequence[float], unit: str) -> str:
    """The median, and how far the rounds are from it, in percent."""
    if not values:
        return ""
    median = statistics.median(values)
    text = summary(values, unit)
    if len(values) < 2 or not median:
        return text
    spread = (max(values) - min(values)) / 2 / median
    return f"{text} [dim]±{spread:>3.0%}[/]"


def _describe_ratio(metric: Metric) -> str:
    if metric.ratio is None:
        return ""
    text = f"[bold]{round_to_read(metric.ratio)}[/]"
    ratios = metric.ratios
    if len(ratios) < 2:
        return text
    return (
        f"{text} [dim]({round_to_read(min(ratios))} to {round_to_read(max(ratios))})[/]"
    )


def round_to_read(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
