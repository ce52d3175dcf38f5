"""The results as a page of the documentation, with a picture."""

import html
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.catalogue import Faster, Workload
from runner.environments import RELEASE
from runner.measuring import Metric
from runner.report import is_met, round_to_read, summary

Results = Sequence[tuple[Workload, list[Metric]]]

# Pixels.
ROW, BAR, NAMES, WIDTH = 20, 12, 330, 300


def write_page(path: Path, results: Results, machine: Mapping[str, Any]) -> None:
    """Write the page, and the picture beside it."""
    picture = path.with_suffix(".svg")
    picture.write_text(_draw(_ratios(results)), encoding="utf-8")
    lines = [
        "# Speed",
        "",
        (
            f"Made by `make bench` on {datetime.now(UTC):%Y-%m-%d}, with Python {machine['python']} on {machine['cpus']} "
            f"cores ({machine['machine']}) with a load of {machine['load_average']:.1f} before."
        ),
        (
            f"Each value is the median of some rounds, in which this project and APScheduler {RELEASE} took turns; "
            "what is measured is told in `bench/README.md`."
        ),
        "All values are better when smaller.",
        "",
        f"```{{figure}} {picture.name}",
        f":alt: How many times faster than APScheduler {RELEASE}",
        "",
        f"How many times faster than APScheduler {RELEASE}",
        "```",
    ]
    for workload, metrics in results:
        lines += ["", f"## {workload.title}", "", *_table(workload, metrics)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(workload: Workload, metrics: Sequence[Metric]) -> list[str]:
    lines = [
        f"| {workload.name} | here | {RELEASE} | times faster | aim |",
        "|---|---:|---:|---:|---|",
    ]
    for metric in metrics:
        aim = workload.aims.get(metric.name)
        verdict = {None: "", True: ", met", False: ", missed"}[is_met(workload, metric)]
        cells = (
            metric.name.replace("*", "\\*"),
            summary(metric.ours, metric.unit),
            summary(metric.released, metric.unit),
            "" if metric.ratio is None else round_to_read(metric.ratio),
            f"{aim}{verdict}" if aim else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratios(results: Results) -> list[tuple[str, float]]:
    """Return what is compared with the release, by the aim of being faster."""
    return [
        (f"{workload.name}: {metric.name}", metric.ratio)
        for workload, metrics in results
        for metric in metrics
        if metric.ratio and isinstance(workload.aims.get(metric.name), Faster)
    ]


def _draw(ratios: Sequence[tuple[str, float]]) -> str:
    """Return bars on a logarithmic scale that begin where both are equally fast."""
    most = max((abs(math.log10(ratio)) for _, ratio in ratios), default=1.0) or 1.0
    scale = WIDTH / most
    has_slower = any(ratio < 1 for _, ratio in ratios)
    zero = NAMES + (60 if has_slower else 0)
    parts = [
        f'<line x1="{zero}" y1="0" x2="{zero}" y2="{ROW * len(ratios)}" stroke="#888"/>'
    ]
    for index, (name, ratio) in enumerate(ratios):
        length = max(-60.0, math.log10(ratio) * scale)
        top = index * ROW + (ROW - BAR) / 2
        color = "#2a7f62" if ratio >= 1 else "#c4572c"
        left = zero + min(length, 0.0)
        text = index * ROW + ROW * 0.7
        parts += [
            f'<text x="{NAMES - 8}" y="{text}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{left:.1f}" y="{top}" width="{abs(length):.1f}" height="{BAR}" fill="{color}"/>',
            f'<text x="{max(zero, zero + length) + 6:.1f}" y="{text}">{round_to_read(ratio)}</text>',
        ]
    width, height = zero + WIDTH + 60, ROW * max(len(ratios), 1)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11" fill="#777">\n{body}\n</svg>\n'
    )
