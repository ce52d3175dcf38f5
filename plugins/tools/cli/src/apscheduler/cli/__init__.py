"""The ``apscheduler`` command."""

try:
    from apscheduler.cli.main import main
except ImportError as exc:  # files of another package are where those of the core were
    from apscheduler.cli.mixture import explain_import  # looks at metadata: slow

    explanation = explain_import(exc)
    if explanation is None:
        raise

    def main() -> None:
        """Say why nothing works, and what to do."""
        raise SystemExit(f"Error: {explanation}")


__all__ = ("main",)
