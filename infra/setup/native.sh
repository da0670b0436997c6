# The stack as processes of this machine, under supervisord. Sourced, never run.
# shellcheck shell=bash

SUPERVISOR_CONF=$DATA/supervisord.conf
SUPERVISOR_SOCKET=$DATA/supervisor.sock # gone when all has stopped
LOGS=$DATA/log

native_up() {
  supervised || check_ports
  install_native
  mkdir -p "$LOGS"
  if supervised && changed platform; then
    say "The settings have changed: stopping what runs …"
    native_down
  fi
  if supervised; then
    render_supervisor_conf
    control update >/dev/null
  else
    render_supervisor_conf
    "$PYTHON" -m supervisor.supervisord --configuration "$SUPERVISOR_CONF"
  fi
  "$PYTHON" -m infra.provision >"$LOGS/provision.log" 2>&1 || fail_with_log provision
  start_services
  record platform
  record code
}

native_down() {
  supervised || return 0
  control shutdown >/dev/null
  await $(($(stop_wait) + 60)) test ! -e "$SUPERVISOR_SOCKET" || die "supervisord does not stop; its log is $LOGS/supervisord.log"
}

native_status() {
  supervised || die "not running"
  control status
}

native_key() { "$PYTHON" -m infra.keys "$@"; }
native_secret() { "$PYTHON" -m infra.secret "$@"; }

native_erase() { rm -rf "$DATA"; }

native_kept() { say "Every timer is kept."; }

native_logs() { say "$LOGS/"; }

start_services() {
  local services
  services=$(service_names)
  if changed code; then
    # shellcheck disable=SC2086 # one word each
    control restart $services >/dev/null
  else
    # shellcheck disable=SC2086
    control start $services >/dev/null
  fi
  local number
  await 60 answers "$TIMERS_API_PORT" /readyz || fail_with_log api
  for number in $(seq "$SETUP_CONSUMERS"); do
    await 60 consumer_ready "$number" || fail_with_log "consumer-$number"
  done
}

consumer_ready() {
  [ "$TIMERS_CONSUMER_PORT" -eq 0 ] || answers $((TIMERS_CONSUMER_PORT + $1 - 1)) /readyz
}

# fail_with_log NAME
fail_with_log() {
  tail -n 20 "$LOGS/$1.log" >&2
  die "$1 is not ready; the end of $LOGS/$1.log is above"
}

check_ports() {
  local name number
  for name in TIMERS_API_PORT DYNAMODB_PORT RABBITMQ_NODE_PORT RABBITMQ_DIST_PORT ERL_EPMD_PORT; do
    check_port "${!name}" "$name"
  done
  [ "$TIMERS_CONSUMER_PORT" -eq 0 ] && return
  for number in $(seq "$SETUP_CONSUMERS"); do
    check_port $((TIMERS_CONSUMER_PORT + number - 1)) TIMERS_CONSUMER_PORT
  done
}

supervised() { [ -S "$SUPERVISOR_SOCKET" ] && control pid >/dev/null 2>&1; }

control() { "$PYTHON" -m supervisor.supervisorctl --configuration "$SUPERVISOR_CONF" "$@"; }

service_names() {
  echo api
  seq --format 'consumer-%g' "$SETUP_CONSUMERS"
}

# Longer than a service takes at most to finish what is in flight.
stop_wait() {
  local timeout=${TIMERS_STOP_TIMEOUT:-30}
  echo $((${timeout%.*} + 10))
}

render_supervisor_conf() {
  local name
  {
    cat "$ROOT/infra/native/supervisord.conf"
    for name in $(service_names); do
      sed -e "s|@NAME@|$name|" -e "s|@COMMAND@|${name/-/ }|" -e "s|@STOP_WAIT@|$(stop_wait)|" \
        "$ROOT/infra/native/service.conf"
    done
  } | sed -e "s|@ROOT@|$ROOT|" -e "s|@DATA@|$DATA|" -e "s|@USER@|$(id -un)|" >"$SUPERVISOR_CONF"
}

# changed WHAT: since it was recorded. The platform is the broker and the table server with all settings;
# the code is the api's and the consumers'. Only what has changed is started again.
changed() { [ "$(fingerprint "$1")" != "$(cat "$DATA/$1.fingerprint" 2>/dev/null)" ]; }
record() { fingerprint "$1" >"$DATA/$1.fingerprint"; }

fingerprint() (
  cd "$ROOT" || exit
  case $1 in
    platform) grep -v '^SETUP_CONSUMERS=' .env | cat - infra/broker/* infra/native/*.{conf,json,sh} ;;
    code) find timers api consumer infra -name '*.py' -print0 | sort -z | xargs -0 cat requirements/native.lock ;;
  esac | sha256sum
)
