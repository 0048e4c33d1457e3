"""Recognizes SQL that needs a session of PostgreSQL itself: a pooler loses its effect, or keeps it from working."""

from __future__ import annotations

import re

SESSION_DEPENDENT = re.compile(
    r"pg_(try_)?advisory_(un)?lock|\b(UN)?LISTEN \w|\bNOTIFY \w|\bPREPARE \w|\bDECLARE \w+ CURSOR|CREATE TEMP"
    r"|(CREATE|ALTER|DROP) DATABASE|pg_terminate_backend|(^|[;\"'])\s*SET (?!LOCAL\b|TRANSACTION\b)[a-z_]+ *(=|TO )"
)
