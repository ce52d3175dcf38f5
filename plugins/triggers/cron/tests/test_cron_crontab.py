"""Crontab lines in both dialects."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apscheduler.triggers.cron import CronTrigger

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("5 4 * * *", "hour='4', minute='5'"),
        ("*/15 8-18 * * 1-5", "day_of_week='mon-fri', hour='8-18', minute='*/15'"),
        ("0 0 * * 0", "day_of_week='sun', hour='0', minute='0'"),
        ("0 0 * * 7", "day_of_week='sun', hour='0', minute='0'"),
        ("0 0 * * 0-2", "day_of_week='mon,tue,sun', hour='0', minute='0'"),
        ("0 0 * * fri-sun", "day_of_week='fri-sun', hour='0', minute='0'"),
        ("0 0 * * 5-7", "day_of_week='fri-sun', hour='0', minute='0'"),
        ("0 0 * * */2", "day_of_week='tue,thu,sat,sun', hour='0', minute='0'"),
        ("0 0 * * 1-5/2", "day_of_week='mon,wed,fri', hour='0', minute='0'"),
        ("0 0 * * Mon,WED", "day_of_week='mon,wed', hour='0', minute='0'"),
        ("0 0 * jan-MAR,11 *", "month='1-3,11', hour='0', minute='0'"),
        ("0 0 * jan-dec/4 *", "month='1-12/4', hour='0', minute='0'"),
        # These steps are larger than what is left of the range.
        ("*/60 */24 * * *", "hour='0', minute='0'"),
        ("0-5/9 * * * *", "minute='0'"),
        ("*/1 23-23 * * *", "hour='23', minute='*'"),
    ],
)
def test_vixie_lines_are_translated(line: str, fields: str) -> None:
    trigger = CronTrigger.from_crontab(line, UTC, dialect="vixie")

    given = [
        text for text in str(trigger)[5:-1].split(", ") if not text.endswith("'*'")
    ]
    expected = [text for text in fields.split(", ") if not text.endswith("'*'")]
    assert given == expected
    assert str(trigger.fields[-1]) == "0"


@pytest.mark.parametrize(
    ("macro", "expected"),
    [
        ("@yearly", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@annually", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ("@monthly", ["2026-02-01 00:00", "2026-03-01 00:00"]),
        ("@weekly", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("@daily", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("@midnight", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("@hourly", ["2026-01-01 01:00", "2026-01-01 02:00"]),
    ],
)
def test_macros_have_their_usual_meaning(macro: str, expected: list[str]) -> None:
    trigger = CronTrigger.from_crontab(macro, UTC, dialect="vixie")

    times = trigger.preview(2, START + timedelta(seconds=1))

    assert [time.strftime("%Y-%m-%d %H:%M") for time in times] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Both restricted: either is enough.
        ("0 0 13 * fri", [2, 9, 13, 16, 23, 30]),
        ("0 0 1,15 * 1-2", [1, 5, 6, 12, 13, 15, 19, 20, 26, 27]),
        # One of them starts with an asterisk: both have to match.
        ("0 0 13 * *", [13]),
        ("0 0 * * fri", [2, 9, 16, 23, 30]),
        ("0 0 */2 * fri", [9, 23]),
        ("0 0 1-9 * */2", [1, 3, 4, 6, 8]),
    ],
)
def test_vixie_takes_day_or_weekday_if_both_are_restricted(
    line: str, expected: list[int]
) -> None:
    trigger = CronTrigger.from_crontab(
        line, UTC, dialect="vixie", end_date="2026-01-31 23:59:59"
    )

    assert [time.day for time in trigger.preview(31, START)] == expected


def test_a_trigger_for_either_day_says_so_and_is_not_readable_for_release_3() -> None:
    trigger = CronTrigger.from_crontab("0 0 13 * fri", UTC, dialect="vixie")

    assert str(trigger).endswith("minute='0', day_or_weekday=True]")
    assert trigger.__getstate__()["version"] == 3
    assert trigger.__getstate__()["day_or_weekday"] is True


def test_either_day_makes_an_impossible_day_possible(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trigger = CronTrigger.from_crontab("0 0 30 2 mon", UTC, dialect="vixie")

    assert caplog.messages == []
    assert trigger.get_next_fire_time(None, START) == datetime(2026, 2, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("@reboot", "'@reboot' is not a time"),
        ("@fortnightly", "Unknown crontab macro '@fortnightly': expected one of @year"),
        ("1 2 3 4", "Wrong number of fields; got 4, expected 5"),
        ("0 0 * * 8", "'8' for day_of_week must be an ascending range within 0-7"),
        ("60 * * * *", "'60' for minute must be an ascending range within 0-59"),
        ("0 22-2 * * *", "'22-2' for hour must be an ascending range within 0-23"),
        ("0 5/2 * * *", "The step in '5/2' for hour needs a range: write 5-23/2"),
        ("0 */0 * * *", "The step in '\\*/0' for hour must be higher than 0"),
        (
            "0 0 L * *",
            "Unrecognized value 'L' for day in a crontab line: expected a nu",
        ),
        ("0 0 * * 5#2", "Unrecognized expression '5#2' for day_of_week"),
        ("0 0 ? * *", "Unrecognized expression '\\?' for day"),
        ("0,,5 0 * * *", "Unrecognized expression '' for minute"),
        ("0 0 * january *", "Unrecognized value 'january' for month .* one of jan"),
    ],
)
def test_vixie_lines_that_mean_nothing_are_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CronTrigger.from_crontab(line, UTC, dialect="vixie")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", "Wrong number of fields; got 3, expected 5"),
        ("@daily", "got 1, expected 5 .*; macros need dialect='vixie'"),
        ("0 0 * * 7", "is higher than the maximum value"),
    ],
)
def test_lines_that_mean_nothing_are_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CronTrigger.from_crontab(line, UTC)


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dialect must be one of .*, not 'quartz'"):
        CronTrigger.from_crontab("* * * * *", dialect="quartz")  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("0 0 * * 0", "means mon"),
        ("0 0 * * 1-5", "means tue,wed,thu,fri,sat"),
        ("0 0 * * sat,6", "means sat,sun"),
        ("0 0 * * */3", "means mon,thu,sun"),
    ],
)
def test_weekday_numbers_are_explained(
    line: str, meaning: str, caplog: pytest.LogCaptureFixture
) -> None:
    CronTrigger.from_crontab(line, UTC)

    assert len(caplog.messages) == 1
    assert repr(line) in caplog.messages[0]
    assert meaning in caplog.messages[0]
    assert "dialect='vixie'" in caplog.messages[0]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("0 0 1 * mon-fri", {}),
        ("*/5 * * * *", {}),
        ("0 0 * * 0", {"dialect": "vixie"}),
    ],
)
def test_weekday_names_need_no_explanation(
    line: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    CronTrigger.from_crontab(line, UTC, **options)

    assert caplog.messages == []


def test_options_are_passed_on() -> None:
    trigger = CronTrigger.from_crontab(
        "0 2 * * *",
        "Europe/Berlin",
        start_date="2026-01-01",
        end_date="2026-12-31",
        jitter=5,
        on_gap="skip",
        on_fold="first",
    )

    assert repr(trigger) == (
        "<CronTrigger (month='*', day='*', day_of_week='*', hour='2', minute='0', "
        "start_date='2026-01-01 00:00:00 CET', end_date='2026-12-31 00:00:00 CET', "
        "jitter=5, on_gap='skip', on_fold='first', timezone='Europe/Berlin')>"
    )


def test_a_subclass_needs_to_know_only_the_options_in_use() -> None:
    class Plain(CronTrigger):
        __slots__ = ()

        def __init__(
            self,
            minute: str,
            hour: str,
            day: str,
            month: str,
            day_of_week: str,
            timezone: Any,
        ) -> None:
            super().__init__(hour=hour, minute=minute, timezone=timezone)

    trigger = Plain.from_crontab("5 4 * * *", UTC)

    assert type(trigger) is Plain
    assert str(trigger) == "cron[hour='4', minute='5']"
