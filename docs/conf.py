"""How Sphinx builds these pages: Markdown by MyST, reference pages out of the docstrings, the furo theme."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from queuekit import hookspecs, lifecycle

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "queuekit"
author = "the queuekit authors"
copyright = f"2026, {author}"
release = metadata.version("queuekit")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "options"]
exclude_patterns = ["_build", "changelog.d", "requirements.txt"]
smartquotes = False  # it would make one dash of the two of an option
html_theme = "furo"
html_title = f"queuekit {release}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["queuekit.css"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Called", "Source"]


def write_hook_pages(folder: Path) -> None:
    """Write a page for each hook into *folder*, which is its docstring, and remove those of hooks that are no more."""
    hooks = {name: module for module in (hookspecs, lifecycle) for name in vars(module) if name.startswith("queuekit_")}
    folder.mkdir(exist_ok=True)
    for page in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in hooks}:
        page.unlink()
    for name, module in hooks.items():
        text = f"{name}\n{'=' * len(name)}\n\n.. autofunction:: {module.__name__}.{name}\n"
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Write the pages of hooks before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, _config: write_hook_pages(Path(app.srcdir) / "reference" / "hooks"))
