"""A schema of one table and one child table."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The models of these tests."""


class Note(Base):
    """A note of an account."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    tags: Mapped[list["Tag"]] = relationship(back_populates="note")


class Tag(Base):
    """A word attached to a note."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))
    word: Mapped[str]
    note: Mapped[Note] = relationship(back_populates="tags")
