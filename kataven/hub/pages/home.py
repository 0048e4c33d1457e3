"""The overview of an account: whether all is well, its limits, requests, keys to look at, and latest changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit
from kataven.account.first_steps import first_steps
from kataven.account.key_listing import EXPIRES_SOON, IDLE_FOR, Hygiene, KeyCounts, KeyOrder, KeyQuery, count_keys
from kataven.account.key_status import columns_of
from kataven.hub import charts
from kataven.hub.console.usage import account_quotas
from kataven.hub.page_blueprint import MEMBERS, HubRequest, PageBlueprint, page_paths, render
from kataven.hub.session_middleware import hub_services
from kataven.hub.verdict import KEYS_PAGE, NEARLY_USED, REQUESTS_PAGE, UsageState, describe_quota, verdict
from kataven.ratelimit.decision import QuotaStatus
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import series
from kataven.usage.series import Series, UsageInterval

blueprint = PageBlueprint("home", __name__)

EVENTS = 5
METER_WIDTH = 100
TO_LOOK_AT = (
    (Hygiene.BROWSER_USE, "Sent by a browser", "failed", None),
    (Hygiene.EXPIRES_SOON, f"Expire within {EXPIRES_SOON.days} days", "soon", KeyOrder.EXPIRY),
    (Hygiene.ROTATION_DUE, "Secret older than the policy allows", "soon", None),
    (Hygiene.IDLE, f"Not used for {IDLE_FOR.days} days", "draft", KeyOrder.LEAST_USED),
    (Hygiene.NEVER_EXPIRES, "Never expire", "draft", None),
)
"""Groups of keys that their owner should look at, the most urgent first: the label, the tag and the order."""


@dataclass(frozen=True, slots=True)
class LimitMeter:
    """How much of a limit is used now."""

    label: str
    used: int
    limit: int
    state: str

    @property
    def width(self) -> float:
        """The filled part, of `METER_WIDTH`. A little use is visible."""
        part = METER_WIDTH * min(1.0, self.used / self.limit)
        return max(part, 1.0) if self.used else 0.0


@dataclass(frozen=True, slots=True)
class KeysToLookAt:
    """A group of keys with the number of its keys."""

    label: str
    count: int
    tag: str
    path: str


@blueprint.page("/", MEMBERS)
def show_home(hub_request: HubRequest) -> AnyResponse:
    account = hub_request.account
    days = account.rotate_after_days
    wanted = KeyQuery(rotate_after=None if days is None else timedelta(days=days))
    with hub_request.reading() as session:
        keys = count_keys(session, wanted, columns_of(account.tenant), None)
        steps = first_steps(session)
        events = audit.latest_changes(session, EVENTS) if hub_request.may_manage else ()
    usage, usage_state = _last_day(hub_request)
    quotas = account_quotas(account.account, account.limits)
    calls = None if usage is None else series.totals(usage)
    requests_page = REQUESTS_PAGE if REQUESTS_PAGE in page_paths() else None
    return render(
        "home.html",
        verdict=verdict(calls, keys, quotas or (), usage_state),
        usage_state=usage_state,
        chart=None if usage is None else charts.by_outcome(usage, UsageInterval.HOUR, "Requests by hour"),
        lost=0 if usage is None else usage.lost.calls,
        meters=None if quotas is None else [_meter(one) for one in quotas],
        to_look_at=_to_look_at(keys),
        total_keys=keys.total,
        steps=steps,
        events=events,
        requests_page=requests_page,
        api_url=hub_services().api_url,
    )


def _last_day(hub_request: HubRequest) -> tuple[Series | None, UsageState]:
    """The calls of the last 24 hours, and whether they are known."""
    if hub_request.services.usage is None:
        return None, UsageState.DISABLED
    try:
        with hub_request.reading() as session:
            return series.last_day_by_outcome(session, datetime.now(UTC)), UsageState.KNOWN
    except SchemaMismatch:  # the account's database has no usage yet
        return None, UsageState.BEHIND


def _meter(status: QuotaStatus) -> LimitMeter:
    state = "bad" if status.remaining == 0 else "warn" if status.used >= NEARLY_USED * status.quota.limit else "good"
    label = describe_quota(status).partition(" ")[2]
    return LimitMeter(f"{label[0].upper()}{label[1:]}", status.used, status.quota.limit, state)


def _to_look_at(keys: KeyCounts) -> Sequence[KeysToLookAt]:
    return [
        KeysToLookAt(label, keys.groups[group], tag, f"{KEYS_PAGE}?{urlencode(_query(group, order))}")
        for group, label, tag, order in TO_LOOK_AT
        if keys.groups[group]
    ]


def _query(group: Hygiene, order: KeyOrder | None) -> Mapping[str, str]:
    return {"show": group.value} if order is None else {"show": group.value, "sort": order.value}
