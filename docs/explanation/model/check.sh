#!/usr/bin/env bash
# Checks timer.pml with spin, exhaustively: the whole model must pass, and with any one guard removed it must fail.
# Needs Debian's spin and a C compiler. Takes about half a minute.
set -euo pipefail

MODEL=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/timer.pml
GUARDS=(NO_CLAIM_CONDITION NO_CLAIM_VERSION NO_SETTLE_VERSION NO_TAKEOVER_VERSION NO_EDIT_VERSION NO_START_GUARD
  NO_LEASE NO_SKEW NO_REDRIVE NO_TAKEOVER ACK_FROM_MEMORY)

main() {
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  cd "$folder"
  local guard
  passes "whole, 2 faults" "" -DSAFETY -- -E
  passes "whole, 1 fault: nothing goes on for ever" -DFAULTS=1 -DNP -- -E -l
  for guard in "${GUARDS[@]}"; do fails "$guard"; done
}

# verify MODEL-FLAG C-FLAG -- PAN-FLAGS...: leaves pan's report in the file `report`
verify() {
  local model_flag=$1 c_flag=$2
  shift 3
  spin ${model_flag:+"$model_flag"} -a "$MODEL" >spin.log
  "${CC:-cc}" -w -O2 -DCOLLAPSE "$c_flag" -o pan pan.c
  ./pan -m100000 "$@" >report
  if grep -q 'max search depth too small\|out of memory' report; then
    give_up "the search was cut short and proves nothing"
  fi
}

passes() {
  local name=$1
  shift
  verify "$@"
  grep -q 'errors: 0' report || give_up "$name: $(grep -m1 'pan:1:' report)"
  say "$name" "passes"
}

fails() {
  verify "-D$1" -DSAFETY -- -E
  grep -q 'assertion violated' report || give_up "$1 was not noticed"
  say "$1" "$(grep -om1 'assertion violated.*' report)"
}

say() {
  local states
  states=$(awk '/states, stored/ { print $1 }' report)
  printf '%-42s %9s states  %s\n' "$1" "$states" "$2"
}

give_up() {
  echo "check.sh: $1" >&2
  exit 1
}

main
