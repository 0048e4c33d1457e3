"""dev.json: keys survive a failed run, and the file exists only while the run serves requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kataven.dev import dev_json
from kataven.dev.dev_json import AccountKeys, DevRun, stored_accounts
from kataven.dev.embedded.errors import DevError
from tests.support.servers import mode

ACME = AccountKeys("acme", "sk_live_acme_1", "pk_live_acme_1")
RUN = DevRun("http://a", "http://h", "postgresql://d", "unix://r", "http://i", "http://w", (ACME,))


def test_dev_json_contains_the_documented_fields_and_is_private(tmp_path: Path) -> None:
    dev_json.write_pending(tmp_path, RUN)
    dev_json.publish(tmp_path)
    written = tmp_path / "dev.json"
    assert mode(written) == 0o600
    assert json.loads(written.read_text()) == {
        "api_url": "http://a",
        "hub_url": "http://h",
        "database_url": "postgresql://d",
        "redis_url": "unix://r",
        "oidc_issuer": "http://i",
        "widget_demo_url": "http://w",
        "accounts": [{"account": "acme", "api_key": "sk_live_acme_1", "widget_key": "pk_live_acme_1"}],
    }


def test_dev_json_exists_only_while_the_run_serves_and_keys_are_always_kept(tmp_path: Path) -> None:
    assert stored_accounts(tmp_path) == {}
    dev_json.write_pending(tmp_path, RUN)
    assert not (tmp_path / "dev.json").exists()
    assert stored_accounts(tmp_path) == {"acme": ACME}
    dev_json.publish(tmp_path)
    assert stored_accounts(tmp_path) == {"acme": ACME}
    dev_json.unpublish(tmp_path)
    assert not (tmp_path / "dev.json").exists()
    dev_json.unpublish(tmp_path)
    assert stored_accounts(tmp_path) == {"acme": ACME}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"accounts": [{"account": "acme"}]}', '{"accounts": 1}'])
def test_damaged_dev_json_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "dev.json").write_text(text)
    with pytest.raises(DevError, match=r"dev\.json is damaged"):
        stored_accounts(tmp_path)


def test_repr_omits_keys() -> None:
    assert "_live_" not in repr(RUN)
