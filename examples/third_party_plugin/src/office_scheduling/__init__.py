"""Plugins for schedulers in an office."""
