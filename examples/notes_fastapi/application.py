"""Notes: a FastAPI application whose callers are the accounts of a Kataven Hub."""

from fastapi import FastAPI, Request
from models import Note
from pydantic import BaseModel
from sqlalchemy import select

from kataven.asgi import KatavenMiddleware, context_of, public, requires

app = FastAPI()
app.add_middleware(KatavenMiddleware, public_paths=("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"))


class NewNote(BaseModel):
    text: str


@app.get("/notes")
@requires(keys=True, roles=("owner", "admin", "member"))
def list_notes(request: Request) -> dict[str, object]:  # `def`, not `async def`: the session is synchronous
    with context_of(request).reading() as session:
        notes = session.scalars(select(Note).order_by(Note.id)).all()
        return {"notes": [{"id": note.id, "text": note.text, "created_by": note.created_by} for note in notes]}


@app.post("/notes", status_code=201)
@requires(keys=True, roles=("owner", "admin"))
def add_note(request: Request, new: NewNote) -> dict[str, object]:
    with context_of(request).writing() as session:
        note = Note(text=new.text, created_by=request.state.principal.label)
        session.add(note)
        session.flush()
        return {"id": note.id}


@app.get("/healthz")
@public
async def healthz() -> dict[str, str]:
    return {"status": "ok"}
