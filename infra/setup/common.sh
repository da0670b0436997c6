# What setup.sh and the scripts beside it share. Sourced, never run.
# shellcheck shell=bash disable=SC2034 # the names are used where this is sourced

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DATA=$ROOT/.data
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
DYNOXIDE=$ROOT/infra/native/node_modules/@dynoxide/linux-x64/dynoxide
MINISTACK_VENV=$ROOT/.venv-ministack
RABBITMQ=/usr/lib/rabbitmq/bin/rabbitmq-server # Debian's wrapper of it insists on root and the system's node

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

has_dynoxide() { [ "$(uname -m)" = x86_64 ]; }

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port_free() { ! port_taken "$1"; }

# answers PORT PATH: the HTTP server on that port says 200.
answers() (
  exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
  read -r -t 5 _ status _ <&3 && [ "$status" = 200 ]
)

# await SECONDS COMMAND...: until the command succeeds; fails when the time is up.
await() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}
