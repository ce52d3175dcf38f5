"""What the doctor says of one thing."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :ivar subject: what it is about, such as "job store 'default'"
    :ivar remedy: what to do, a sentence; empty if all is well
    :ivar details: the same for machines, where there is more to say
    """

    level: Literal["ok", "warning", "problem"]
    subject: str
    text: str
    remedy: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """Return it for machines."""
        return asdict(self)


def ok(subject: str, text: str, **details: Any) -> Finding:
    """Return that all is well."""
    return Finding("ok", subject, text, details=details)


def warning(subject: str, text: str, remedy: str, **details: Any) -> Finding:
    """Return what works, but not as it should."""
    return Finding("warning", subject, text, remedy, details)


def problem(subject: str, text: str, remedy: str) -> Finding:
    """Return what does not work."""
    return Finding("problem", subject, text, remedy)
