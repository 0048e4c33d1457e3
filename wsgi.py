"""`wsgi:api`, `wsgi:hub` and `wsgi:app` of a checkout, and the module in which `flask …` finds the app.

`kataven.serve.wsgi` builds each of them on first access.
"""

from typing import TYPE_CHECKING

from kataven.serve import wsgi

if TYPE_CHECKING:
    from flask import Flask


def __getattr__(name: str) -> "Flask":
    built: Flask = getattr(wsgi, name)
    return built
