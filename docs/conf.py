"""Settings of the site that ``make docs`` makes of these pages (tests/docsite has the rest).

Nothing is fetched, neither by the build nor by the pages: theme, fonts and search are Sphinx's own.
"""

import gc
import sys
from pathlib import Path

from hmtrace import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

gc.set_threshold(200_000)  # looking for cycles in so many trees took a fifth of the time

project = "hmtrace"
version = release = __version__
copyright = "MIT licence"  # noqa: A001  (Sphinx calls it so)

extensions = ["myst_parser", "house"]
exclude_patterns = ["_ext"]
myst_heading_anchors = 3
smartquotes = False  # "--split" is no dash

html_theme = "furo"
html_title = f"hmtrace {release}"
html_static_path = ["_static"]
html_css_files = ["hmtrace.css"]
html_copy_source = False
html_show_search_summary = False  # would fetch the pages found, which file:// refuses
