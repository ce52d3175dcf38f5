"""What every job store promises, as test classes: subclass one and supply the fixture ``store``."""

from apscheduler.testing.jobstores.basic import JobStoreContract
from apscheduler.testing.jobstores.native import NativeJobStoreContract
from apscheduler.testing.jobstores.secured import SecuredStoreContract

__all__ = ("JobStoreContract", "NativeJobStoreContract", "SecuredStoreContract")
