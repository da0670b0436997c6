# Measures the native stack, and its peers beside it. Sourced, never run.
# shellcheck shell=bash

BENCH_VENV=$ROOT/.venv-bench

# run_bench ARGS...
run_bench() {
  case " $* " in
    *' --help '* | *' -h '* | *' --publish '*) install_python "$VENV" native ;;
    *) start_to_measure ;;
  esac
  [[ " $*" != *' --peers'* ]] || install_peers
  cd "$ROOT" || exit
  exec "$PYTHON" -m bench "$@"
}

start_to_measure() {
  ! has_setting SETUP_STACK || [ "$(choose_stack)" = native ] ||
    die "the stack is in Docker: the benchmark reads the CPU time of native processes (./setup.sh --down, then --native)"
  SETUP_STACK=native write_settings
  # The settings stay in there: what the benchmark starts besides has its own.
  (load_settings && native_up) || exit
}

install_peers() {
  if ! command -v redis-server >/dev/null; then
    apt_install redis-server
    run_quietly update-rc.d redis-server disable
  fi
  install_python "$BENCH_VENV" bench
  local folder=$ROOT/bench
  cmp --silent "$folder/package-lock.json" "$folder/node_modules/installed.json" && return
  say "Installing BullMQ …"
  PATH=$BENCH_VENV/bin:$PATH npm_install "$folder"
  cp "$folder/package-lock.json" "$folder/node_modules/installed.json"
}
