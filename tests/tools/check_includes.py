#!/usr/bin/env python3
"""Does every #include in src/ follow the declared folder graph?

Usage: check_includes.py SRC FOLDERS

FOLDERS is what CMake wrote: one line "folder: dep;dep" each, lowest first. A file may include its own folder and
the DEPS that its folder declares, no others. Kernel folders (cpu/, cuda/) hold no torch header, and no file includes
torch beside spdlog or fmt: torch ships an fmt of its own. Nor all of torch: a file names the parts that it needs, as the
precompiled header does (cmake/Torch.cmake).
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".h", ".cpp", ".cuh", ".cu"}
KERNEL_FOLDERS = {"cpu", "cuda"}
TORCH = {"torch", "ATen", "c10"}
FORMATTERS = {"spdlog", "fmt"}


def read_graph(path):
    """{folder: set of its DEPS}; each must stand above the folder that names it."""
    graph = {}
    for line in path.read_text().splitlines():
        folder, _, deps = line.partition(":")
        graph[folder] = set(filter(None, deps.strip().split(";")))
        unknown = graph[folder] - set(graph)
        if unknown or folder in graph[folder]:
            raise SystemExit(f"{path}: {folder} depends on what is not above it: {sorted(unknown) or folder}")
    return graph


def includes_of(path):
    """(line number, is it quoted, path) of each #include."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match[1] == '"', match[2]


def faults_of(path, inner, graph):
    """Messages about one file; `inner` is its path below SRC."""
    folder = inner.parts[0]
    seen = set()
    for number, quoted, target in includes_of(path):
        first = target.split("/")[0]
        seen.add(first)
        where = f"{path}:{number}: "
        if quoted and "/" not in target:
            yield where + f'"{target}" lacks its folder'
        elif quoted and first not in graph:
            yield where + f'"{target}" is in no folder of src/'
        elif quoted and first != folder and first not in graph[folder]:
            yield where + f'{folder} may not include "{target}": {first} is not among its DEPS'
        if first in TORCH and KERNEL_FOLDERS & set(inner.parts[:-1]):
            yield where + "a kernel folder knows no torch"
        elif target == "torch/torch.h":
            yield where + "name the parts of torch that are used, such as <torch/types.h>"
    if seen & TORCH and seen & FORMATTERS:
        yield f"{path}: includes torch beside {' and '.join(sorted(seen & FORMATTERS))}"


def check(src, folders):
    graph = read_graph(folders)
    faults = []
    files = sorted(path for path in src.rglob("*") if path.suffix in SUFFIXES)
    for path in files:
        inner = path.relative_to(src)
        if len(inner.parts) < 2 or inner.parts[0] not in graph:
            faults.append(f"{path}: in no folder that CMake knows")
        else:
            faults += faults_of(path, inner, graph)
    if not files:
        faults.append(f"{src}: no source file")
    return faults


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    faults = check(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
