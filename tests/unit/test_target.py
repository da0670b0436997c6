"""Which targets can be called."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_target
from timers import limits
from timers.body import Body, BodyKind, check_body
from timers.errors import Invalid
from timers.target import check_headers, check_target, check_url

GOOD_URLS = [
    "http://localhost",
    "https://example.com/hook?a=b#c",
    "HTTPS://EXAMPLE.COM/",
    "http://127.0.0.1:8080/",
    "http://[::1]:8080/",
    "https://bücher.example/straße",
    "https://example.com:65535",
    "https://example.com/" + "a" * (limits.MAX_URL_LENGTH - 20),
]
BAD_URLS = [
    "",
    "example.com",
    "/hook",
    "//example.com",
    "ftp://example.com",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http:///hook",
    "http://:80",
    "http://example.com:0",
    "http://example.com:65536",
    "http://example.com:http",
    "http://example.com:-1",
    "http://[::1",
    "http://[nonsense]",
    "http://user@example.com",
    "http://user:secret@example.com",
    "http://@example.com",
    "http://exa mple.com",
    "http://example.com/a b",
    "http://example.com/\r\nx: y",
    "http://example.com/\x00",
    "http://example.com\\@evil.example",
    "http://a..b",
    "http://" + "b" * 64 + ".example",
    "http://" + ".".join(["a" * 60] * 5),
    "https://example.com/" + "a" * (limits.MAX_URL_LENGTH - 19),
]
BAD_HEADERS = [
    {"": "x"},
    {"a b": "x"},
    {"a:b": "x"},
    {"é": "x"},
    {"a\n": "x"},
    {"x": "a\nb"},
    {"x": "a\rb"},
    {"x": "a\x00b"},
    {"x": "a\x7fb"},
    {"x": "€"},
    {"x": "\ud800"},
    {"host": "evil.example"},
    {"Content-Length": "0"},
    {"Transfer-Encoding": "chunked"},
    {"connection": "close"},
    {"Webhook-Id": "forged"},
    {"webhook-signature": "forged"},
    {"Timer-Attempt": "7"},
    {"timer-anything": "x"},
    {"X": "a", "x": "b"},
    {"x": "a" * limits.MAX_HEADER_BYTES},
]


@pytest.mark.parametrize("url", GOOD_URLS, ids=lambda url: url[:40])
def test_a_url_that_can_be_called_is_kept_as_it_is(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: repr(url[:40]))
def test_a_url_that_cannot_be_called_is_refused_by_name(url: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_url(url)
    assert refusal.value.pointer == "/target/url"


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: "http://" + text))
def test_any_text_is_a_url_or_invalid(url: str) -> None:
    try:
        check_url(url)
    except Invalid:
        return


@pytest.mark.parametrize("headers", BAD_HEADERS, ids=lambda headers: repr(headers)[:40])
def test_a_header_that_cannot_be_sent_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(Invalid) as refusal:
        check_headers(headers)
    assert refusal.value.pointer.startswith("/target/headers")


def test_a_refused_header_is_named_as_json_pointers_do() -> None:
    with pytest.raises(Invalid) as refusal:
        check_headers({"a/b~c": "x"})
    assert refusal.value.pointer == "/target/headers/a~1b~0c"


def test_header_names_become_lower_case_and_values_lose_their_outer_blanks() -> None:
    assert check_headers({"X-Team": " billing\t", "Accept": "a, b"}) == {"x-team": "billing", "accept": "a, b"}


def test_the_most_headers_are_accepted_and_one_more_is_not() -> None:
    headers = {f"x-{number}": "" for number in range(limits.MAX_HEADERS)}
    assert check_headers(headers) == headers
    with pytest.raises(Invalid):
        check_headers({**headers, "x-more": ""})


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (Body(BodyKind.JSON, '{"a":1}'), b'{"a":1}'),
        (Body(BodyKind.TEXT, "grüße 🎉"), "grüße 🎉".encode()),
        (Body(BodyKind.BASE64, "AAH/"), b"\x00\x01\xff"),
        (Body(BodyKind.BASE64, ""), b""),
    ],
)
def test_a_body_is_sent_as_it_was_given(body: Body, content: bytes) -> None:
    checked = check_body(body)
    assert checked is not None
    assert checked.content() == content


@pytest.mark.parametrize("text", ["A", "AA", "AAA", "A===", "AA AA", "AAAA\n", "!!!!", "AA==AA==x", "é", "-_-_"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_body(Body(BodyKind.BASE64, text))
    assert refusal.value.pointer == "/target/body_base64"


def test_half_a_surrogate_pair_is_not_text() -> None:
    with pytest.raises(Invalid):
        check_body(Body(BodyKind.TEXT, "\ud83c"))


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("kind", BodyKind)
def test_the_largest_body_is_accepted_and_one_byte_more_is_not(kind: BodyKind, extra: int) -> None:
    content = b"a" * (limits.MAX_BODY_BYTES + extra)
    body = Body(kind, base64.b64encode(content).decode() if kind is BodyKind.BASE64 else content.decode())
    if not extra:
        assert check_body(body) == body
        return
    with pytest.raises(Invalid):
        check_body(body)


def test_a_body_is_measured_in_bytes() -> None:
    with pytest.raises(Invalid):
        check_body(Body(BodyKind.TEXT, "é" * (limits.MAX_BODY_BYTES // 2 + 1)))


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.009, 300.1, float("inf"), float("nan")])
def test_a_timeout_out_of_range_is_refused(timeout: float) -> None:
    with pytest.raises(Invalid, match=r"/target/timeout"):
        check_target(make_target(timeout=timeout))


@pytest.mark.parametrize("method", ["", "post", "HEAD", "TRACE", "CONNECT", "GET\r\n"])
def test_a_method_that_is_not_offered_is_refused(method: str) -> None:
    with pytest.raises(Invalid, match=r"/target/method"):
        check_target(make_target(method=method))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://example.com/a?b", "https://example.com"),
        ("HTTPS://Example.COM/A", "https://example.com"),
        ("http://example.com:8080/", "http://example.com:8080"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_targets_are_told_apart_by_scheme_host_and_port(url: str, key: str) -> None:
    assert make_target(url=url).key == key
