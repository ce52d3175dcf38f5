"""Configuration files: every way to configure gives the same scheduler, and every mistake is named."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from apscheduler.config import check_config, create_scheduler, load_config
from apscheduler.environment import expand
from apscheduler.plugins import PluginNotFoundError
from apscheduler.problems import ConfigurationError
from apscheduler.schedulers.base import BaseScheduler

PARTS = """
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.base import BaseScheduler

class Store(BaseJobStore):
    def __init__(self, url: str, table: str = "jobs", shared: bool | None = None, options: dict | None = None):
        self.arguments = (url, table, shared, options)
    def lookup_job(self, job_id): ...
    def get_due_jobs(self, now): return []
    def get_next_run_time(self): ...
    def get_all_jobs(self): return []
    def add_job(self, job): ...
    def update_job(self, job): ...
    def remove_job(self, job_id): ...
    def remove_all_jobs(self): ...

class WritingStore(Store):
    def __init__(self, serializer=None): ...

class FailingStore(Store):
    def __init__(self, url: str):
        raise OSError(f"cannot reach {url}")

class Executor(BaseExecutor):
    def __init__(self, workers: int = 1):
        super().__init__()
        self.workers = workers
    def _do_submit_job(self, job, run_times): ...

class CallingExecutor(Executor):
    runs_coroutines = False

class Scheduler(BaseScheduler):
    config_keys = frozenset({"daemon"})
    def wakeup(self): ...
    def shutdown(self, wait=True): super().shutdown(wait)

