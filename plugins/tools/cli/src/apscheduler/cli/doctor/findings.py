"""What the doctor says of one thing."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar subject: what it is about, such as "job store 'default'"
    :ivar remedy: what to do, a sentence; empty if all is well
    """

    level: Literal["ok", "warning", "problem"]
    subject: str
    text: str
    remedy: str = ""

    def as_document(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)


def ok(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """Return what works, but not as it should."""
    return Finding("warning", subject, text, remedy)


def problem(subject: str, text: str, remedy: str) -> Finding:
    """Return what does not work."""
    return Finding("problem", subject, text, remedy)
