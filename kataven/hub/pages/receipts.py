"""The receipt of a change: when each worker applied it, and the calls that were refused since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flask import Response
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.models import AuditEvent
from kataven.hub import charts
from kataven.hub.formatting import RECEIPTS
from kataven.hub.page_blueprint import MANAGERS, HubRequest, PageBlueprint, render
from kataven.hub.pages.requests import filters
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import receipts
from kataven.usage.receipts import StoredReceipt
from kataven.web.schema import write_json
from kataven.web.usage_bodies import shape_stored_receipt

blueprint = PageBlueprint("receipts", __name__, "receipt")

RECEIPT: Final = f"{RECEIPTS}<receipt_id>"

_DONE: Final[Mapping[str, str]] = {
    "api_key.revoked": "Revoked",
    "api_key.paused": "Paused",
    "api_key.resumed": "Resumed",
    "api_key.rotated": "Rotated",
    "api_key.rules_changed": "Changed",
    "api_key.former_secret_ended": "Ended the former secret of",
    "api_key.former_secret_shortened": "Shortened the former secret of",
    "person.blocked": "Ended the access of",
    "person.sessions_ended": "Ended the sessions of",
    "widget_key.changed": "Changed",
    "widget_key.disabled": "Disabled",
    "widget_key.enabled": "Enabled",
    "widget_key.removed": "Deleted",
}
_PAGES: Final[Mapping[str, str]] = {
    "api_key": "/settings/api-keys/{}",
    "widget_key": "/settings/widget-keys/{}",
    "person": "/people",
}


@dataclass(frozen=True, slots=True)
class Changed:
    """A key or user that the receipt covers. `path` is None if there is no page of it."""

    name: str
    path: str | None


@blueprint.page(RECEIPT, MANAGERS)
def show_receipt(hub_request: HubRequest, receipt_id: UUID) -> AnyResponse:
    try:
        return _page(hub_request, receipt_id, receipts.read)
    except SchemaMismatch:  # the account's database has no usage yet
        return _page(hub_request, receipt_id, receipts.read_without_usage)


@blueprint.page(f"{RECEIPT}/json", MANAGERS)
def download_receipt(hub_request: HubRequest, receipt_id: UUID) -> AnyResponse:
    """The body of `GET /v1/receipts/{id}`, as a file."""
    with hub_request.reading() as session:
        response: Response = write_json(shape_stored_receipt(receipts.read(session, receipt_id)))
    response.headers["Content-Disposition"] = f'attachment; filename="receipt-{receipt_id}.json"'
    return response


def _page(hub_request: HubRequest, receipt_id: UUID, read: Callable[[Session, UUID], StoredReceipt]) -> AnyResponse:
    with hub_request.reading() as session:
        found = read(session, receipt_id)
        event = found.event
        others = [_changed(one) for one in receipts.changed_together(session, event)]
    times = event.detail.get("times", [])
    return render(
        "receipt.html",
        id=receipt_id,
        event=event,
        done=_DONE.get(event.action, event.action),
        target=_changed(event),
        actor=event.actor if event.actor.startswith("operator:") else event.actor_name,
        others=others,
        receipt=found.receipt,
        silent=found.receipt["workers"] - found.receipt["acknowledged"],
        chart=charts.workers(times if isinstance(times, list) else []),
        target_ms=charts.TARGET_MS,
        ends_calls=event.action in receipts.CODES,
        has_usage=read is receipts.read,
        refused_calls=found.refused_calls,
        last_refused=found.last_refused,
        refused_path=_refused(found),
    )


def _changed(event: AuditEvent) -> Changed:
    kind, name = event.action.partition(".")[0], event.detail.get("name")
    path = _PAGES.get(kind) if event.action != "widget_key.removed" else None
    return Changed(
        name if isinstance(name, str) and name else event.target or "",
        None if path is None else path.format(event.target),
    )


def _refused(found: StoredReceipt) -> str | None:
    """The requests that were refused since, as far as they are in the log."""
    if not found.refused_calls or found.target is None:
        return None
    codes = receipts.CODES[found.event.action]
    since = filters.of_caller(found.target, found.event.created_at)
    return f"{since}&code={codes[0]}" if len(codes) == 1 else f"{since}&outcome=refused"
