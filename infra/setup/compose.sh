# The stack in containers, by docker-compose.yml. Sourced, never run.
# shellcheck shell=bash

docker_answers() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

docker_up() {
  docker_answers || die "no Docker engine with Compose answers: start it, or use ./setup.sh --native"
  [ -n "$(compose ps --quiet api)" ] || check_port "$TIMERS_API_PORT" TIMERS_API_PORT
  compose up --detach --build --remove-orphans
  await 120 answers "$TIMERS_API_PORT" /readyz || {
    compose logs --tail 20 >&2
    die "the api is not ready; the end of the logs is above"
  }
}

docker_down() { compose down; }

docker_status() { compose ps --all; }

docker_key() { compose exec --no-TTY api python -m infra.keys "$@"; }
docker_secret() { compose exec --no-TTY api python -m infra.secret "$@"; }

docker_erase() { compose down --volumes; }

docker_kept() { say "LocalStack's free edition has lost its timers (see docker-compose.yml)."; }

docker_logs() { say "docker compose logs --follow"; }

compose() { docker compose --project-directory "$ROOT" "$@"; }
