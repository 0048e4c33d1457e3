"""Notes: a Flask application whose callers are the accounts of a Kataven Hub."""

from pathlib import Path

import click
from flask import Flask, g, request
from models import Note
from sqlalchemy import select

from kataven.flask import Kataven, public, reading, requires, writing
from kataven.tenancy.migrations.app_tables import AppTables

kataven = Kataven()
tables = AppTables("notes", Path(__file__).parent / "migrations", "models:Base.metadata")


def create_app() -> Flask:
    app = Flask(__name__, static_folder=None)
    kataven.init_app(app)

    @app.get("/notes")
    @requires(keys=True, roles=("owner", "admin", "member"))
    def list_notes() -> dict[str, object]:
        with reading() as session:
            notes = session.scalars(select(Note).order_by(Note.id)).all()
            return {"notes": [{"id": note.id, "text": note.text, "created_by": note.created_by} for note in notes]}

    @app.post("/notes")
    @requires(keys=True, roles=("owner", "admin"))
    def add_note() -> tuple[dict[str, object], int]:
        with writing() as session:
            note = Note(text=str(request.get_json()["text"]), created_by=g.principal.label)
            session.add(note)
            session.flush()
            return {"id": note.id}, 201

    @app.get("/healthz")
    @public
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.cli.command("upgrade-tables")
    def upgrade_tables() -> None:
        """Create or upgrade the notes of every account."""
        for result in kataven.upgrade(app, tables):
            click.echo(f"{result.account}: {result.revision or result.error}")

    return app
