"""What schedules mean, in words, and why some never fire."""

from datetime import UTC, datetime

import pytest

from apscheduler.triggers.cron import CronTrigger

NOW = datetime(2030, 1, 1, tzinfo=UTC)

PLAIN = [
    ("* * * * *", "every minute"),
    ("0 * * * *", "every hour"),
    ("*/15 * * * *", "every 15 minutes"),
    ("5 * * * *", "at minute 5 of every hour"),
    ("*/7 * * * *", "at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
    ("0 9 * * 0", "at 09:00, on Monday"),
    ("0 9 * * 0-4", "at 09:00, on Monday to Friday"),
    ("0 9,18 * * sat,sun", "at 09:00 and 18:00, on Saturday and Sunday"),
    ("*/30 9-17 * * *", "every 30 minutes of hours 9 to 17"),
    ("0 */2 * * *", "every 2 hours"),
    ("0 0-6,8,10-12 * * *", "on hours 0 to 6, 8 and 10 to 12"),
    ("0 0 1 1 *", "at 00:00, on day 1 of the month, in January"),
    ("0 9 13 * fri", "at 09:00, on day 13 of the month if that is a Friday"),
    ("0 9 1-7 6-8 *", "at 09:00, on days 1 to 7 of the month, in June to August"),
]
VIXIE = [
    ("0 9 * * 0", "at 09:00, on Sunday"),
    ("0 9 * * 1-5", "at 09:00, on Monday to Friday"),
    ("0 9 13 * 5", "at 09:00, on day 13 of the month or on Friday"),
    ("@daily", "at 00:00"),
]
FIELDS = [
    ({"second": "*"}, "every second"),
    ({"second": "*/10", "hour": 5}, "every 10 seconds of hour 5"),
    ({"second": 30, "minute": "*"}, "at second 30 of every minute"),
    ({"second": 30, "minute": "5,9"}, "at second 30 of minutes 5 and 9 of every hour"),
    ({"second": "*/10", "minute": "5"}, "every 10 seconds of minute 5"),
    ({"day": "last", "hour": 18}, "at 18:00, on the last day of the month"),
    (
        {"day": "2nd tue, 15", "hour": 5},
        "at 05:00, on day 15 of the month and the 2nd Tuesday of the month",
    ),
    ({"week": "1-3", "year": 2031}, "at 00:00, in ISO weeks 1 to 3, in 2031"),
    ({"hour": 5, "jitter": 30}, "at 05:00, delayed by up to 30 seconds"),
    (
        {"hour": 5, "end_date": "2030-02-01"},
        "at 05:00, until 2030-02-01 00:00:00 UTC",
    ),
]


@pytest.mark.parametrize("line, words", PLAIN)
def test_lines_are_told_in_words(line: str, words: str) -> None:
    assert CronTrigger.from_crontab(line, UTC).explain() == words


@pytest.mark.parametrize("line, words", VIXIE)
def test_lines_of_crontab_are_told_by_their_own_meaning(line: str, words: str) -> None:
    assert CronTrigger.from_crontab(line, UTC, dialect="vixie").explain() == words


@pytest.mark.parametrize("fields, words", FIELDS)
def test_fields_are_told_in_words(fields: dict[str, object], words: str) -> None:
    assert CronTrigger(**fields, timezone=UTC).explain() == words  # type: ignore[arg-type]  # of several types


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"month": 2, "day": 30}, "no date has month='2' and day='30' at once"),
        ({"year": 2020}, "its last year, 2020, is past"),
        ({"end_date": "2029-01-01"}, "its end, 2029-01-01 00:00:00 UTC, is past"),
        ({"hour": 5}, None),
    ],
)
def test_the_reason_is_told_why_a_schedule_never_fires(
    fields: dict[str, object], reason: str | None
) -> None:
    trigger = CronTrigger(**{"hour": 5, **fields}, timezone=UTC)  # type: ignore[arg-type]  # of several types

    assert trigger.explain_why_never(NOW) == reason
