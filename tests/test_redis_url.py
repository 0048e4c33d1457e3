"""What a Redis URL says, and that each client of Redis does it: TLS above all."""

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
from kataven.redis_url import OPTIONS, RedisAddress, RedisTls, check_redis_url, read_redis_url
from kataven.revocation.redis_link import RedisLink
from tests.ratelimit.proxy import Proxy
from tests.revocation.scratch_redis import ScratchRedis
from tests.support.certificates import Authority, authority

SECONDS = 30
PATIENT = RedisTimeouts(slow=SECONDS, answer=SECONDS, connect=SECONDS)
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
def test_url_is_read_as_an_address(url: str, address: RedisAddress) -> None:
    assert read_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:hunter2@h?ssl_ca_certs=/ca.pem", "'ssl_ca_certs', which is for TLS; begin the URL with rediss://"),
        (f"{A_SOCKET}?ssl_certfile=/c.pem", "'ssl_certfile', which is for TLS"),
        ("rediss://h?ssl_keyfile=/k.pem", "'ssl_keyfile' without 'ssl_certfile'"),
        ("rediss://h?ssl_check_hostname=false", "turns 'ssl_check_hostname' off"),
        ("rediss://h?ssl_check_hostname=0", "turns 'ssl_check_hostname' off"),
        ("rediss://h?ssl_cert_reqs=none", "'ssl_cert_reqs'; the options are client_name, db"),
        ("redis://h?db=1&db=2", "'db' twice"),
        ("redis://h?password=", "'password' without a value"),
        ("redis://:hunter2@h?health_check_interval=5", "'health_check_interval'; the options are client_name"),
    ],
)
def test_an_option_that_can_not_be_kept_is_refused_by_its_name(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        check_redis_url(url)
    assert "hunter2" not in str(refused.value)


def test_password_is_in_no_repr() -> None:
    assert "hunter2" not in repr(read_redis_url("redis://u:hunter2@h"))


# Each client of Redis that there is, asking once for what is at `greeting`.


def limiter(url: str) -> str | None:
    with closing(RedisPool(url, PATIENT)) as wire:
        answer: bytes | None = wire.call(pack("GET", "greeting"))
        return None if answer is None else answer.decode()


def sessions_and_visits(url: str) -> str | None:
    with redis_client(url, timeout_seconds=SECONDS, decode_responses=True) as client:
        answer: str | None = client.get("greeting")
        return answer


def revocation(url: str) -> str | None:
    with RedisLink(url, "channel", SECONDS) as link:
        answer: str | None = link.call("GET", "greeting")
        return answer


Client = Callable[[str], str | None]
CLIENTS: list[Client] = [limiter, sessions_and_visits, revocation]
every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)


class Tls:
    """A Redis behind TLS, with a certificate of `own`."""

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
def behind_tls(server: ScratchRedis, folder: Path, *, asks_clients: bool) -> Iterator[Tls]:
    own, foreign = authority(folder / "own"), authority(folder / "foreign")
    files = own.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if asks_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.authority)
    with Proxy(f"unix://{server.socket}", context) as proxy:
        yield Tls(own, foreign, int(proxy.url.rpartition(":")[2].partition("/")[0]))


@pytest.fixture(scope="module")
def mutual(server: ScratchRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with behind_tls(server, tmp_path_factory.mktemp("mutual"), asks_clients=True) as tls:
        yield tls


@pytest.fixture(scope="module")
def one_way(server: ScratchRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with behind_tls(server, tmp_path_factory.mktemp("one-way"), asks_clients=False) as tls:
        yield tls


def refused(client: Client, url: str) -> str:
    with pytest.raises((Unreachable, redis.ConnectionError, OSError)) as error:
        client(url)
    return str(error.value)


@every_client
def test_client_shows_the_certificate_that_the_url_names(mutual: Tls, client: Client) -> None:
    assert client(mutual.url(**mutual.as_client(mutual.own))) == "hello"


@every_client
def test_certificate_and_key_may_be_in_one_file(mutual: Tls, client: Client, tmp_path: Path) -> None:
    files = mutual.own.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    assert client(mutual.url(ssl_certfile=both)) == "hello"


@every_client
def test_without_a_certificate_or_with_a_foreign_one_no_client_gets_in(mutual: Tls, client: Client) -> None:
    refused(client, mutual.url())
    refused(client, mutual.url(**mutual.as_client(mutual.foreign)))


@every_client
def test_the_name_in_the_servers_certificate_is_checked(one_way: Tls, client: Client) -> None:
    assert client(one_way.url()) == "hello"
    assert "CERTIFICATE_VERIFY_FAILED" in refused(client, one_way.url("127.0.0.1"))


@every_client
def test_only_the_authority_that_the_url_names_is_trusted(
    one_way: Tls, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_way.own.folder / "ca.pem"))  # what the system trusts
    url = one_way.url(ssl_ca_certs=one_way.foreign.folder / "ca.pem")
    assert "CERTIFICATE_VERIFY_FAILED" in refused(client, url)


@every_client
def test_client_says_its_name_and_selects_the_database(server: ScratchRedis, client: Client) -> None:
    said = []
    with server.client() as other, other.monitor() as monitor:
        assert client(f"unix://{server.socket}?client_name=house&db=1") is None
        for heard in monitor.listen():
            said.append(heard["command"])
            if heard["command"] == "GET greeting":
                break
    assert heard["db"] == 1
    assert "CLIENT SETNAME house" in said


@every_client
def test_client_authenticates_as_the_url_says(server: ScratchRedis, client: Client) -> None:
    with server.client() as other:
        other.execute_command("ACL", "SETUSER", "reader", "on", ">s@fe", "~*", "&*", "+@all")
    assert client(f"unix://reader:s%40fe@{server.socket}") == "hello"
    with pytest.raises(Exception, match=r"WRONGPASS|invalid username-password"):
        client(f"unix://reader:wrong@{server.socket}")


@pytest.mark.parametrize("wrong", ["missing", "no PEM", "encrypted"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_can_not_be_used_is_found_at_the_start(
    one_way: Tls, tmp_path: Path, option: str, wrong: str
) -> None:
    file = tmp_path / "hunter2.pem"
    if wrong == "no PEM":
        file.write_text("nothing")
    elif wrong == "encrypted":
        passphrase = serialization.BestAvailableEncryption(b"passphrase")
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write_bytes(one_way.own.key.private_bytes(encoding, form, passphrase))
    with pytest.raises(ValueError, match="names a file for TLS that can't be used") as error:
        check_redis_url(one_way.url(**{**one_way.as_client(one_way.own), option: file}))
    assert "hunter2" not in str(error.value)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "configuration.md").read_text()
    assert [name for name in OPTIONS if f"`{name}`" not in page] == []
