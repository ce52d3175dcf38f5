"""Several schedulers on one store, in processes that are killed, frozen and cut off; and the books afterwards.

``contract.ClusterContract`` is the suite for tests, ``python -m apscheduler.testing.cluster`` the long form.
"""
