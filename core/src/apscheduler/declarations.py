"""Jobs that a configuration declares, kept in step with the stores at every start.

A declared job is added when it is new, changed when its declaration has changed, left alone when it has not, and
removed when its declaration is gone. Beside the job its store keeps the *origin*: the name of the configuration and
its stamp. Jobs without an origin, or with that of another configuration, are never touched.

The name is ``name`` in the section ``[apscheduler]``, else the name of the file without its suffix, else
``default``. Different configurations that share a store need different names.

The stamp tells which of two configurations of the same name is newer: ``version`` in the section ``[apscheduler]``
(numbers count as numbers: 1.10 comes after 1.9), else the time the file was modified last. Any version is newer than
any time, and any time newer than nothing, which is what a configuration without a file has. While a new
configuration is rolled out, a scheduler that starts with an older one finds the stamp of the newer one in the store,
leaves every declared job as it is, and says so. The time of the file is enough where files are copied when they are
deployed; give a version where times may lie, as for files in images or fresh checkouts. Of equal stamps the last to
start wins.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from apscheduler.declared_job import DeclaredJob
from apscheduler.job import Job
from apscheduler.problems import ProblemList, Source
from apscheduler.synchronisation import Origin, Outcome, Synchronisation

if TYPE_CHECKING:
    from apscheduler.schedulers.base import BaseScheduler


class Declarations:
    """The jobs that one configuration declares. What is wrong with a section by itself is noted in ``problems``.

    :param jobs: name → section
    :param name: name of the configuration
    :param version: version of the configuration
    :param source: the file it was read from
    """

    def __init__(
        self,
        jobs: Mapping[str, Any],
        name: str | None = None,
        version: object = None,
        source: Source | None = None,
    ):
        self.origin = _make_origin(name, version, source)
        self.outcome = Outcome()
        self.problems = problems = ProblemList(source, jobs)
        if not isinstance(jobs, Mapping):
            problems.add("apscheduler", "jobs", "expected a section for each job", jobs)
            jobs = {}
        self.declared = [DeclaredJob(key, jobs[key], problems) for key in jobs]
        self._check_ids()
        self._jobs: list[tuple[DeclaredJob, Job]] = []

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Declarations | None":
        """Return the declarations of a nested configuration; None if it is none that declares jobs.

        A file without declared jobs may have had some before, which are to be removed.
        """
        keys = ("jobs", "name", "version", "source")
        jobs, name, version, source = (config.get(key) for key in keys)
        if jobs is None and source is None and name is None:
            return None
        return cls({} if jobs is None else jobs, name, version, source)

    def _check_ids(self) -> None:
        seen: dict[tuple[str, str], DeclaredJob] = {}
        for declared in self.declared:
            first = seen.setdefault((declared.jobstore, declared.id), declared)
            if first is not declared:
                text = f"[{first.section}] declares a job with this id already"
                self.problems.add(declared.section, "id", text, declared.id)

    def prepare(self, scheduler: "BaseScheduler") -> None:
        """Import functions and make the jobs, before anything is started.

        :raises ConfigurationError: naming what is wrong
        """
        del self.problems.problems[:]
        made = [(declared, declared.make(scheduler)) for declared in self.declared]
        self.problems.raise_fatal()
        self._jobs = [(declared, job) for declared, job in made if job is not None]
        for _, job in self._jobs:
            job._origin = str(self.origin)

    def synchronise(self, scheduler: "BaseScheduler") -> None:
        """Add, change and remove jobs so that the stores hold what is declared.

        Any number of schedulers may do this at the same time, with the result of one of them.

        :raises ConfigurationError: if a declared job has the id of a job that was not declared here
        """
        step = Synchronisation(scheduler, self.origin, self._jobs)
        self.outcome = step.outcome
        step.check_conflicts(ProblemList(self.problems.source, {}))
        step.carry_out()


def _make_origin(name: str | None, version: object, source: Source | None) -> Origin:
    if name is None:
        name = "default" if source is None else PurePath(source.path).stem
    if version is not None and str(version):
        return Origin(str(name), f"version {version}".replace("@", "-"))
    return Origin(str(name), "" if source is None else f"modified {source.modified}")
