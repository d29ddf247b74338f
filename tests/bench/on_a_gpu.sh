#!/usr/bin/env bash
# All that has to be run where there is a GPU, in steps that each end within ten minutes.
#
#   bash tests/bench/on_a_gpu.sh FOLDER [STEP ...]
#
# Steps, in order: tests, stress, bench, tune, sanitizer, profile; all of them unless some are named. What they print
# and measure lies in FOLDER: a text for each step, cuda_*.json of the benchmark, ncu_*.csv of the profiler. A step that
# went well is not run again unless its text is deleted, nor is a row profiled whose file is there. LIMIT=seconds ends
# each step (default 570).
set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:?folder for results}" && cd "$1" && pwd)
shift
python=${PYTHON:-python3}
limit=${LIMIT:-570}
export PYTHONUNBUFFERED=1
processes=$(($(nproc) < 8 ? $(nproc) : 8)) # kernels are compiled on the host, which takes longer than the tests
failed=0

tests() {
    $python -m pytest -m "cuda and not slow" tests/crossbar -q -p no:cacheprovider -n "$processes" --maxfail 20
}

stress() {
    $python -m pytest -m "cuda and slow" tests/crossbar -q -p no:cacheprovider -n "$processes" --maxfail 5 --durations 5
}

bench() {
    $python tests/bench/bench_cuda.py --out "$out"
}

tune() {
    $python tests/bench/bench_cuda.py --tune --out "$out"
}

sanitizer() { # memory of its own for each tensor, so that the next one's is not taken for it
    local tool status=0
    for tool in memcheck racecheck; do
        echo "== $tool"
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $tool --error-exitcode 1 \
            $python -m pytest tests/crossbar/test_crossbar_gpu{,_product}.py -m cuda -q -p no:cacheprovider \
            -k "(TestKernels and sinh and usual) or (test_options and analog)" || status=1
    done
    return $status
}

profile() {
    local row kernel status=0
    local sections="--section SpeedOfLight --section LaunchStats --section Occupancy --section WarpStateStats \
        --section MemoryWorkloadAnalysis --section SchedulerStats"
    for row in c64:resident c128:blocked fused:tiled lines:swept lines16:first; do
        kernel=${row#*:} row=${row%:*}
        echo "== $row"
        grep -qs '"ID"' "$out/ncu_$row.csv" && continue # from a run that was stopped
        # shellcheck disable=SC2086
        timeout $((limit / 4)) ncu $sections --clock-control none -k "regex:^$kernel" -c 2 --kill yes --csv \
            --page details --log-file "$out/ncu_$row.csv" $python tests/bench/bench_cuda.py --rows "$row"
        # `--kill` ends the program as soon as its kernels are profiled
        grep -q '"ID"' "$out/ncu_$row.csv" || status=1
    done
    return $status
}

for step in "${@:-tests stress bench tune sanitizer profile}"; do
    for name in $step; do
        text="$out/$name.txt"
        if [ -f "$text" ] && tail -n 1 "$text" | grep -q '^done: exit 0'; then
            echo "$name: $(tail -n 1 "$text")"
            continue
        fi
        if ! declare -F "$name" >/dev/null; then
            echo "no such step: $name; there are tests, stress, bench, tune, sanitizer, profile" >&2
            exit 1
        fi
        export -f "$name"
        export python limit out processes
        timeout --kill-after 10 "$limit" bash -c "$name" 2>&1 | tee "$text"
        status=${PIPESTATUS[0]}
        if [ "$status" = 124 ] || [ "$status" = 137 ]; then
            echo "$name: stopped after $limit s; the same command goes on" | tee -a "$text"
            failed=1
        else
            echo "done: exit $status on $(date -u +%F)" | tee -a "$text"
            [ "$status" = 0 ] || failed=1
        fi
    done
done
exit $failed
