#!/usr/bin/env bash
# Runs a DynamoDB-compatible table server in the foreground, on loopback:
#
#   infra/native/dynamodb.sh FOLDER PORT
#
# Dynoxide where it has a binary for the processor, MiniStack elsewhere.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

mkdir -p "$1"
if has_dynoxide; then
  [ -x "$DYNOXIDE" ] || die "Dynoxide is not installed: run ./setup.sh"
  exec "$DYNOXIDE" serve --host 127.0.0.1 --port "$2" --db-path "$1/dynoxide.db"
fi
[ -x "$MINISTACK_VENV/bin/ministack" ] || die "MiniStack is not installed: run ./setup.sh"
BIND_HOST=127.0.0.1 GATEWAY_PORT=$2 SERVICES=dynamodb PERSIST_STATE=1 STATE_DIR=$1 \
  exec "$MINISTACK_VENV/bin/ministack"
