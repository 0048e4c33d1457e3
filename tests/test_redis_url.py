"""Parsing of Redis URLs, and that every Redis client applies them, including TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from cryptography.hazmat.primitives import serialization

from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.redis_socket import Unreachable, pack
from kataven.redis_clients import redis_client
from kataven.redis_url import (
    OPTIONS,
    RedisAddress,
    RedisDeployment,
    RedisTls,
    Topology,
    check_redis_url,
    read_redis_url,
)
from kataven.revocation.redis_link import RedisLink
from tests.ratelimit.proxy import Proxy
from tests.revocation.scratch_redis import ScratchRedis
from tests.support.certificates import Authority, authority

SECONDS = 30
LONG_TIMEOUTS = RedisTimeouts(slow=SECONDS, reply=SECONDS, connect=SECONDS)
A_SOCKET = "unix:///run/redis.sock"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://redis", RedisAddress("redis")),
        ("redis://:s%40fe@[::1]:6380/3", RedisAddress("::1", 6380, db=3, password="s@fe")),
        ("redis://h/1?db=2", RedisAddress("h", db=2)),
        ("redis://u%2Fx:p@h?username=other&password=other", RedisAddress("h", username="u/x", password="p")),
        ("redis://h?username=u&client_name=a%20b", RedisAddress("h", username="u", client_name="a b")),
        ("rediss://h", RedisAddress("h", tls=RedisTls())),
        (
            "rediss://h?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_check_hostname=True",
            RedisAddress("h", tls=RedisTls("/ca.pem", "/c.pem", "/k.pem")),
        ),
        ("unix:///run/a%20b.sock?db=4", RedisAddress(path="/run/a b.sock", db=4)),
        ("unix://u:p@/run/redis.sock", RedisAddress(path="/run/redis.sock", username="u", password="p")),
    ],
)
def test_a_url_is_parsed_into_an_address(url: str, address: RedisAddress) -> None:
    assert read_redis_url(url) == RedisDeployment(Topology.PLAIN, address)


TLS = RedisTls("/ca.pem")


@pytest.mark.parametrize(
    ("url", "deployment"),
    [
        (
            "redis+sentinel://u:p%2C@h1,h2:26380/main/2?sentinel_username=s&sentinel_password=q&client_name=n",
            RedisDeployment(
                Topology.SENTINEL,
                RedisAddress(db=2, username="u", password="p,", client_name="n"),
                (
                    RedisAddress("h1", 26379, username="s", password="q"),
                    RedisAddress("h2", 26380, username="s", password="q"),
                ),
                "main",
            ),
        ),
        (
            "rediss+sentinel://[::1]:26379/a%20b?ssl_ca_certs=/ca.pem",
            RedisDeployment(Topology.SENTINEL, RedisAddress(tls=TLS), (RedisAddress("::1", 26379, tls=TLS),), "a b"),
        ),
        (
            "redis+cluster://:p@H1:7000,[2001:db8::1],h3/0",
            RedisDeployment(
                Topology.CLUSTER,
                RedisAddress(password="p"),
                (
                    RedisAddress("h1", 7000, password="p"),
                    RedisAddress("2001:db8::1", password="p"),
                    RedisAddress("h3", password="p"),
                ),
            ),
        ),
        (
            "rediss+cluster://h1?ssl_ca_certs=/ca.pem",
            RedisDeployment(Topology.CLUSTER, RedisAddress(tls=TLS), (RedisAddress("h1", tls=TLS),)),
        ),
    ],
)
def test_a_url_of_several_servers_is_parsed(url: str, deployment: RedisDeployment) -> None:
    assert read_redis_url(url) == deployment
    assert deployment.at("h", 1).port == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "redis://a:1,b:2/0",
            r"several servers.*redis\+sentinel://host1:26379,host2:26379/service/0; .*redis\+cluster",
        ),
        ("redis+sentinel://a:1", "doesn't name the service"),
        ("redis+sentinel://a:1/main/x", "not a database number; write redis.sentinel"),
        ("redis+sentinel://a,,b/main", "an empty host name"),
        ("redis+sentinel://a,a:26379/main", "a server twice"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis+cluster://a?db=1", "only database 0"),
        ("redis+cluster://a:x,b", "a port that is not a number"),
        ("redis+cluster://a:0", "a port that is not a number"),
        ("redis+cluster://[::1", "not a URL"),
        ("redis+cluster://a:1:2", "with IPv6 addresses in brackets"),
        ("redis+cluster://a?sentinel_password=hunter2", "'sentinel_password', which requires Sentinel"),
        ("redis+sentinel://a/main?ssl_ca_certs=/ca.pem", "requires TLS; start the URL with rediss.sentinel://"),
        ("redis+sentinel://a/main?socket_timeout=9", "'socket_timeout'; the options are client_name"),
        ("sentinel://a/main", "must start with redis://.*for Sentinel with redis.sentinel://"),
    ],
)
def test_an_invalid_url_of_several_servers_is_rejected(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as rejected:
        check_redis_url(url)
    assert "hunter2" not in str(rejected.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:hunter2@h?ssl_ca_certs=/ca.pem", "'ssl_ca_certs', which requires TLS; start the URL with rediss://"),
        (f"{A_SOCKET}?ssl_certfile=/c.pem", "'ssl_certfile', which requires TLS"),
        ("rediss://h?ssl_keyfile=/k.pem", "'ssl_keyfile' without 'ssl_certfile'"),
        ("rediss://h?ssl_check_hostname=false", "disables 'ssl_check_hostname'"),
        ("rediss://h?ssl_check_hostname=0", "disables 'ssl_check_hostname'"),
        ("rediss://h?ssl_cert_reqs=none", "'ssl_cert_reqs'; the options are client_name, db"),
        ("redis://h?db=1&db=2", "'db' twice"),
        ("redis://h?password=", "'password' without a value"),
        ("redis://:hunter2@h?health_check_interval=5", "'health_check_interval'; the options are client_name"),
    ],
)
def test_an_unsupported_option_is_rejected_with_its_name(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as rejected:
        check_redis_url(url)
    assert "hunter2" not in str(rejected.value)


def test_no_repr_contains_the_password() -> None:
    assert "hunter2" not in repr(read_redis_url("redis://u:hunter2@h"))
    assert "hunter2" not in repr(read_redis_url("redis+sentinel://u:hunter2@h/s?sentinel_password=hunter2"))


# Every Redis client of the project; each reads the key `greeting` once.


def limiter(url: str) -> str | None:
    with closing(RedisPool(url, LONG_TIMEOUTS)) as pool:
        value: bytes | None = pool.call(pack("GET", "greeting"))
        return None if value is None else value.decode()


def hub_and_widget_sessions(url: str) -> str | None:
    with redis_client(url, timeout_seconds=SECONDS, decode_responses=True) as client:
        value: str | None = client.get("greeting")
        return value


def revocation(url: str) -> str | None:
    with RedisLink(url, "channel", SECONDS) as link:
        value: str | None = link.call("GET", "greeting")
        return value


Client = Callable[[str], str | None]
CLIENTS: list[Client] = [limiter, hub_and_widget_sessions, revocation]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


class Tls:
    """A Redis server behind TLS, with a certificate from the authority `own`."""

    def __init__(self, own: Authority, foreign: Authority, port: int) -> None:
        self.own = own
        self.foreign = foreign
        self._port = port

    def url(self, host: str = "localhost", /, **options: object) -> str:
        given = {"ssl_ca_certs": self.own.folder / "ca.pem", **options}
        return f"rediss://{host}:{self._port}/0?" + "&".join(f"{name}={value}" for name, value in given.items())

    @staticmethod
    def as_client(of: Authority) -> dict[str, Path]:
        files = of.issue("client")
        return {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScratchRedis]:
    with ScratchRedis(tmp_path_factory.mktemp("redis")) as server:
        with server.client() as client:
            client.set("greeting", "hello")
        yield server


@contextmanager
def behind_tls(server: ScratchRedis, folder: Path, *, requires_client_certificate: bool) -> Iterator[Tls]:
    own, foreign = authority(folder / "own"), authority(folder / "foreign")
    files = own.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if requires_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.authority)
    with Proxy(f"unix://{server.socket}", context) as proxy:
        yield Tls(own, foreign, int(proxy.url.rpartition(":")[2].partition("/")[0]))


@pytest.fixture(scope="module")
def mutual(server: ScratchRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with behind_tls(server, tmp_path_factory.mktemp("mutual"), requires_client_certificate=True) as tls:
        yield tls


@pytest.fixture(scope="module")
def one_way(server: ScratchRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with behind_tls(server, tmp_path_factory.mktemp("one-way"), requires_client_certificate=False) as tls:
        yield tls


def rejection(client: Client, url: str) -> str:
    with pytest.raises((Unreachable, redis.ConnectionError, OSError)) as error:
        client(url)
    return str(error.value)


@every_client
def test_client_presents_the_certificate_from_the_url(mutual: Tls, client: Client) -> None:
    assert client(mutual.url(**mutual.as_client(mutual.own))) == "hello"


@every_client
def test_certificate_and_key_can_be_in_one_file(mutual: Tls, client: Client, tmp_path: Path) -> None:
    files = mutual.own.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    assert client(mutual.url(ssl_certfile=both)) == "hello"


@every_client
def test_clients_without_a_trusted_certificate_are_rejected(mutual: Tls, client: Client) -> None:
    rejection(client, mutual.url())
    rejection(client, mutual.url(**mutual.as_client(mutual.foreign)))


@every_client
def test_the_name_in_the_servers_certificate_is_checked(one_way: Tls, client: Client) -> None:
    assert client(one_way.url()) == "hello"
    assert "CERTIFICATE_VERIFY_FAILED" in rejection(client, one_way.url("127.0.0.1"))


@every_client
def test_only_the_authority_from_the_url_is_trusted(
    one_way: Tls, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_way.own.folder / "ca.pem"))  # the authority that the system trusts
    url = one_way.url(ssl_ca_certs=one_way.foreign.folder / "ca.pem")
    assert "CERTIFICATE_VERIFY_FAILED" in rejection(client, url)


@every_client
def test_client_sets_its_name_and_selects_the_database(server: ScratchRedis, client: Client) -> None:
    with server.client() as other, other.monitor() as monitor:
        assert client(f"unix://{server.socket}?client_name=kataven&db=1") is None
        assert next(event for event in monitor.listen() if event["command"] == "GET greeting")["db"] == 1
    # MONITOR of Redis 6 does not show CLIENT SETNAME. The slow log has the name of each command's connection.
    with server.client() as other:
        other.config_set("slowlog-log-slower-than", 0)
        other.slowlog_reset()
        client(f"unix://{server.socket}?client_name=kataven&db=1")
        other.config_set("slowlog-log-slower-than", -1)
        other.set_response_callback("SLOWLOG GET", lambda entries, **_: entries)
        names = {entry[5] for entry in other.slowlog_get() if entry[3] == [b"GET", b"greeting"]}
    assert names == {b"kataven"}


@every_client
def test_client_authenticates_with_the_credentials_from_the_url(server: ScratchRedis, client: Client) -> None:
    with server.client() as other:
        other.execute_command("ACL", "SETUSER", "reader", "on", ">s@fe", "~*", "&*", "+@all")
    assert client(f"unix://reader:s%40fe@{server.socket}") == "hello"
    with pytest.raises(Exception, match=r"WRONGPASS|invalid username-password"):
        client(f"unix://reader:wrong@{server.socket}")


@pytest.mark.parametrize("wrong", ["missing", "no PEM", "encrypted"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_an_unusable_file_is_reported_at_startup(one_way: Tls, tmp_path: Path, option: str, wrong: str) -> None:
    file = tmp_path / "hunter2.pem"
    if wrong == "no PEM":
        file.write_text("nothing")
    elif wrong == "encrypted":
        passphrase = serialization.BestAvailableEncryption(b"passphrase")
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write_bytes(one_way.own.key.private_bytes(encoding, form, passphrase))
    with pytest.raises(ValueError, match="names a TLS file that can't be used") as error:
        check_redis_url(one_way.url(**{**one_way.as_client(one_way.own), option: file}))
    assert "hunter2" not in str(error.value)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "configuration.md").read_text()
    assert [name for name in OPTIONS if f"`{name}`" not in page] == []
