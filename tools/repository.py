"""Where the repository is on the web, if it is: the `url` of `repository` in `_config.yml`.

With an address, each lesson has buttons for Colab and Binder, and each page links for its source,
for edits and for issues; without one, there are none. A lesson that is opened on Colab finds no
package: so its first cell installs it from the address, in lines that `listings.py` writes.
"""

import re
from pathlib import Path
from typing import Any

import yaml

SERVICES = {
    "colab_url": "https://colab.research.google.com",
    "binderhub_url": "https://mybinder.org",
}
INSTALL = """try:  # on Colab, for example, the package isn't there
    import transformer_lessons
except ModuleNotFoundError:
    %pip install --quiet "transformer_lessons[lessons] @ git+{url}"

"""
WRITTEN = re.compile(re.escape(INSTALL).replace(r"\{url\}", '[^"]+'))


def setup(app: Any) -> None:
    """Called by `book_extension`."""
    app.connect("config-inited", offer)


def offer(_app: Any, config: Any) -> None:
    """Turn the theme's buttons on if there is an address."""
    options = config.html_theme_options
    if options.get("repository_url"):
        options |= {
            f"use_{button}_button": True for button in ("repository", "edit_page", "issues")
        }
        options["launch_buttons"] = {**SERVICES, "notebook_interface": "jupyterlab"}


def repository_url(root: Path) -> str:
    """The address in `_config.yml` of the repository at `root`; "" when there is none."""
    config = root / "_config.yml"
    document = yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else {}
    return document.get("repository", {}).get("url") or ""


def with_install(source: str, url: str) -> str:
    """A lesson's first code cell, with the lines that install the package from `url`, if any.

    >>> with_install(with_install("import math", "https://example.org/a"), "")
    'import math'
    """
    return (INSTALL.format(url=url) if url else "") + WRITTEN.sub("", source)
