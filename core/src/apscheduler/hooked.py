"""The way to the hooks for those who call them: pluggy is loaded only where there is a hook plugin."""

import sys
from typing import TYPE_CHECKING, Any

from apscheduler import installed

if TYPE_CHECKING:
    from apscheduler.hooks import HookManager

GROUP = "apscheduler"


class Nobody:
    """Stands for the hook manager as long as there is no plugin."""

    hook: Any = None

    def has(self, name: str) -> bool:
        """Return False: nobody implements the hook."""
        return False

    def find_component(self, kind: str, name: str) -> Any:
        """Return None: nobody has anything to say."""
        return None

    def notify(self, name: str, **arguments: Any) -> None:
        """Do nothing."""


NOBODY = Nobody()


def get_hooks() -> "HookManager | Nobody":
    """Return the hook manager of this process, or a stand-in where nobody has registered a plugin."""
    hooks = sys.modules.get("apscheduler.hooks")
    manager: HookManager | Nobody = NOBODY if hooks is None else hooks.get_hooks()
    return manager


def load_installed() -> None:
    """Register the hook plugins that are installed, if there are any."""
    if "apscheduler.hooks" in sys.modules or installed.mentions(GROUP):
        from apscheduler import hooks

        hooks.get_hooks().load_installed()
