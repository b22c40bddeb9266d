#!/usr/bin/env python3
"""check_includes.py finds each fault it is there for, and nothing in a sound tree."""

import pathlib
import tempfile
import unittest

from check_includes import check

GRAPH = "base: \ntensor: base\nattention: base;tensor\n"


class CheckIncludes(unittest.TestCase):
    def faults(self, files, graph=GRAPH):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "folders.txt").write_text(graph)
            for name, text in files.items():
                path = root / "src" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(root / "src", root / "folders.txt")

    def expect_fault(self, part, name, text):
        faults = self.faults({name: text})
        self.assertEqual(len(faults), 1, faults)
        self.assertIn(part, faults[0])

    def test_a_sound_tree(self):
        files = {
            "base/error.h": "#include <string>\n",
            "attention/sparse.cpp": '#include "attention/sparse.h"\n#include <torch/types.h>\n#include "base/error.h"\n',
            "attention/cpu/dense.cpp": '#include "attention/cpu/params.h"\n#include <cmath>\n',
        }
        self.assertEqual(self.faults(files), [])

    def test_a_folder_above(self):
        self.expect_fault("tensor is not among", "base/error.cpp", '#include "tensor/convert.h"\n')

    def test_an_indented_include(self):
        self.expect_fault("may not include", "tensor/a.cpp", '  #  include "attention/a.h"\n')

    def test_a_dependency_not_declared(self):
        faults = self.faults({"nn/a.cpp": '#include "base/error.h"\n'}, "base: \ntensor: base\nnn: tensor\n")
        self.assertEqual(len(faults), 1)

    def test_paths(self):
        self.expect_fault("lacks its folder", "base/file.cpp", '#include "file.h"\n')
        self.expect_fault("in no folder of src", "base/file.cpp", '#include "utils/file.h"\n')
        self.expect_fault("that CMake knows", "utils/file.cpp", "")

    def test_torch(self):
        for header in ("torch/types.h", "ATen/Parallel.h", "c10/util/BFloat16.h"):
            self.expect_fault("knows no torch", "attention/cuda/decode.cu", f"#include <{header}>\n")
        self.expect_fault("beside spdlog", "tensor/a.cpp", "#include <torch/types.h>\n#include <spdlog/spdlog.h>\n")

    def test_all_of_torch(self):
        self.expect_fault("name the parts", "tensor/a.cpp", "#include <torch/torch.h>\n")

    def test_a_graph_out_of_order(self):
        with self.assertRaisesRegex(SystemExit, "not above"):
            self.faults({}, "tensor: base\nbase: \n")

    def test_no_files(self):
        self.assertEqual(len(self.faults({})), 1)


if __name__ == "__main__":
    unittest.main()
