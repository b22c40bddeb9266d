"""Writes tests/golden/safetensors/every_type.{safetensors,json} with the official Python library.

The JSON file says what the other holds: name -> dtype, shape, bytes in hexadecimal, and the header's metadata.
Needs: pip install safetensors==0.8.0 numpy
"""

import json
import pathlib

import numpy
import safetensors

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/safetensors"

NUMPY_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}
LIBRARY_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}


def main():
    rng = numpy.random.default_rng(0)
    tensors, expected, arrays = {}, {}, []
    shapes = [[2, 3], [5], [], [1, 0, 4], [3, 1, 2]]
    for i, (dtype, code) in enumerate(NUMPY_TYPES.items()):
        shape = shapes[i % len(shapes)]
        data = (rng.integers(0, 100, shape) % (2 if dtype == "BOOL" else 100)).astype(code).tobytes()
        name = f"layer.{i}.{dtype.lower()}"
        arrays.append(numpy.frombuffer(data, "u1"))  # the specs point into these
        tensors[name] = safetensors.TensorSpec(
            dtype=LIBRARY_NAMES[dtype], shape=shape, data_ptr=arrays[-1].ctypes.data, data_len=len(data))
        expected[name] = {"dtype": dtype, "shape": shape, "bytes": data.hex()}
    metadata = {"format": "pt", "note": "a \"quoted\" word, ümlaut"}
    FOLDER.mkdir(parents=True, exist_ok=True)
    safetensors.serialize_file(tensors, str(FOLDER / "every_type.safetensors"), metadata)
    content = {"made_with": f"safetensors {safetensors.__version__}", "metadata": metadata, "tensors": expected}
    (FOLDER / "every_type.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
