"""Redis, PostgreSQL and proxies from Debian packages, started without a service manager in a temporary folder."""
