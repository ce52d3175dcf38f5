"""``apscheduler next``: schedules in words, their times, and what the clock does to them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from commands import Command

for module in ("cron", "interval", "date", "combining", "calendarinterval"):
    pytest.importorskip(f"apscheduler.triggers.{module}")

SPRING = ("-z", "Europe/Berlin", "--from", "2030-03-30")
AUTUMN = ("-z", "Europe/Berlin", "--from", "2030-10-26")

COMMAND = Command("next")
invoke, ask = COMMAND.invoke, COMMAND.ask


def local(answer: Any) -> list[str]:
    return [time["local"][:16] for time in answer["times"]]


EXPRESSIONS = [
    (("0 9 * * mon-fri",), "at 09:00, on Monday to Friday", "2030-03-01T09:00"),
    (("0 9 * * 0",), "at 09:00, on Monday", "2030-03-04T09:00"),
    (("0 9 * * 0", "--dialect", "vixie"), "at 09:00, on Sunday", "2030-03-03T09:00"),
    (("@daily", "--dialect", "vixie"), "at 00:00", "2030-03-01T00:00"),
    (("1h30m",), "every 1:30:00, counted from", "2030-03-01T01:30"),
    (("every 5m",), "every 0:05:00", "2030-03-01T00:05"),
    (("interval minutes=5",), "every 0:05:00", "2030-03-01T00:05"),
    (("interval minutes=5 start_date=2030-01-01",), "every", "2030-03-01T00:00"),
    (("interval hours=1 end_date=2030-03-02",), "every 1:00:00", "2030-03-01T01:00"),
    (("2030-05-05 12:00",), "once, at 2030-05-05 12:00:00", "2030-05-05T12:00"),
    (("cron day=last hour=5",), "on the last day of the month", "2030-03-31T05:00"),
    (("calendarinterval weeks=2 hour=4",), "every 2 weeks at 04:00", "2030-03-01T04"),
    (("0 9 * * *", "0 8 * * *"), "whenever one of these does: (1)", "2030-03-01T08:00"),
    (("0 9 * * *", "0 9 * * fri", "--and"), "when all of these", "2030-03-01T09:00"),
]


@pytest.mark.parametrize("arguments, meaning, first", EXPRESSIONS)
def test_every_form_of_expression_is_told_in_words_and_previewed(
    arguments: tuple[str, ...], meaning: str, first: str
) -> None:
    answer = ask(*arguments, "-z", "UTC", "--from", "2030-03-01")

    assert meaning in answer["meaning"]
    assert answer["times"][0]["local"].startswith(first)


@pytest.mark.parametrize(
    "arguments, note",
    [
        (
            ("0 9 * * 1-5",),
            "which is what 'crontab =' in a configuration file means, is at 09:00, on Monday to Friday",
        ),
        (("0 9 1 * mon",), "is at 09:00, on day 1 of the month or on Monday"),
        (("0 9 last * *",), "is not valid: Unrecognized value 'last'"),
        (("0 9 * * 1-5", "--dialect", "vixie"), "mean, is at 09:00, on Tuesday to Sat"),
        (("0 9 * * mon-fri",), None),
        (("0 9 * * 0-6",), None),
        (("cron hour=9 day_of_week=0 minute=0 second=0",), None),
    ],
)
def test_what_the_other_dialect_makes_of_cron_text_is_told_if_that_differs(
    arguments: tuple[str, ...], note: str | None
) -> None:
    notes = ask(*arguments)["notes"]
    result = invoke(*arguments)

    assert [note in each for each in notes] == ([] if note is None else [True])
    assert result.stderr == ""
    assert result.stdout.count("note: ") == len(notes)


def test_people_see_local_time_and_utc() -> None:
    output = invoke("30 2 * * *", *SPRING, "--count", "1").output

    assert "Sat 2030-03-30 02:30:00 CET  2030-03-30 01:30:00" in output


def test_a_time_that_the_clock_leaves_out_is_remarked_as_shifted() -> None:
    answer = ask("30 2 * * *", *SPRING, "-n", "2")

    assert local(answer) == ["2030-03-30T02:30", "2030-03-31T03:30"]
    assert answer["times"][0]["remark"] is None
    assert "shifted: the clock leaves out 1 h" in answer["times"][1]["remark"]


def test_a_time_that_is_left_out_on_demand_is_listed() -> None:
    answer = ask("30 2 * * *", *SPRING, "-n", "2", "--on-gap", "skip")

    assert local(answer) == ["2030-03-30T02:30", "2030-04-01T02:30"]
    assert answer["left_out"] == [
        "2030-03-31 03:30:00 CEST, since its wall time does not exist that day"
    ]


def test_a_time_that_comes_twice_is_remarked() -> None:
    answer = ask("30 2 * * *", *AUTUMN, "-n", "3")

    remarks = [time["remark"] for time in answer["times"]]
    assert remarks[0] is None
    assert "twice, this is the first time" in remarks[1]
    assert "twice, this is the second time" in remarks[2]


def test_the_second_of_two_equal_times_is_left_out_on_demand() -> None:
    answer = ask("30 2 * * *", *AUTUMN, "-n", "3", "--on-fold", "first")

    assert local(answer)[1:] == ["2030-10-27T02:30", "2030-10-28T02:30"]
    assert len(answer["left_out"]) == 1


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("0 0 30 feb *",), "no date has month='feb' and day='30' at once"),
        (("cron hour=5 end_date=2020-01-01",), "its end, 2020-01-01"),
        (("cron year=2020",), "its last year, 2020, is past"),
        (("interval hours=1 end_date=2020-01-01",), "its end, 2020-01-01"),
    ],
)
def test_what_never_fires_says_why(arguments: tuple[str, ...], reason: str) -> None:
    result = invoke(*arguments, "-z", "UTC")

    assert result.exit_code == 1
    assert "It never fires: " in result.stdout
    assert reason in result.stdout


def test_an_interval_is_previewed_as_a_job_gets_it_that_is_added_now() -> None:
    before = datetime.now(UTC)
    (answer,) = ask("5m", "--count", "1")["times"]

    first = datetime.fromisoformat(answer["utc"])
    assert timedelta(0) <= first - before - timedelta(minutes=5) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "arguments", [("2020-01-01",), ("cron year=2020", "2020-01-01")]
)
def test_a_date_that_is_past_is_told_to_run_at_once(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments, "-z", "UTC")

    assert result.exit_code == 1
    assert "It does not fire any more: " in result.stdout
    assert "its time, 2020-01-01 00:00:00 UTC, is past" in result.stdout
    assert "A job that is added with it runs at once" in result.stdout
    assert json.loads(invoke(*arguments, "--json").stdout)["runs_at_once"]


def test_a_date_that_is_past_does_not_hide_the_times_beside_it() -> None:
    result = invoke("0 9 * * *", "2020-01-01", "-z", "UTC", "--from", "2030-01-01")

    assert result.exit_code == 0
    assert result.stdout.count(" 09:00:00 UTC ") == 5
    assert "runs at once, for 2020-01-01 00:00:00 UTC, which is past" in result.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("0 0 9 * * *",), "these are 6 columns: seconds and years are fields"),
        (("soon",), "expected cron text of five columns"),
        (("cron huor=5",), "did you mean 'hour'"),
        (("61 * * * *",), "higher than the maximum value"),
        (("@daily",), "macros need --dialect vixie"),
        (("5m", "-z", "Mars"), "Mars"),
        (("2030-13-01",), "is not a time"),
        (("'",), "is no schedule"),
        (
            ("0", "9", "a.py", "b.py", "1-5"),
            "Put the columns of a cron text into quotes",
        ),
        (("0",), "'0' is no interval: it must be more than 0"),
        (("5m", "--on-gap", "skip"), "--on-gap goes with cron, and there is none"),
        (("5m", "--on-fold", "first"), "--on-fold goes with cron"),
        (("cron hour=5", "--dialect", "vixie"), "--dialect goes with cron text"),
        (("and",), "give the expressions that are to be combined"),
        ((), "Missing argument"),
    ],
)
def test_mistakes_are_explained(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
