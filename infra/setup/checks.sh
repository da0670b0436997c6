# Every check there is, in the order of their cost; the first that fails ends it. Sourced, never run.
# shellcheck shell=bash

# run_checks PYTEST-ARGS...
run_checks() {
  install_for_tests
  cd "$ROOT" || exit
  export PATH=$VENV/bin:$PATH
  check ruff format --check
  check ruff check
  check shellcheck --external-sources setup.sh .ci/run infra/*/*.sh requirements/refresh.sh docs/explanation/model/check.sh
  check mypy
  check lint-imports --no-logo
  check docs/explanation/model/check.sh
  check python -m pytest "$@"
}

check() {
  say "— $*"
  "$@" || exit
}
