"""MCP tools, built on the SDK, that manage one Kataven account. Start reading at `tools.py`."""
