"""Every setting, from the environment."""

import pytest

from infra.settings import BadSettings, Settings


def refusal(**environment: str) -> str:
    with pytest.raises(BadSettings) as refused:
        Settings.from_environment(environment)
    return str(refused.value)


def test_an_empty_environment_serves_one_machine() -> None:
    settings = Settings.from_environment({})
    assert (settings.api_host, settings.api_port, settings.lanes, settings.horizon) == ("127.0.0.1", 8000, 1, 3600)


def test_the_environment_overrides_and_others_variables_are_not_ours() -> None:
    settings = Settings.from_environment(
        {"TIMERS_API_PORT": "9000", "TIMERS_RETENTION_DAYS": "0.5", "PATH": "/bin", "timers_shards": "x"}
    )
    assert (settings.api_port, settings.retention_days, settings.shards) == (9000, 0.5, 16)


def test_an_unknown_variable_is_named_in_one_line() -> None:
    assert refusal(TIMERS_API_PROT="9000") == "TIMERS_API_PROT: there is no such setting"


def test_every_mistake_is_named_at_once() -> None:
    message = refusal(TIMERS_API_PORT="0", TIMERS_LANSE="2")
    assert "TIMERS_API_PORT='0'" in message
    assert "TIMERS_LANSE" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMERS_API_PORT", "0"),
        ("TIMERS_API_PORT", "65536"),
        ("TIMERS_API_PORT", "http"),
        ("TIMERS_API_PORT", ""),
        ("TIMERS_API_HOST", ""),
        ("TIMERS_QUEUE_TYPE", "stream"),
        ("TIMERS_TENANT_RATE", "-1"),
        ("TIMERS_TENANT_PENDING", "1.5"),
        ("TIMERS_LANES", "0"),
        ("TIMERS_LANES", "65"),
        ("TIMERS_HORIZON", "1"),
        ("TIMERS_HORIZON", "3601"),
        ("TIMERS_DYNAMODB_ENDPOINT", "localhost:4566"),
        ("TIMERS_DYNAMODB_ENDPOINT", "AWS"),
        ("TIMERS_DYNAMODB_TIMEOUT", "0"),
        ("TIMERS_DYNAMODB_TIMEOUT", "nan"),
        ("TIMERS_TABLE", "a b"),
        ("TIMERS_TABLE", "ab"),
        ("TIMERS_SHARDS", "100"),
        ("TIMERS_RETENTION_DAYS", "0"),
        ("TIMERS_RETENTION_DAYS", "inf"),
        ("TIMERS_CONCURRENCY", "1.5"),
        ("TIMERS_PREFETCH", "65536"),
        ("TIMERS_ALLOW_ADDRESSES", "10.0.0.1/8"),
        ("TIMERS_DENY_ADDRESSES", "everything"),
        ("TIMERS_ALLOW_HOSTS", "a*b"),
        ("TIMERS_DENY_HOSTS", "a b"),
        ("TIMERS_ALLOW_PORTS", "0-80"),
        ("TIMERS_ALLOW_HTTP", "perhaps"),
        ("TIMERS_ALLOW_AMQP", "orders"),
        ("TIMERS_LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_range_is_named_in_one_line(name: str, value: str) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}={value!r}: ")
    assert "\n" not in message


@pytest.mark.parametrize("wrong", ["hunter2", "timers_00_hunter2", f"timers_{0:016x}_{'hunter2':?<43}"])
def test_an_api_key_is_never_shown(wrong: str) -> None:
    message = refusal(TIMERS_API_KEY=wrong)
    assert message.startswith("TIMERS_API_KEY: ")
    assert "hunter2" not in message
    good = f"timers_{0:016x}_{'hunter2':x<43}"
    assert "hunter2" not in repr(Settings.from_environment({"TIMERS_API_KEY": good}))


GOOD = {
    "TIMERS_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "TIMERS_ENCRYPTION_KEYS": "k1:" + "AAAA" * 10 + "AAA=",
}
BAD = {
    "TIMERS_SIGNING_SECRET": "whsec_hunter2",
    "TIMERS_ENCRYPTION_KEYS": "k1:hunter2",
    "TIMERS_RABBITMQ_URL": "amqp:timers:hunter2@127.0.0.1",
}


@pytest.mark.parametrize(("name", "value"), GOOD.items(), ids=GOOD)
def test_a_secret_is_never_shown(name: str, value: str) -> None:
    assert value not in repr(Settings.from_environment({name: value}))


@pytest.mark.parametrize(("name", "value"), BAD.items(), ids=BAD)
def test_a_refused_secret_is_named_in_one_line_and_not_shown(name: str, value: str) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert "hunter2" not in message


def test_the_edges_of_a_range_belong_to_it() -> None:
    assert Settings.from_environment({"TIMERS_HORIZON": "2"}).horizon == 2
    assert Settings.from_environment({"TIMERS_SHARDS": "99", "TIMERS_DYNAMODB_ENDPOINT": "aws"}).shards == 99


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_described_and_has_a_default(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    assert not field.is_required()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match=r"frozen"):
        Settings.from_environment({}).api_port = 1  # type: ignore[misc]
