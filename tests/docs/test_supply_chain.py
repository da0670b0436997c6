"""What is installed is what was locked, and the image is as confined as it is said to be."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import ROOT, read

LOCKS = sorted(path.name for path in (ROOT / "requirements").glob("*.lock"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_locked_with_hashes(name: str) -> None:
    packages = re.split(r"^(?=[a-z0-9])", read(f"requirements/{name}"), flags=re.MULTILINE)[1:]
    assert packages
    for package in packages:
        assert re.match(r"[A-Za-z0-9._-]+==", package), package
        assert "--hash=sha256:" in package


def test_packages_are_installed_by_hash_only() -> None:
    for path in ("infra/docker/Dockerfile", "infra/setup/install.sh"):
        installs = [line for line in read(path).splitlines() if re.search(r"pip install", line)]
        assert installs
        assert all("--require-hashes" in line for line in installs), path


def test_the_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\w+)$", read("infra/docker/Dockerfile"), re.MULTILINE) == ["timers"]


def test_the_services_are_confined() -> None:
    service = read("docker-compose.yml").partition("x-service:")[2].partition("\nservices:")[0]
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]', "mem_limit: "):
        assert line in service
