"""Pages: templates that extend `base.html.j2`, everything in them escaped.

A page holds its pictures inside itself, asks the network for nothing, and runs no
script but `table.js`: its policy names that one by its hash, and a browser refuses any
other. A page that is not of one audit extends `shell.html.j2`.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


def render_page(template: str, **context: Any) -> str:
    """A page as text.

    Args:
      template: its path below this room.
      **context: what it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxinv", "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "figures": figures}
    script = resources.files("jaxinv.reports").joinpath("table.js").read_text("utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template)
    return page.render(script=Markup(script), script_hash=script_hash, **context)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number for people, with that many digits after the point."""
    return "n/a" if value is None else f"{value:.{digits}f}{unit}"


def figures(value: float | None) -> str:
    """A number of unknown size for people, to three significant figures."""
    return "n/a" if value is None else f"{value:.3g}"


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """The file as an address that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
