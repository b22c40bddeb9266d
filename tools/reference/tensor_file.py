"""Reads and writes safetensors files, so that nothing but numpy is needed.

The form: 8 bytes header length (little endian), a JSON header that names dtype, shape and byte
range of every tensor, then the bytes. BF16 is read as float32.
"""

import json

import numpy

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
    "BOOL": "?",
}


def read_tensors(path):
    """{name: array} of one file."""
    with open(path, "rb") as file:
        data = file.read()
    header_length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_length])
    body = data[8 + header_length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            halves = numpy.frombuffer(body[begin:end], dtype="<u2").astype(numpy.uint32)
            array = (halves << 16).view(numpy.float32)
        else:
            array = numpy.frombuffer(body[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def write_tensors(path, tensors):
    """Writes {name: array}, names sorted."""
    names = {numpy.dtype(code): name for name, code in DTYPES.items()}
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        array = numpy.ascontiguousarray(tensors[name])
        raw = array.tobytes()
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the bytes start aligned
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + body)
