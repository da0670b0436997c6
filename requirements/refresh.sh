#!/usr/bin/env bash
# Writes the lock files afresh from pyproject.toml; needs uv. Arguments go to uv:
#
#   requirements/refresh.sh                  keep what is locked, add and drop what pyproject.toml asks for
#   requirements/refresh.sh --upgrade        take the newest versions
#   requirements/refresh.sh -P aiohttp       take the newest version of one package
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Universal: one file serves every Python from 3.11 on and every processor.
lock() {
  local name=$1
  shift
  UV_CUSTOM_COMPILE_COMMAND=requirements/refresh.sh uv pip compile --quiet --universal \
    --python-version 3.11 --generate-hashes --output-file "requirements/$name.lock" "$@"
}

# The widest first: the others take their versions from it.
lock dev pyproject.toml --group native --group dev "$@"
lock native pyproject.toml --group native --constraints requirements/dev.lock
lock runtime pyproject.toml --constraints requirements/dev.lock
lock node --group node "$@"
lock bench --group bench --constraints requirements/dev.lock "$@"
lock ministack --group ministack "$@"
