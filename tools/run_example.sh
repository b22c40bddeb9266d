#!/usr/bin/env bash
# What `make run` shows: a question about a document of some 4,900 tokens. Tell it another with QUESTION=...
set -euo pipefail
cd "$(dirname "$0")/.."
model=.models/SmolLM2-135M-Instruct.Q4_1.gguf
document=examples/expedition_log.txt
question=${QUESTION:-"What name did the cook give to the cat?"}
echo "$document: $question" >&2
build/ssa ask "$document" -m "$model" -q "$question" -n 64
