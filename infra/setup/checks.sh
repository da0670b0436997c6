# Every check there is, in the order of their cost; the first that fails ends it. Sourced, never run.
# shellcheck shell=bash

# Where pip-audit asks.
ADVISORIES=https://pypi.org/pypi/pip/json

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
  # Two at a time: most tests wait most of their time. Each of the two has services of its own.
  check python -m pytest --numprocesses 2 --dist worksteal "$@"
}

# Apart from the checks: what it says depends on the day, and on who can be asked.
run_audit() {
  install_for_tests
  cd "$ROOT" || exit
  if ! curl --fail --silent --location --max-time 10 --output /dev/null "$ADVISORIES"; then
    warn "$ADVISORIES cannot be reached: nobody was asked for known weaknesses of the packages"
    return
  fi
  export PATH=$VENV/bin:$PATH
  local name report
  for name in runtime native; do
    say "— pip-audit requirements/$name.lock"
    report=$(pip-audit --progress-spinner off --disable-pip --require-hashes --requirement "requirements/$name.lock" 2>&1) ||
      die "$report"
    printf '%s\n' "$report"
    [[ $report != *'could not be audited'* ]] || warn "some of them nobody knows there: those were not audited"
  done
}

check() {
  say "— $*"
  "$@" || exit
}
