#!/usr/bin/env bash
# Runs a RabbitMQ in the foreground that shares nothing with another node of the machine.
#
#   infra/native/rabbitmq.sh FOLDER
#
# FOLDER keeps its data and its cookie. From the environment: RABBITMQ_NODE_PORT, RABBITMQ_DIST_PORT and
# ERL_EPMD_PORT, its three ports on loopback; RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS, the account
# made at the first start.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

[ -x "$RABBITMQ" ] || die "RabbitMQ is not installed: run ./setup.sh"

mkdir -p "$1"
HOME=$(cd "$1" && pwd)
printf '[].\n' >"$HOME/enabled_plugins"

# The port mapper goes down with the broker, which takes this shell's place below.
await 10 port_free "$ERL_EPMD_PORT" || die "port $ERL_EPMD_PORT is taken (ERL_EPMD_PORT)"
setpriv --pdeathsig TERM epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
await 10 port_taken "$ERL_EPMD_PORT" || die "epmd does not answer on port $ERL_EPMD_PORT"

export HOME
export RABBITMQ_NODENAME=timers@localhost
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
export RABBITMQ_MNESIA_BASE=$HOME
export RABBITMQ_LOG_BASE=$HOME
export RABBITMQ_LOGS=-
export RABBITMQ_ENABLED_PLUGINS_FILE=$HOME/enabled_plugins
export RABBITMQ_CONFIG_FILE=$ROOT/infra/broker/rabbitmq.conf
export RABBITMQ_ADVANCED_CONFIG_FILE=$ROOT/infra/broker/advanced.config
# The script replaces itself with the broker, so that a signal reaches it at once.
export RUNNING_UNDER_SYSTEMD=true
exec "$RABBITMQ"
