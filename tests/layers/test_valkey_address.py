"""What a URL says of servers, and what it may not say."""

import pytest

from asgi_notify.exceptions import InvalidChannelLayerError
from asgi_notify.layers.sharded import ShardedEngine
from asgi_notify.layers.valkey import ValkeyEngine, engine_from_url
from asgi_notify.layers.valkey_address import ValkeyAddress, read_url


def address(url: str) -> ValkeyAddress:
    (found,) = read_url(url).addresses
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("valkey://", ValkeyAddress()),
        ("redis://localhost", ValkeyAddress((("localhost", 6379),))),
        ("valkey://:7000", ValkeyAddress((("127.0.0.1", 7000),))),
        ("valkey://[::1]:7000/2", ValkeyAddress((("::1", 7000),), database=2)),
        ("valkey://[::1]", ValkeyAddress((("::1", 6379),))),
        ("valkey://:p%40w@h", ValkeyAddress((("h", 6379),), password="p@w")),
        ("valkey://u:p@h/", ValkeyAddress((("h", 6379),), username="u", password="p")),
        ("valkeys://h?tls_ca=/ca", ValkeyAddress((("h", 6379),), is_tls=True, tls_ca="/ca")),
        ("rediss://h", ValkeyAddress((("h", 6379),), is_tls=True)),
        (
            "valkey://a,b:7/?cluster=1",
            ValkeyAddress((("a", 6379), ("b", 7)), is_cluster=True),
        ),
    ],
)
def test_a_url_says_where_the_server_is(url: str, expected: ValkeyAddress) -> None:
    assert address(url) == expected


def test_several_hosts_are_servers_of_their_own() -> None:
    addresses, options = read_url("valkey://u:p@a,b:7,c/1?prefix=shop")
    assert [one.nodes for one in addresses] == [(("a", 6379),), (("b", 7),), (("c", 6379),)]
    assert {(one.password, one.database) for one in addresses} == {("p", 1)}
    assert options == {"prefix": "shop"}


def test_as_text_an_address_is_a_url_without_the_login() -> None:
    text = str(address("rediss://ada:geheim@[::1],b:7/?cluster=1"))
    assert text == "valkeys://[::1]:6379,b:7/0"
    assert "geheim" not in repr(address("rediss://ada:geheim@h"))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("valkey://u:geheim@h?colour=red", "no option 'colour'; there are capacity, cluster"),
        ("valkey://u:geheim@h/one", "'one' is no number of a database"),
        ("valkey://u:geheim@h/1?cluster=1", "database 0 alone"),
        ("valkey://u:geheim@h?cluster=maybe", "'maybe' is no value for cluster"),
        ("valkey://u:geheim@h:port", "'port' is no port"),
        ("valkey://u:geheim@h:70000", "'70000' is no port"),
        ("valkey://u:geheim@h,h:6379", "names a server twice"),
        ("valkey://u:geheim@h?tls_ca=/ca", "begin with valkeys://"),
        ("valkey://u:geheim@[::1", "cannot be read"),
        ("nats://u:geheim@h", "nats:// is none of valkey://"),
        ("valkey://u:geheim@h?timeout=soon", "'soon' is no value for timeout"),
        ("valkey://u:geheim@h?timeout=-1", "timeout is a number above 0"),
        ("valkey://u:geheim@h?timeout=nan", "timeout is a number above 0"),
        ("valkey://u:geheim@h?probe_interval=0", "probe_interval is a number above 0"),
        ("valkey://u:geheim@h?probe_interval=4", "too long for timeout"),
        ("valkey://u:geheim@h?prefix=a*", "'a*' is no prefix"),
    ],
)
def test_what_makes_no_sense_is_refused_without_the_password(url: str, sentence: str) -> None:
    with pytest.raises(InvalidChannelLayerError) as caught:
        engine_from_url(url, ["capacity"])
    assert sentence in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_options_of_the_layer_are_passed_over() -> None:
    engine = engine_from_url("valkey://h:7?capacity=5&timeout=3&prefix=shop", ["capacity"])
    assert isinstance(engine, ValkeyEngine)
    assert str(engine.address) == "valkey://h:7/0"


def test_several_servers_share_the_topics() -> None:
    engine = engine_from_url("valkey://a,b,c")
    assert isinstance(engine, ShardedEngine)
    places = {engine.part_of(f"room{number}") for number in range(100)}
    assert places == {"valkey://a:6379/0", "valkey://b:6379/0", "valkey://c:6379/0"}
