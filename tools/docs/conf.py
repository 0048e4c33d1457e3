"""Sphinx configuration for `make docs`. The site works offline: it loads no web fonts and no other remote files."""

import logging
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from kataven import __version__  # noqa: E402

project = "Kataven Hub"
author = "Kataven"
release = version = __version__

extensions = ["myst_parser", "tools.docs.code_blocks", "tools.docs.search_index"]
root_doc = "index"
exclude_patterns: list[str] = []
myst_heading_anchors = 3
nitpicky = True
# A toctree glob may match no pages yet.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

html_theme = "furo"
html_title = "Kataven Hub"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_js_files = [("pages.js", {"defer": "defer"})]
templates_path = ["templates"]
# Indented blocks have no language. `tools.docs.code_blocks` recognizes commands, HTTP, JSON and Python.
highlight_language = "text"
