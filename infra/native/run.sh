#!/usr/bin/env bash
# Runs one part of the native stack in the foreground, with the settings of .env:
#
#   infra/native/run.sh dynamodb | rabbitmq | api | consumer N
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"
. "$ROOT/infra/setup/settings.sh"

load_settings
cd "$ROOT"
case $1 in
  dynamodb) exec infra/native/dynamodb.sh "$DATA/dynamodb" "$DYNAMODB_PORT" ;;
  rabbitmq) exec infra/native/rabbitmq.sh "$DATA/rabbitmq" ;;
  api) exec "$PYTHON" -m api ;;
  consumer)
    export TIMERS_CONSUMER_PORT=$((TIMERS_CONSUMER_PORT + $2 - 1))
    exec "$PYTHON" -m consumer
    ;;
esac
