"""`python -m kataven.mcp_server` runs `kataven-mcp`."""

import sys

from kataven.mcp_server.command import main

sys.exit(main())
