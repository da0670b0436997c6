# The settings of this installation, kept in .env. Sourced, never run.
# shellcheck shell=bash

ENV_FILE=$ROOT/.env

# Ports: the api's is what users know, so it is 8000 unless they say otherwise. All others are inside
# matters: each is its software's usual port if that is free when .env is written, else the next free one.
# Once written a port stays, and one that is taken later is an error that names it.
write_settings() {
  (umask 077 && touch "$ENV_FILE")
  chmod 600 "$ENV_FILE"
  [ -s "$ENV_FILE" ] || start_env_file
  local name
  for name in "${!TIMERS_@}"; do
    keep_setting "$name" ''
  done
  keep_setting SETUP_STACK native
  keep_setting SETUP_CONSUMERS 2
  keep_setting TIMERS_API_PORT 8000
  keep_setting TIMERS_ALLOW_ADDRESSES public,private,loopback
  keep_setting TIMERS_ALLOW_HTTP true
  keep_setting TIMERS_ALLOW_AMQP "'*'"
  keep_setting TIMERS_TABLE_TRANSACTIONS true
  keep_setting TIMERS_API_KEY "$(random_key)"
  keep_setting TIMERS_SIGNING_SECRET "whsec_$(random_bytes 32 | base64 | tr -d '\n')"
  keep_setting TIMERS_ENCRYPTION_KEYS "k1:$(random_bytes 32 | base64 | tr -d '\n')"
  keep_setting TIMERS_CONSUMER_PORT "$(next_free_port 8100 100)"
  keep_setting DYNAMODB_PORT "$(next_free_port 4566)"
  keep_setting RABBITMQ_NODE_PORT "$(next_free_port 5672)"
  keep_setting RABBITMQ_DIST_PORT "$(next_free_port 25672)"
  keep_setting ERL_EPMD_PORT "$(next_free_port 4370)"
  keep_setting RABBITMQ_DEFAULT_USER timers
  keep_setting RABBITMQ_DEFAULT_PASS "$(random_password)"
  # shellcheck disable=SC2016 # .env's readers put the values in
  keep_setting TIMERS_RABBITMQ_URL \
    'amqp://${RABBITMQ_DEFAULT_USER}:${RABBITMQ_DEFAULT_PASS}@127.0.0.1:${RABBITMQ_NODE_PORT}/%2F'
  # shellcheck disable=SC2016
  keep_setting TIMERS_DYNAMODB_ENDPOINT 'http://127.0.0.1:${DYNAMODB_PORT}'
}

load_settings() {
  set -a
  # shellcheck disable=SC1090
  . "$ENV_FILE"
  set +a
}

# has_setting NAME
has_setting() { [ -e "$ENV_FILE" ] && grep -q "^$1=" "$ENV_FILE"; }

# keep_setting NAME DEFAULT: the environment's value if there is one, else what .env says, else the default.
keep_setting() {
  if [ -n "${!1:-}" ]; then
    write_setting "$1" "'${!1}'"
  elif ! has_setting "$1"; then
    write_setting "$1" "$2"
  fi
}

# write_setting NAME VALUE
write_setting() {
  grep -qxF "$1=$2" "$ENV_FILE" && return
  local rest
  rest=$(grep -v "^$1=" "$ENV_FILE" || true)
  printf '%s\n%s=%s\n' "$rest" "$1" "$2" >"$ENV_FILE"
}

start_env_file() {
  cat >"$ENV_FILE" <<'END'
# The settings of this installation. Written by ./setup.sh, yours to edit; run ./setup.sh to put a change
# into effect. Every TIMERS_… setting of the documentation can stand here.
END
}

# next_free_port PORT [STEP]
next_free_port() {
  local port=$1
  while port_taken "$port"; do
    port=$((port + ${2:-1}))
  done
  echo "$port"
}

random_bytes() { head -c "$1" /dev/urandom; }

random_password() { random_hex 16; }

# random_hex BYTES
random_hex() { random_bytes "$1" | od -An -tx1 | tr -d ' \n'; }

# An api key as timers/keys.py has it: its id, and 256 random bits.
random_key() { echo "timers_$(random_hex 8)_$(random_bytes 32 | base64 | tr '+/' '-_' | tr -d '=\n')"; }
