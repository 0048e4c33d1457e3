"""Database URLs with several hosts: libpq connects to the first of them that is the primary.

postgresql://user@/database?host=db1:5432&host=db2:5432&target_session_attrs=read-write
"""

from __future__ import annotations

from sqlalchemy import URL

PRIMARY = "primary"
"""With `read-write`, libpq would also reject a database that Kataven has made read-only, as while it is deleted."""

_ACCEPTED = {"read-write", PRIMARY}
_DEFAULT_PORT = "5432"


def hosts_of(url: URL) -> list[tuple[str, str]]:
    """The hosts of a URL with their ports; for a Unix socket, the host is its folder."""
    ports = _parts(url.query.get("port")) or ([str(url.port)] if url.port else [])
    hosts = _parts(url.query.get("host") or url.host)
    found = []
    for index, entry in enumerate(hosts):
        listed = ports[index] if index < len(ports) else ports[0] if len(ports) == 1 else ""
        has_port = entry.count(":") == 1 and not entry.startswith("/")  # not an IPv6 address or a socket's folder
        host, _, port = entry.partition(":") if has_port else (entry, "", listed or _DEFAULT_PORT)
        found.append((host, port))
    return found


def only_primary(url: URL) -> URL:
    """The URL, in libpq's form and restricted to the primary if it names several hosts.

    Raises ValueError if the URL asks for connections to standbys: reads from them would miss revocations.
    """
    wanted = url.query.get("target_session_attrs")
    if wanted is not None and wanted not in _ACCEPTED:
        raise ValueError(
            "target_session_attrs must be read-write: Kataven must not connect to standbys, which lag behind"
        )
    hosts = hosts_of(url)
    if len(hosts) < 2:
        return url if wanted is None else url.update_query_dict({"target_session_attrs": PRIMARY})
    names, ports = zip(*hosts, strict=True)
    if not all(port.isdecimal() for port in ports):
        raise ValueError("each host may have one port, as in host=db1:5432&host=db2:5432")
    several = {"host": ",".join(names), "port": ",".join(ports), "target_session_attrs": PRIMARY}
    return url.set(host="").update_query_dict(several)._replace(port=None)


def _parts(value: str | tuple[str, ...] | None) -> list[str]:
    entries = (value,) if isinstance(value, str) else value or ()
    return [part for entry in entries for part in entry.split(",")]
