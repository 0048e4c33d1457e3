"""A schema of one table and one child, and who each database belongs to."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The throw-away models of these tests."""


class Note(Base):
    """What an account wrote."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    tags: Mapped[list["Tag"]] = relationship(back_populates="note")


class Tag(Base):
    """A word beside a note."""

    __tablename__ = "tags"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[int] = mapped_column(ForeignKey("notes.id"))
    word: Mapped[str]
    note: Mapped[Note] = relationship(back_populates="tags")
