"""Creates or upgrades the notes of every account. Run it at each deployment, and after an account was created."""

import os
from pathlib import Path

from kataven import settings
from kataven.operations.account_migrations import tenants
from kataven.process_services import build_services
from kataven.tenancy.migrations.app_tables import AppTables

tables = AppTables("notes", Path(__file__).parent / "migrations", "models:Base.metadata")

if __name__ == "__main__":
    services = build_services(settings.load(settings.development_environ(os.environ)), "api")
    for result in tables.upgrade_all(tenants(services.directory.database)):
        print(f"{result.account}: {result.revision or result.error}")
