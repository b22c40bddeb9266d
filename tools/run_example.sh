#!/usr/bin/env bash
# What `make run` shows: a question about a document of some 4,900 tokens, answered by unfolding a tenth of it, the passages
# that were opened, and the same question under full attention by the untouched base. Tell it another with QUESTION=...
set -euo pipefail
cd "$(dirname "$0")/.."
document=examples/expedition_log.txt
question=${QUESTION:-"How much was the expedition granted?"}
dtype=f32
! grep -qs avx512_bf16 /proc/cpuinfo || dtype=bf16
echo "$document: $question" >&2
build/ssa ask "$document" -m .models/SmolLM2-135M-Instruct.Q4_1.gguf --adapter models/smollm2-135m-gist \
  --weights int8 --dtype "$dtype" -q "$question" -n 48 --passages 5 --compare-full
