#!/usr/bin/env bash
# Brings the timer service up on this machine. Run it again at any time: nothing is lost.
#
#   ./setup.sh                   start it: in Docker if an engine with Compose answers, else natively (Debian, Ubuntu)
#   ./setup.sh --docker          start it in Docker; the choice is remembered
#   ./setup.sh --native          start it natively; the choice is remembered
#   ./setup.sh --consumers N     start it, or go on, with N consumers; the number is remembered
#   ./setup.sh --status          show what runs
#   ./setup.sh --down            stop it; natively every timer is kept, LocalStack's free edition keeps none
#   ./setup.sh --reset [--yes]   stop it and delete every timer, after asking (or without, with --yes)
#   ./setup.sh key COMMAND …     create, list, revoke or rotate api keys; key --help shows how
#   ./setup.sh secret COMMAND …  create, list or retire signing secrets of tenants; secret --help shows how
#   ./setup.sh test [ARG …]      check the code and run the tests; the arguments go to pytest
#   ./setup.sh audit             look for known weaknesses of the locked packages, where that can be asked
#   ./setup.sh bench [ARG …]     measure it, natively; bench --help shows what there is
#   ./setup.sh --help            show this
#
# Settings, ports among them, are kept in .env; what is set in the environment is taken and kept there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. infra/setup/common.sh
. infra/setup/settings.sh
. infra/setup/install.sh
. infra/setup/native.sh
. infra/setup/compose.sh
. infra/setup/checks.sh
. infra/setup/bench.sh

main() {
  local action=up yes=
  while [ $# -gt 0 ]; do
    case $1 in
      key | secret)
        action=$1
        shift
        on_stack "$action" "$@"
        return
        ;;
      test)
        shift
        run_checks "$@"
        return
        ;;
      audit)
        run_audit
        return
        ;;
      bench)
        shift
        run_bench "$@"
        return
        ;;
      --docker | --native) SETUP_STACK=${1#--} ;;
      --consumers)
        SETUP_CONSUMERS=$(consumer_count "${2:-}")
        shift
        ;;
      --status | --down | --reset) action=${1#--} ;;
      --yes) yes=yes ;;
      --help | -h)
        usage
        return
        ;;
      *) die "unknown option $1; ./setup.sh --help shows what there is" ;;
    esac
    shift
  done
  "$action" "$yes"
}

up() {
  SETUP_STACK=$(choose_stack)
  write_settings
  load_settings
  say "Starting the timer service ($(stack_title)) …"
  "${SETUP_STACK}_up"
  show_next_steps
}

down() {
  on_stack down
  say "Stopped. $("${SETUP_STACK}_kept") ./setup.sh starts it again."
}

status() { on_stack status; }

# reset YES
reset() {
  local answer=$1
  [ -n "$answer" ] || read -r -p "Delete every timer of this installation? Type yes: " answer || true
  [ "$answer" = yes ] || die "nothing was deleted"
  on_stack down
  on_stack erase
  say "Every timer is deleted. ./setup.sh starts afresh."
}

# on_stack VERB [ARG…]: do it to the stack that was started here.
on_stack() {
  has_setting SETUP_STACK || die "nothing was started here yet: run ./setup.sh"
  load_settings
  "${SETUP_STACK}_$1" "${@:2}"
}

choose_stack() {
  if [ -n "${SETUP_STACK:-}" ]; then
    echo "$SETUP_STACK"
  elif has_setting SETUP_STACK; then
    (load_settings && echo "$SETUP_STACK")
  elif docker_answers; then
    echo docker
  else
    echo native
  fi
}

stack_title() { if [ "$SETUP_STACK" = docker ]; then echo 'in Docker'; else echo natively; fi; }

# consumer_count TEXT
consumer_count() {
  [[ $1 =~ ^[1-9][0-9]?$ ]] || die "--consumers takes a number from 1 to 99, not '$1'"
  echo "$1"
}

# check_port PORT SETTING
check_port() { port_free "$1" || die "port $1 is taken: set $2 in .env to a free one"; }

show_next_steps() {
  local url=http://127.0.0.1:$TIMERS_API_PORT
  local id
  id=hello-$(date +%s)
  cat <<END

The timer service is up: $url (documentation at $url/docs)

Schedule a call, look at it, and cancel it, with the api key of .env:

  auth="authorization: Bearer \$(. $(printf %q "$PWD/.env") && echo \$TIMERS_API_KEY)"
  curl -s $url/v1/timers -H "\$auth" -H 'content-type: application/json' \\
       -d '{"id": "$id", "delay": 3600, "target": {"url": "https://example.com/hook", "body": {"order": 42}}}'
  curl -s $url/v1/timers/$id -H "\$auth"
  curl -s -X DELETE $url/v1/timers/$id -H "\$auth"

Logs: $("${SETUP_STACK}_logs")
END
  show_reach
}

# What one's own machine needs and a service for others must not have is said, not hidden.
show_reach() {
  case ,${TIMERS_ALLOW_ADDRESSES// /}, in
    *,private,* | *,loopback,*)
      say "Calls may reach loopback and private addresses here. Before others may schedule timers, put"
      say "TIMERS_ALLOW_ADDRESSES=public and TIMERS_ALLOW_HTTP=false into .env and run ./setup.sh."
      ;;
  esac
  if [ -n "${TIMERS_ALLOW_AMQP:-}" ]; then
    say "Timers may put messages into this broker's queues (TIMERS_ALLOW_AMQP=$TIMERS_ALLOW_AMQP)."
  fi
  say "Calls are signed with TIMERS_SIGNING_SECRET of .env: docs/how-to/verify-signatures.md."
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' setup.sh; }

main "$@"
