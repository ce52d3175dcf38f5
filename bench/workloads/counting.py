"""The job function of stored jobs, which find it by its name."""

from harness import Countdown

countdown: Countdown | None = None


def tick() -> None:
    if countdown is not None:
        countdown.tick()
