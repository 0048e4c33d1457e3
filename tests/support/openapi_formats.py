"""Teaches Schemathesis the formats of the OpenAPI document that JSON Schema does not define. Import this module."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies

_networks = strategies.ip_addresses().map(str) | strategies.integers(0, 32).map(lambda bits: f"0.0.0.0/{bits}")

schemathesis.openapi.format("ip-network", _networks)
