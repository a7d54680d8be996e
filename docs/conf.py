"""How Sphinx builds these pages: Markdown by MyST, reference pages out of the docstrings, the furo theme."""

from importlib import metadata

project = "queuekit"
author = "the queuekit authors"
copyright = f"2026, {author}"
release = metadata.version("queuekit")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "changelog.d", "requirements.txt"]
html_theme = "furo"
html_title = f"queuekit {release}"
html_show_sphinx = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
