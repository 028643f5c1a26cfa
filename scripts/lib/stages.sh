# Stages of a test run: each is timed, keeps its output in a log, and adds to the counts. Sourced by bash.
#   stage NAME COMMAND...        one check: passes if the command succeeds
#   ctest_stage NAME CTEST-ARGUMENTS...   every CTest entry counts
#   finish                       prints the failures and the closing line; returns 1 if anything failed
stage_logs=${stage_logs:-build/logs}
stage_passed=0
stage_failed=0
stage_skipped=0
stage_failures=()
stage_selection=()  # names or prefixes; empty: all
mkdir -p "$stage_logs"

stage_selected() {
  ((${#stage_selection[@]})) || return 0
  local wanted
  for wanted in "${stage_selection[@]}"; do
    [[ $1 == "$wanted" || $1 == "$wanted"-* ]] && return 0
  done
  return 1
}

stage_line() {  # name seconds text
  printf '%-34s %6.1f s  %s\n' "$1" "$2" "$3"
}

stage() {
  local name=$1
  shift
  stage_selected "$name" || return 0
  local log=$stage_logs/$name.log begin=$EPOCHREALTIME status=0
  "$@" >"$log" 2>&1 || status=$?
  local seconds
  seconds=$(awk "BEGIN { print $EPOCHREALTIME - $begin }")
  if ((status == 0)); then
    stage_passed=$((stage_passed + 1))
    stage_line "$name" "$seconds" ok
    return 0
  fi
  stage_failed=$((stage_failed + 1))
  stage_failures+=("$name")
  stage_line "$name" "$seconds" "FAILED (status $status), log $log ends:"
  tail -n 40 "$log" | sed 's/^/    /'
  return 0
}

ctest_stage() {
  local name=$1 folder=$2
  shift 2
  stage_selected "$name" || return 0
  local log=$stage_logs/$name.log report begin=$EPOCHREALTIME status=0
  report=$(realpath "$stage_logs")/$name.xml
  rm -f "$report"
  ctest --test-dir "$folder" --output-on-failure --no-tests=error --output-junit "$report" "$@" >"$log" 2>&1 ||
    status=$?
  local seconds counts passed failed skipped
  seconds=$(awk "BEGIN { print $EPOCHREALTIME - $begin }")
  # "passed failed skipped", then one line a skip, from the report.
  counts=$(python3 scripts/lib/count_tests.py "$report" 2>>"$log") || counts="0 1 0"
  read -r passed failed skipped <<<"${counts%%$'\n'*}"
  ((status == 0 || failed > 0)) || failed=1  # ctest itself failed
  stage_passed=$((stage_passed + passed))
  stage_failed=$((stage_failed + failed))
  stage_skipped=$((stage_skipped + skipped))
  stage_line "$name" "$seconds" "$passed passed, $failed failed, $skipped skipped"
  tail -n +2 <<<"$counts" | sed 's/^/    /'
  if ((failed > 0)); then
    stage_failures+=("$name")
    # sed prints 120 lines and reads on: a reader that stops early would end this script by SIGPIPE.
    grep -E -A 25 '\*\*\*(Failed|Timeout|Exception)|Errors while|\*\*\*Not Run' "$log" |
      sed -n '1,120s/^/    /p' || true
    echo "    (whole log: $log)"
  fi
  return 0
}

finish() {
  if ((${#stage_failures[@]})); then echo "failed stages: ${stage_failures[*]}"; fi
  if ((stage_passed + stage_failed + stage_skipped == 0)); then echo "no stage of that name; see scripts/test --list"; fi
  local closing="$stage_passed passed, $stage_failed failed"
  if ((stage_skipped)); then closing+=", $stage_skipped skipped"; fi
  echo "$closing"
  ((stage_failed == 0 && stage_passed > 0))
}
