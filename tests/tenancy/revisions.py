"""Writes temporary revisions of a temporary branch."""

from pathlib import Path

from kataven.tenancy.schema import Schema

FIRST = """
op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text, nullable=False))
op.create_table(
    "tags",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("note_id", sa.Integer, sa.ForeignKey("notes.id"), nullable=False),
    sa.Column("word", sa.Text, nullable=False),
)
op.create_table("applied", sa.Column("revision", sa.Text))
"""


class Line:
    """Revisions in a folder. `then` adds the next one, which also records in the database that it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        folder.mkdir(exist_ok=True)
        self.then("r1", FIRST)

    def then(self, name: str, upgrade: str = "pass", *, needs_python: bool = False) -> str:
        lines = [*upgrade.strip().splitlines(), f"""op.execute("INSERT INTO applied VALUES ('{name}')")"""]
        body = "\n".join(f"    {line}" for line in lines)
        self.write(name, self.names[-1] if self.names else None, body, needs_python=needs_python)
        self.names.append(name)
        return name

    def write(self, name: str, down: str | None, body: str, *, needs_python: bool = False) -> None:
        (self.folder / f"{name}.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision, down_revision, branch_labels, depends_on = {name!r}, {down!r}, None, None\n"
            f"needs_python = {needs_python}\n\ndef upgrade():\n{body}\n"
        )

    def schema(self, oldest: str | None = None) -> Schema:
        """The schema as a process reads it at startup."""
        return Schema("test", "tests.tenancy.models:Base.metadata", oldest=oldest, versions=self.folder)
