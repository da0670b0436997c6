"""Signatures by Standard Webhooks."""

import base64

import pytest

from timers.signature import parse_secrets, sign

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXPECTED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def secret_of(size: int) -> str:
    return "whsec_" + base64.b64encode(b"a" * size).decode()


def test_a_signature_is_that_of_the_specification() -> None:
    content = b'{"test": 2432232314}'
    assert sign(parse_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content) == EXPECTED


def test_two_secrets_sign_twice() -> None:
    both = parse_secrets(f"{SECRET}, {secret_of(24)}")
    new, old = sign(both, "id", 1, b"").split(" ")
    assert (new, old) == (sign(both[:1], "id", 1, b""), sign(both[1:], "id", 1, b""))


def test_no_secret_is_no_secret() -> None:
    assert parse_secrets("") == ()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_the_edges_of_a_secrets_size_belong_to_it(size: int) -> None:
    assert parse_secrets(secret_of(size)) == (b"a" * size,)


@pytest.mark.parametrize(
    "text",
    [
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8G KYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_",
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        secret_of(23),
        secret_of(65),
        f"{SECRET},nonsense",
        f"{SECRET},{SECRET},{SECRET}",
        "whsec_é",
    ],
)
def test_what_is_no_secret_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as refusal:
        parse_secrets(text)
    assert "MfKQ" not in str(refusal.value)
