"""A server that speaks MongoDB's protocol and answers as mongomock does; see ``apscheduler.testing.servers.mongodb``."""
