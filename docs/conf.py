"""How the documentation is built."""

import apscheduler

project = "APScheduler"
author = copyright = "The contributors"
version = release = apscheduler.release

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"APScheduler {release}"
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
add_module_names = False
python_maximum_signature_line_length = 80
