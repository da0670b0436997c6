"""What ./setup.sh answers to a user's mistakes, before it installs or starts anything."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.vault import parse_keys
from timers.keys import Token
from timers.signature import parse_secrets

ROOT = Path(__file__).parents[2]
SCRIPTS = ["setup.sh", "infra/setup", "infra/native", "infra/broker"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A place where setup.sh has never run."""
    for name in SCRIPTS:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy(source, target)
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def setup(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: os.environ[name] for name in ("HOME", "PATH")}
    return subprocess.run(
        [checkout / "setup.sh", *arguments],
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_option(checkout: Path) -> None:
    result = setup(checkout, "--help")

    assert result.returncode == 0
    for option in ("--docker", "--native", "--consumers", "--status", "--down", "--reset", "--yes", "key", "test"):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--bogus"], "unknown option --bogus; ./setup.sh --help shows what there is"),
        (["--consumers", "many"], "--consumers takes a number from 1 to 99, not 'many'"),
        (["--consumers", "0"], "--consumers takes a number from 1 to 99, not '0'"),
        (["--consumers"], "--consumers takes a number from 1 to 99, not ''"),
        (["key", "list"], "nothing was started here yet: run ./setup.sh"),
        (["--status"], "nothing was started here yet: run ./setup.sh"),
        (["--down"], "nothing was started here yet: run ./setup.sh"),
        (["secret", "list"], "nothing was started here yet: run ./setup.sh"),
        (["--reset"], "nothing was deleted"),
    ],
)
def test_a_mistake_is_one_clear_line(checkout: Path, arguments: list[str], error: str) -> None:
    result = setup(checkout, *arguments)

    assert result.returncode == 1
    assert result.stderr == f"error: {error}\n"


def test_a_taken_port_is_named_with_its_setting(checkout: Path, taken_port: int) -> None:
    result = setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))

    assert result.returncode == 1
    assert result.stderr == (f"error: port {taken_port} is taken: set TIMERS_API_PORT in .env to a free one\n")


def test_settings_are_for_their_owner_only_and_stay(checkout: Path, taken_port: int) -> None:
    setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))
    env_file = checkout / ".env"
    first = env_file.read_text()

    setup(checkout, "--native")

    assert env_file.stat().st_mode & 0o777 == 0o600
    assert env_file.read_text() == first
    assert f"TIMERS_API_PORT='{taken_port}'" in first


def test_an_installation_gets_a_signing_secret_of_its_own(checkout: Path, taken_port: int) -> None:
    setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))

    settings = dict(line.split("=", 1) for line in (checkout / ".env").read_text().splitlines() if "=" in line)
    [secret] = parse_secrets(settings["TIMERS_SIGNING_SECRET"])
    assert len(secret) == 32


def test_an_installation_gets_an_api_key_of_its_own(checkout: Path, taken_port: int) -> None:
    setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))

    settings = dict(line.split("=", 1) for line in (checkout / ".env").read_text().splitlines() if "=" in line)
    assert Token.parse(settings["TIMERS_API_KEY"])


def test_an_installation_gets_an_encryption_key_of_its_own(checkout: Path, taken_port: int) -> None:
    setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))

    settings = dict(line.split("=", 1) for line in (checkout / ".env").read_text().splitlines() if "=" in line)
    assert list(parse_keys(settings["TIMERS_ENCRYPTION_KEYS"])) == ["k1"]


def test_a_local_setup_opens_what_the_defaults_refuse(checkout: Path, taken_port: int) -> None:
    setup(checkout, "--native", TIMERS_API_PORT=str(taken_port))

    settings = (checkout / ".env").read_text().splitlines()
    assert "TIMERS_ALLOW_ADDRESSES=public,private,loopback" in settings
    assert "TIMERS_ALLOW_HTTP=true" in settings
    assert "TIMERS_ALLOW_AMQP='*'" in settings


@pytest.mark.parametrize(
    ("allowed", "said"), [("public,private,loopback", True), ("public, loopback", True), ("public", False)]
)
def test_that_neighbours_may_be_called_is_said(checkout: Path, allowed: str, said: bool) -> None:
    functions = (checkout / "setup.sh").read_text().replace('main "$@"', "")
    (checkout / "functions.sh").write_text(functions)

    result = subprocess.run(
        ["bash", "-c", ". ./functions.sh && show_reach"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "TIMERS_ALLOW_ADDRESSES": allowed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ("may reach loopback and private addresses" in result.stdout) is said


def test_who_is_not_root_is_told_what_to_install(checkout: Path) -> None:
    script = "id() { echo 1000; }; . infra/setup/common.sh; . infra/setup/install.sh; apt_install curl rabbitmq-server"

    result = subprocess.run(["bash", "-c", script], cwd=checkout, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert result.stderr == "error: not root, and these packages are missing: apt-get install curl rabbitmq-server\n"
