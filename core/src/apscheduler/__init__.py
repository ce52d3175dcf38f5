"""A scheduler made of plugins."""

import pkgutil

# Plugins add their modules to this package from their own directories.
__path__ = pkgutil.extend_path(__path__, __name__)

from apscheduler.distributions import install_finder

#: The version that all distributions of the project share. A literal, because reading
#: the metadata of what is installed takes longer than everything else here.
release = "3.20.0"

version_info = tuple(
    int(part) if part.isdecimal() else part for part in release.split(".")
)
version = __version__ = ".".join(str(part) for part in version_info[:3])

install_finder()
