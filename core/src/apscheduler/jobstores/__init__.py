"""Job stores: where jobs are kept between runs."""

import pkgutil

# Plugins add their modules to this package from their own directories.
__path__ = pkgutil.extend_path(__path__, __name__)