def function(): ...
async def coroutine(): ...
"""


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of components that the configurations name."""
    (tmp_path / "config_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import config_parts  # type: ignore[import-not-found]  # written just now

    yield config_parts
    sys.modules.pop("config_parts", None)


def write(name: str, text: str) -> str:
    Path(name).write_text(dedent(text))
    return name


INI = """
    [apscheduler]
    timezone = UTC
    jobstore_retry_interval = 2.5

    [apscheduler.scheduler]
    class = config_parts:Scheduler

    [apscheduler.jobstores.default]
    class = config_parts:Store
    url = db://host/${SECRET}
    shared = no
    options.pool = small

    [apscheduler.executors.default]
    class = config_parts:Executor
    workers = 7

    [apscheduler.job_defaults]
    coalesce = false
    max_instances = 3
    misfire_grace_time = none
"""

PASTE = """
    [DEFAULT]
    here = %(nowhere)s

    [loggers]
    keys = root, ${nothing}

    [app:main]
    use = egg:app
    apscheduler.timezone = UTC
    apscheduler.jobstore_retry_interval = 2.5
    apscheduler.scheduler.class = config_parts:Scheduler
    apscheduler.jobstores.default.class = config_parts:Store
    apscheduler.jobstores.default.url = db://host/${SECRET}
    apscheduler.jobstores.default.shared = no
    apscheduler.jobstores.default.options.pool = small
    apscheduler.executors.default.class = config_parts:Executor
    apscheduler.executors.default.workers = 7
    apscheduler.job_defaults.coalesce = false
    apscheduler.job_defaults.max_instances = 3
    apscheduler.job_defaults.misfire_grace_time = none
"""

TOML = """
    [apscheduler]
    timezone = "UTC"
    jobstore_retry_interval = 2.5
    scheduler.class = "config_parts:Scheduler"

    [apscheduler.jobstores.default]
    class = "config_parts:Store"
    url = "db://host/${SECRET}"
    shared = false
    options = { pool = "small" }

    [apscheduler.executors.default]
    class = "config_parts:Executor"
    workers = 7

    [app]
    "apscheduler.job_defaults.coalesce" = false

    [apscheduler.job_defaults]
    max_instances = 3
    misfire_grace_time = "none"
"""

FLAT = {
    "apscheduler.timezone": "UTC",
    "apscheduler.jobstore_retry_interval": "2.5",
    "apscheduler.jobstores.default": {
        "class": "config_parts:Store",
        "url": "db://host/hunter2",
        "shared": False,
        "options": {"pool": "small"},
    },
    "apscheduler.executors.default.class": "config_parts:Executor",
    "apscheduler.executors.default.workers": 7,
    "apscheduler.job_defaults.coalesce": "false",
    "apscheduler.job_defaults.max_instances": "3",
    "apscheduler.job_defaults.misfire_grace_time": None,
}


def make(way: str, parts: Any) -> BaseScheduler:
    store = parts.Store("db://host/hunter2", shared=False, options={"pool": "small"})
    options: dict[str, Any] = {
        "timezone": UTC,
        "jobstore_retry_interval": 2.5,
        "jobstores": {"default": store},
        "executors": {"default": parts.Executor(7)},
        "job_defaults": {
            "coalesce": False,
            "max_instances": 3,
            "misfire_grace_time": None,
        },
    }
    scheduler: BaseScheduler
    if way == "keywords":
        return parts.Scheduler(**options)  # type: ignore[no-any-return]  # the module is not known
    if way == "flat":
        return parts.Scheduler(FLAT)  # type: ignore[no-any-return]  # the module is not known
    if way == "late":
        scheduler = parts.Scheduler(timezone="Asia/Tokyo", job_defaults={"history": 1})
        mixed = {**options, "executors": {"default": {"class": parts.Executor}}}
        mixed["executors"]["default"]["workers"] = 7
        scheduler.configure(**mixed)
        return scheduler
    if way == "nested":
        scheduler_class = {"scheduler": {"class": parts.Scheduler}}
        return create_scheduler({"apscheduler": {**options, **scheduler_class}})
    if way == "loaded":
        return parts.Scheduler(load_config(write("x.toml", TOML)))  # type: ignore[no-any-return]  # as above
    texts = {"ini": ("x.ini", INI), "paste": ("x.cfg", PASTE), "toml": ("x.toml", TOML)}
    return create_scheduler(write(*texts[way]))


WAYS = ["keywords", "flat", "late", "nested", "loaded", "ini", "paste", "toml"]


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_configure_give_equal_schedulers(
    way: str,
    parts: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")

    scheduler = make(way, parts)

    assert type(scheduler) is parts.Scheduler
    assert str(scheduler.timezone) == "UTC"
    assert scheduler.jobstore_retry_interval == 2.5
    assert scheduler._job_defaults == {
        "coalesce": False,
        "max_instances": 3,
        "misfire_grace_time": None,
    }
    store: Any = scheduler._jobstores["default"]
    assert store.arguments == ("db://host/hunter2", "jobs", False, {"pool": "small"})
    executor: Any = scheduler._executors["default"]
    assert executor.workers == 7
    assert not caplog.records


def test_the_callers_dict_is_not_changed(parts: Any) -> None:
    config: dict[str, Any] = {
        "scheduler": {"class": "config_parts:Scheduler"},
        "executors": {"default": {"class": "config_parts:Executor", "workers": "2"}},
    }

    create_scheduler(config)

    assert config["executors"]["default"] == {
        "class": "config_parts:Executor",
        "workers": "2",
    }
    assert "scheduler" in config


def test_the_same_jobs_are_declared_by_ini_and_toml(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUOTED", 'a "quoted" \\ text')
    ini = write(
        "jobs.ini",
        """
        [apscheduler.jobs.nightly.backup]
        func = config_parts:function
        trigger = cron
        hour = 5
        args = ["${QUOTED}", 5, {"a": null}]
        kwargs = {"key": "${QUOTED}"}
        misfire_grace_time = 30
        """,
    )
    toml = write(
        "jobs.toml",
        """
        [apscheduler.jobs."nightly.backup"]
        func = "config_parts:function"
        trigger = "cron"
        hour = "5"
        args = ["${QUOTED}", 5, { a = "null" }]
        kwargs = { key = "${QUOTED}" }
        misfire_grace_time = "30"
        """,
    )

    from_ini = load_config(ini)["apscheduler.jobs"]
    from_toml = load_config(toml)["apscheduler.jobs"]

    from_toml["nightly.backup"]["args"][2]["a"] = None
    assert from_ini == from_toml
    assert from_ini["nightly.backup"]["args"][0] == 'a "quoted" \\ text'


EXPANSIONS = [
    ("plain $ text $NAME {x}", "plain $ text $NAME {x}"),
    ("${NAME}", "value"),
    ("a${NAME}b${NAME}", "avaluebvalue"),
    ("$${NAME}", "${NAME}"),
    ("$$${NAME}", "$${NAME}"),
    ("${EMPTY}", ""),
    ("${NESTED}", "${NAME}"),
]


@pytest.mark.parametrize("text, expected", EXPANSIONS)
def test_references_to_the_environment_are_replaced(text: str, expected: str) -> None:
    variables = {"NAME": "value", "EMPTY": "", "NESTED": "${NAME}"}

    assert expand(text, variables) == expected


def test_jobs_are_declared_in_application_files_as_well() -> None:
    text = """
        [app:main]
        apscheduler.jobs.nightly.backup.func = config_parts:function
        apscheduler.jobs.nightly.backup.trigger = interval
        apscheduler.jobs.nightly.backup.seconds = 5
        """

    config = load_config(write("x.ini", text))

    assert config["apscheduler.jobs"] == {
        "nightly.backup": {
            "func": "config_parts:function",
            "trigger": "interval",
            "seconds": "5",
        }
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("${MISSING}", "the environment variable 'MISSING' is not set"),
        ("${not a name}", "is not a reference"),
        ("${}", "is not a reference"),
        ("${NAME", "is not a reference"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text, {"NAME": "value"})


SCHEDULER = "[apscheduler.scheduler]\nclass = config_parts:Scheduler\n"
STORE = "[apscheduler.jobstores.db]\nclass = config_parts:Store\nurl = u\n"

MISTAKES: list[tuple[str, str]] = [
    ("[apscheduler]\ntimezone = Mars", r"x\.ini, \[apscheduler\] timezone = 'Mars': "),
    (
        "[apscheduler]\njobstore_retry_interval = soon",
        r"\] jobstore_retry_interval = 'soon': expected a number of seconds",
    ),
    ("[apscheduler]\ndaemon = maybe", r"daemon = 'maybe': .*neither true nor false"),
    ("[apscheduler]\nlogger = nowhere", r"logger = 'nowhere': .*not a reference"),
    ("[apscheduler]\nname = ${GONE}", r"x\.ini, \[apscheduler\] name: .*'GONE' is not"),
    (
        "[app]\napscheduler.timezone = Mars",
        r"x\.ini, \[app\] apscheduler\.timezone = 'Mars'",
    ),
    (
        "[apscheduler.job_defaults]\nmax_instances = x",
        r"\[apscheduler\.job_defaults\] max_instances = 'x'",
    ),
    (
        "[apscheduler.job_defaults]\nmax_instances = 0",
        r"max_instances = '0': .*positive integer",
    ),
    (
        "[apscheduler.jobstores.db]\nurl = x",
        r"\[apscheduler\.jobstores\.db\] type: is missing",
    ),
    (
        "[apscheduler.jobstores.db]\ntype = reddis",
        r"type = 'reddis': No job store named 'reddis' is installed\. Installed: ",
    ),
    (
        "[apscheduler.jobstores.db]\nclass = config_parts:Executor",
        r"class = 'config_parts:Executor': expected a job store",
    ),
    ("[apscheduler.jobstores.db]\nclass = nowhere:X", r"class = 'nowhere:X': Cannot"),
    (
        "[apscheduler]\njobstores = memory",
        r"jobstores = 'memory': expected a section for each",
    ),
    (
        "[apscheduler.jobstores.db]\nclass = config_parts:Store",
        r"\[apscheduler\.jobstores\.db\] url: is missing",
    ),
    (STORE + "tabel = x", r"jobstores\.db\] tabel: the job store Store .*'table'"),
    (STORE + "shared = x", r"jobstores\.db\] shared = 'x': .*neither true nor false"),
    (
        "[apscheduler.executors.e]\nclass = config_parts:Executor\nworkers = many",
        r"executors\.e\] workers = 'many': expected a whole number",
    ),
    (
        "[apscheduler.jobstores.db]\nclass = config_parts:FailingStore\nurl = u",
        r"x\.ini: cannot reach u",
    ),
]


@pytest.mark.parametrize("text, message", MISTAKES)
def test_a_wrong_value_gives_one_error_that_says_where_it_is(
    text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        create_scheduler(write("x.ini", SCHEDULER + text))

    assert len(caught.value.problems) == 1


FILES = [
    ("x.yaml", "a: 1", r"x\.yaml: the suffix must be one of \.ini, .*but is '\.yaml'"),
    ("x.ini", "no section", r"x\.ini: File contains no section headers"),
    ("x.ini", "[apscheduler]\na=1\na=2", r"x\.ini: .*option 'a'.*already exists"),
    ("x.ini", "[apscheduler]\na=1\n[b]\napscheduler.a=2", r"x\.ini.*a: is given twice"),
    ("x.ini", "[apscheduler]\nsource=a", r"x\.ini.*\] source: stands for the file it"),
    ("x.ini", "[b]\napscheduler.source=a", r"x\.ini, \[b\] apscheduler\.source: sta"),
    ("x.toml", "[apscheduler.source]\na=1", r"x\.toml, \[apscheduler\] source: stands"),
    ("x.toml", "a = ", r"x\.toml: is not valid TOML"),
    ("x.toml", "apscheduler = 5", r"x\.toml: 'apscheduler' must be a table"),
]


@pytest.mark.parametrize("name, text, message", FILES)
def test_a_file_that_is_no_configuration_is_refused(
    name: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(write(name, text))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"gone\.ini: cannot be read: No such file"
    ):
        load_config("gone.ini")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ini").write_bytes(b"[apscheduler]\nname = \xff")

    with pytest.raises(ConfigurationError, match=r"x\.ini: is not encoded in UTF-8"):
        load_config("x.ini")


@pytest.mark.parametrize("config", [5, ["x"], {5: 6}])
def test_something_else_than_a_configuration_is_refused(config: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expected the path|must be strings"):
        create_scheduler(config)


def test_an_unknown_scheduler_is_refused_with_what_there_is() -> None:
    text = "[apscheduler]\nscheduler = tornado-ish"

    with pytest.raises(ConfigurationError, match="No scheduler named 'tornado-ish'"):
        create_scheduler(write("x.ini", text))


def test_configure_itself_raises_the_types_of_3x(parts: Any) -> None:
    with pytest.raises(PluginNotFoundError):
        parts.Scheduler({"apscheduler.jobstores.db": {"type": "reddis"}})
    with pytest.raises(TypeError, match=r"jobstores\.db"):
        parts.Scheduler({"apscheduler.jobstores.db": 5})


def test_the_original_exception_is_the_cause(parts: Any) -> None:
    text = "[apscheduler.jobstores.db]\nclass = config_parts:FailingStore\nurl = u"

    with pytest.raises(ConfigurationError) as caught:
        create_scheduler(write("x.ini", SCHEDULER + text))

    assert isinstance(caught.value.__cause__, OSError)


def test_the_type_of_3x_for_an_unknown_plugin_is_the_cause() -> None:
    text = "[apscheduler.jobstores.db]\ntype = reddis"

    with pytest.raises(ConfigurationError) as caught:
        create_scheduler(write("x.ini", SCHEDULER + text))

    assert isinstance(caught.value.__cause__, LookupError)


SECRETS = [
    "class = config_parts:FailingStore\nurl = db://user:${SECRET}@host",
    "class = config_parts:Store\nurl = x\nshared = ${SECRET}",
    "type = ${SECRET}",
    "class = ${SECRET}",
]


@pytest.mark.parametrize("text", SECRETS)
def test_values_from_the_environment_are_never_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2-hunter2")
    path = write("x.ini", SCHEDULER + "[apscheduler.jobstores.db]\n" + text)

    with pytest.raises(ConfigurationError) as caught:
        create_scheduler(path)

    shown = "".join(traceback.format_exception(caught.value))
    assert "${SECRET}" in shown
    assert "hunter2" not in shown


def test_unknown_keys_are_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)

    create_scheduler(write("x.ini", SCHEDULER + "[apscheduler]\ntimezon = UTC"))

    assert [record.getMessage() for record in caplog.records] == [
        "Unknown configuration key 'timezon' is ignored; did you mean 'timezone'?"
    ]


def test_checking_finds_every_problem_and_makes_no_store() -> None:
    text = """
        [apscheduler]
        timezon = UTC
        [apscheduler.scheduler]
        class = config_parts:Scheduler
        [apscheduler.jobstores.default]
        class = config_parts:FailingStore
        url = u
        tabel = x
        [apscheduler.job_defaults]
        coalesce = maybe
        [apscheduler.jobs.one]
        func = config_parts:missing
        trigger = evry
        [apscheduler.jobs.two]
        func = config_parts:function
        trigger = nothing
        jobstore = attic
        """

    found = check_config(write("x.ini", text))

    places = [problem.place for problem in found.problems.problems]
    assert places == [
        "x.ini, [apscheduler] timezon",
        "x.ini, [apscheduler.job_defaults] coalesce = 'maybe'",
        "x.ini, [apscheduler.jobstores.default] tabel",
        "x.ini, [apscheduler.jobs.one] func = 'config_parts:missing'",
        "x.ini, [apscheduler.jobs.one] trigger = 'evry'",
        "x.ini, [apscheduler.jobs.two] jobstore = 'attic'",
        "x.ini, [apscheduler.jobs.two] trigger = 'nothing'",
    ]


SEALED = """
    [apscheduler.jobstores.default]
    class = config_parts:WritingStore
    [apscheduler.jobstores.default.serializer]
    type = signed
    {}
    [apscheduler.jobs.x]
    func = config_parts:function
    trigger = date
    run_date = 2100-01-01
    """


@pytest.mark.parametrize(
    "options, place, message",
    [
        ("key = short", "jobstores.default.serializer", "at least 16"),
        ("key_file = nowhere.keys", "jobstores.default.serializer", "nowhere.keys"),
        (
            'key = sixteen-bytes-and-more\nallowed_callables = ["tasks:*"]',
            "jobs.x",
            "'config_parts:function' is not allowed",
        ),
    ],
)
def test_checking_tries_what_writes_the_jobs(
    options: str, place: str, message: str
) -> None:
    pytest.importorskip("apscheduler.triggers.date")
    text = dedent(SEALED).format(options)

    found = check_config(write("x.ini", dedent(SCHEDULER) + text))

    (problem,) = found.problems.problems
    assert problem.place == f"x.ini, [apscheduler.{place}]"
    assert message in str(problem)


def test_a_variable_that_is_not_set_hides_no_other_problem_and_makes_none() -> None:
    text = """
        [apscheduler]
        timezone = ${NO_ZONE}
        [apscheduler.jobstores.default]
        class = config_parts:Store
        url = ${NO_URL}
        tabel = x
        [apscheduler.executors.default]
        class = config_parts:Executor
        workers = ${NO_NUMBER}
        """

    found = check_config(write("x.ini", dedent(SCHEDULER) + dedent(text)))

    assert [problem.place for problem in found.problems.problems] == [
        "x.ini, [apscheduler] timezone",
        "x.ini, [apscheduler.jobstores.default] url",
        "x.ini, [apscheduler.executors.default] workers",
        "x.ini, [apscheduler.jobstores.default] tabel",
    ]


def test_checking_tells_of_async_functions_that_nobody_awaits() -> None:
    pytest.importorskip("apscheduler.triggers.date")
    text = """
        [apscheduler.executors.calling]
        class = config_parts:CallingExecutor
        [apscheduler.executors.unknown]
        class = config_parts:Executor
        """
    for executor in ("calling", "unknown"):
        text += f"""
        [apscheduler.jobs.{executor}]
        func = config_parts:coroutine
        executor = {executor}
        trigger = date
        run_date = 2100-01-01
        """

    found = check_config(write("x.ini", dedent(SCHEDULER) + dedent(text)))

    assert [problem.place for problem in found.problems.problems] == [
        "x.ini, [apscheduler.jobs.calling] func"
    ]


CRONTABS = [
    ("crontab = 0 5 * * 1", "mon"),
    ("crontab = 0 5 * * 1\ndialect = apscheduler", "tue"),
    ("crontab = @weekly", "sun"),
]


@pytest.mark.parametrize("text, weekday", CRONTABS)
@pytest.mark.filterwarnings("default")
def test_crontab_lines_mean_what_they_mean_everywhere(text: str, weekday: str) -> None:
    pytest.importorskip("apscheduler.triggers.cron")
    section = "[apscheduler.jobs.x]\nfunc = config_parts:function\n"

    found = check_config(write("x.ini", SCHEDULER + section + text))

    assert not found.problems.problems
    _, times = found.jobs["x"]
    assert {f"{time:%a}".lower() for time in times} == {weekday}
    assert len(times) == 3


@pytest.mark.parametrize(
    "text, message",
    [
        ("crontab = 0 5 * *", r"crontab = '0 5 \* \*': Wrong number of fields"),
        ("crontab = @daily\ndialect = other", r"dialect = 'other': .*must be one of"),
        ("crontab = @daily\nhour = 5", r"hour: the trigger 'cron' has no option"),
        ("trigger = cron\nhour = 25", r"hour = '25': "),
        ("trigger = cron\nmonth = 2\nday = 30", r"jobs\.x\]: never fires: cron\["),
        ("trigger = date\nrun_date = 2001-01-01", r"jobs\.x\]: never fires: date\["),
        ("trigger = interval\nseconds = x", r"seconds = 'x': expected a number"),
        ("trigger = and\ntriggers = x", r"triggers = 'x': expected a list in JSON"),
    ],
)
def test_mistakes_in_schedules_are_found(text: str, message: str) -> None:
    for name in ("cron", "date", "interval", "combining"):
        pytest.importorskip(f"apscheduler.triggers.{name}")
    section = "[apscheduler.jobs.x]\nfunc = config_parts:function\n"

    found = check_config(write("x.ini", SCHEDULER + section + text))

    assert len(found.problems.problems) == 1
    assert re.search(message, str(found.problems.problems[0]))


def test_what_cannot_be_read_of_a_job_hides_nothing_else_that_is_wrong() -> None:
    pytest.importorskip("apscheduler.triggers.interval")
    text = """
        [apscheduler.jobs.one]
        func = config_parts:missing
        args = no list
        trigger = interval
        secnds = 1
        [apscheduler.jobs.two]
        func = config_parts:function
        trigger = nothing
        """

    found = check_config(write("x.ini", SCHEDULER + dedent(text)))

    places = {problem.place for problem in found.problems.problems}
    assert places == {
        "x.ini, [apscheduler.jobs.one] args = 'no list'",
        "x.ini, [apscheduler.jobs.one] func = 'config_parts:missing'",
        "x.ini, [apscheduler.jobs.one] secnds",
        "x.ini, [apscheduler.jobs.two] trigger = 'nothing'",
    }


MISSING_TRIGGERS = [
    ("cron = 0 7 * * *", "did you mean 'crontab' by 'cron'?"),
    ("triger = interval", "did you mean 'trigger' by 'triger'?"),
    ("interval = 5", "such as trigger = interval and minutes = 5"),
]


@pytest.mark.parametrize("line, hint", MISSING_TRIGGERS)
def test_a_missing_trigger_says_how_to_give_one(line: str, hint: str) -> None:
    text = f"[apscheduler.jobs.a]\nfunc = builtins:print\n{line}\n"

    problems = check_config(write("x.ini", SCHEDULER + text)).problems.problems

    (problem,) = problems
    assert hint in problem.text


UNPREFIXED = {
    "x.ini": "[jobs.a]\nfunc = builtins:print\n[loggers]\nkeys = root\n",
    "x.toml": "[jobs.a]\nfunc = 'builtins:print'\n[tool.jobs]\nkeys = 1\n",
}


@pytest.mark.parametrize("name", UNPREFIXED)
def test_sections_without_the_prefix_are_ignored_with_a_warning(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = check_config(write(name, UNPREFIXED[name]))

    (message,) = caplog.messages
    assert message.startswith(f"{name}, [jobs.a]: is ignored")
    assert "write [apscheduler.jobs.a] if" in message
    (problem,) = found.problems.problems
    assert str(problem).startswith(f"{name}, [apscheduler]: there is no such section")
    assert not problem.fatal


def test_the_other_sections_of_a_file_may_be_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = check_config(write("x.ini", f"{SCHEDULER}\n[loggers]\nkeys = root\n"))

    assert (caplog.messages, found.problems.problems) == ([], [])
