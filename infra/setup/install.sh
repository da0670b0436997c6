# Installs what is missing on a machine without Docker. Sourced, never run.
# shellcheck shell=bash

install_native() {
  install_packages
  install_python "$VENV" native
  install_table_server
}

install_for_tests() {
  install_packages
  install_model_checker
  install_python "$VENV" dev
  install_table_server
  install_python "$MINISTACK_VENV" ministack # its KMS
}

install_packages() {
  [ "$(uname -s)" = Linux ] || die "unsupported system: $(uname -s) can run this with Docker only"
  command -v python3 >/dev/null || die "Python 3.11 or newer is needed: install python3"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or newer is needed: this is $(python3 --version)"
  local missing=()
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  command -v curl >/dev/null || missing+=(curl)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ -x "$RABBITMQ" ] || missing+=(rabbitmq-server)
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

install_model_checker() {
  local missing=()
  command -v spin >/dev/null || missing+=(spin)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

apt_install() {
  command -v apt-get >/dev/null ||
    die "unsupported system: without Docker this needs Debian or Ubuntu (missing: $*)"
  [ "$(id -u)" -eq 0 ] || die "not root, and these packages are missing: apt-get install $*"
  say "Installing $* …"
  local policy=/usr/sbin/policy-rc.d
  # The package would start a broker of the system's: https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  run_quietly apt-get update
  run_quietly apt-get install --yes --no-install-recommends "$@"
  # Nor is it to start with the machine.
  [[ " $* " != *' rabbitmq-server '* ]] || run_quietly update-rc.d rabbitmq-server disable
  if [ "$(trap -p EXIT)" ]; then
    rm -f "$policy"
    trap - EXIT
  fi
}

# install_python ENVIRONMENT LOCK
install_python() {
  local lock=$ROOT/requirements/$2.lock
  cmp --silent "$lock" "$1/$2.lock" && return
  say "Installing Python packages ($2) …"
  [ -x "$1/bin/python" ] || python3 -m venv "$1"
  pip_install "$1" -r "$lock"
  cp "$lock" "$1/$2.lock"
}

# pip_install ENVIRONMENT ARGS...
pip_install() {
  run_quietly "$1/bin/python" -m pip install --disable-pip-version-check --require-hashes "${@:2}"
}

install_table_server() {
  if has_dynoxide; then
    install_dynoxide
  else
    warn "Dynoxide has no binary for $(uname -m): MiniStack stands in, which saves timers only when it is stopped in order"
    install_python "$MINISTACK_VENV" ministack
  fi
}

install_dynoxide() {
  local folder=$ROOT/infra/native
  cmp --silent "$folder/package-lock.json" "$folder/node_modules/installed.json" && return
  say "Installing Dynoxide …"
  if command -v npm >/dev/null; then
    npm_install "$folder"
  else
    with_node_from_pypi npm_install "$folder"
  fi
  cp "$folder/package-lock.json" "$folder/node_modules/installed.json"
}

npm_install() {
  NODE_USE_SYSTEM_CA=1 run_quietly npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

# with_node_from_pypi COMMAND...: with Node.js on the path for as long as the command runs.
with_node_from_pypi() {
  local folder
  folder=$(mktemp -d)
  pip_install "$VENV" --target "$folder" -r "$ROOT/requirements/node.lock"
  PATH=$folder/bin:$PATH PYTHONPATH=$folder "$@"
  rm -rf "$folder"
}

# run_quietly COMMAND...: its output is shown only if it fails.
run_quietly() {
  local output
  output=$("$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    die "this failed: $*"
  }
}
