"""All promises of a job store with an atomic claim and a record of runs."""

from apscheduler.testing.jobstores.changes import ChangeContract
from apscheduler.testing.jobstores.claiming import ClaimContract
from apscheduler.testing.jobstores.history import HistoryContract
from apscheduler.testing.jobstores.runs import RunContract
from apscheduler.testing.jobstores.sharing import SharingContract


class NativeJobStoreContract(
    ClaimContract, RunContract, HistoryContract, ChangeContract, SharingContract
):
    """Subclasses supply a fixture ``store``, and if it is shareable two more on its storage:

    ``other_store`` is started like that one, ``unopened_store`` is not started; the latter may be asked for alone.
    """
