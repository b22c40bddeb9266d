#!/usr/bin/env bash
# The long checks, behind `make test`. tools/check.sh [STEP...]: format headers sanitizers fuzz oracles training (all of them)
#
#   SSA_FUZZ_SECONDS=20   for each fuzz target
#   SSA_CHECK_TSAN=1      the sanitizer step runs ThreadSanitizer, too
#
# Every step runs, whatever the others say; the exit status is 1 if any of them fails.
set -uo pipefail
cd "$(dirname "$0")/.."
tools/install_packages.sh tools/packages-check.txt || exit 1

export OMP_WAIT_POLICY=passive  # see tests/CMakeLists.txt
# GCC 13 aligns frames of this check to 32 bytes, and then stores AVX-512 registers as if it were 64 (its bug 110027).
export ASAN_OPTIONS=detect_stack_use_after_return=0
torchless=(base tokenizer checkpoint gist data selection_cpu attention_cpu nn_cpu)
failed=()

# run NAME COMMAND...: notes a failure and goes on.
run() {
  local name=$1
  shift
  printf '== %s\n' "$name" >&2
  "$@" || failed+=("$name")
}

build() { nice cmake --preset "$1" >/dev/null && nice cmake --build --preset "$1" --target "${@:2}"; }

check_format() { run format make --no-print-directory format-check; }

check_headers() { run headers build headers headers; }

# Runs the unit tests of some folders under a preset.
test_preset() {
  local preset=$1 folders=("${@:2}")
  build "$preset" "${folders[@]/%/_test}" || return
  local IFS='|'
  ctest --test-dir "build/$preset" --output-on-failure --parallel 2 --no-tests=error -R "^(${folders[*]})$"
}

check_sanitizers() {
  run "AddressSanitizer, UndefinedBehaviorSanitizer" test_preset asan "${torchless[@]}" selection
  [ -z "${SSA_CHECK_TSAN:-}" ] || run ThreadSanitizer test_preset tsan "${torchless[@]}"
}

fuzz() {
  local program=$1 name dictionary corpus log seeds
  name=$(basename "$program" _fuzz)
  case $name in
    hf_config) seeds=tests/golden/models ;;
    template) seeds=tests/golden/chat_templates ;;
    *) seeds=tests/golden/$name ;;
  esac
  dictionary=tests/fuzz/$name.dict corpus=build/fuzz/corpus/$name log=build/fuzz/$name.log
  mkdir -p "$corpus"
  local flags=(-max_total_time="${SSA_FUZZ_SECONDS:-20}" -max_len=20000 -timeout=20 -rss_limit_mb=3000)
  [ ! -e "$dictionary" ] || flags+=(-dict="$dictionary")
  if ! nice "$program" "${flags[@]}" -artifact_prefix="build/fuzz/$name-" "$corpus" "$seeds" >"$log" 2>&1; then
    tail -40 "$log" >&2
    return 1
  fi
  grep 'DONE' "$log" >&2  # with the number of inputs, and of edges they reached
}

check_fuzz() {
  run "fuzz build" build fuzz all
  local program
  for program in build/fuzz/tests/fuzz/*_fuzz; do
    run "$(basename "$program")" fuzz "$program"
  done
}

make_oracles() {
  local mark
  mark=.venv-oracle/made-$(sha256sum tools/requirements.txt | cut -c1-16)
  [ ! -e "$mark" ] || return 0
  echo "setup: oracles into .venv-oracle" >&2
  python3 -m venv .venv-oracle &&
    .venv-oracle/bin/pip install -q --disable-pip-version-check -r tools/requirements.txt && touch "$mark"
}

check_oracles() {
  make_oracles || { failed+=(oracles); return; }
  make --no-print-directory model || { failed+=(model); return; }
  local python=$PWD/.venv-oracle/bin/python ssa=$PWD/build/ssa model=.models/SmolLM2-135M-Instruct.Q4_1.gguf
  run "reference: its own tests" env -C tools/reference "$python" -m unittest -q test_reference test_model
  run "questions: their own tests" env -C tools "$python" -m unittest -q questions.test_questions
  run "reference: layout" "$python" tools/reference/compare_layout.py --program "$ssa" --cases 1000
  run "reference: logits" "$python" tools/reference/compare_logits.py --program "$ssa" --cases 60
  run "reference: logits in f64" "$python" tools/reference/compare_logits.py --program "$ssa" --cases 60 --dtype f64
  run "reference: block-sparse" "$python" tools/reference/compare_sparse.py --program "$ssa" --cases 60
  run "reference: block-sparse in f64" "$python" tools/reference/compare_sparse.py --program "$ssa" --cases 60 --dtype f64
  run "tokenizers" "$python" tools/compare_tokenizers.py --program "$ssa" --megabytes 2 --gguf "$model"
  run "round trips" "$python" tools/check_roundtrip.py "$ssa"
  run "transformers" "$python" tools/compare_transformers.py "$ssa" --gguf "$model" --parts logits,greedy
  run "peft" "$python" tools/compare_peft.py "$ssa" --gguf "$model"
}

# Ten training steps beside a loop in plain PyTorch, on the example document.
check_training() {
  make_oracles || { failed+=(oracles); return; }
  make --no-print-directory model || { failed+=(model); return; }
  local ssa=$PWD/build/ssa folder
  folder=$(mktemp -d)
  "$ssa" gistify .models/SmolLM2-135M-Instruct.Q4_1.gguf "$folder/model" &&
    "$ssa" data build "$folder/model" --input examples/expedition_log.txt --out "$folder/data" &&
    run "ten steps" .venv-oracle/bin/python tools/training/compare_training.py --ssa "$ssa" --tokenizer "$folder/model" \
      --dataset "$folder/data" --cpt 1 || failed+=("training's data")
  rm -rf "$folder"
  run "kills" env SSA_TEST_KILLS=50 python3 tests/training/train_program_test.py "$ssa" tests/golden TrainTest.test_survives_kills
}

for step in "${@:-format headers sanitizers fuzz oracles training}"; do
  for name in $step; do
    "check_$name"
  done
done
if [ "${#failed[@]}" -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
echo "all checks passed" >&2
