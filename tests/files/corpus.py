#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the first inputs of the fuzz targets into the folders npy and safetensors beside this file."""
import json
import pathlib
import struct

here = pathlib.Path(__file__).parent


def npy(name, header, data=b"", version=1, length=None):
    text = header.encode()
    form = "<H" if version == 1 else "<I"
    size = struct.pack(form, len(text) if length is None else length)
    folder = here / "npy"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + text + data)


def safetensors(name, header, data=b"", length=None):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    size = struct.pack("<Q", len(text) if length is None else length)
    folder = here / "safetensors"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(size + text + data)


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


npy("f16", "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1, 4), }     \n", bytes(16))
npy("f32-v2", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", bytes(8), 2)
npy("bf16-v3", "{'descr': '|V2', 'fortran_order': False, 'shape': (1, 2, 3, 4)}\n", bytes(48), 3)
npy("u2", '{"shape": (3L, 2L), "fortran_order": False, "descr": "<u2"}', bytes(12))
npy("scalar", "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4))
npy("fortran", "{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", bytes(4))
npy("big-endian", "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", bytes(4))
npy("records", "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4))
npy("overflow", "{'descr': '<f2', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2)}")
npy("long", "{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999999999,)}")
npy("axes", "{'descr': '<f2', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", bytes(2))
npy("twice", "{'descr': '<f2', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(2))
npy("claims", "{'descr': '<f2'", length=65535)
npy("claims-v2", "{'descr': '<f2'", version=2, length=0xFFFFFFFF)

one = {"q": entry("F16", [2, 1, 4], 0, 16)}
three = {"__metadata__": {"format": "pt"}, "q": entry("BF16", [1, 2], 0, 4),
         "k": entry("U16", [1, 2], 4, 8), "": entry("F32", [1], 8, 12)}
safetensors("one", one, bytes(16))
safetensors("three", json.dumps(three) + "   ", bytes(12))
safetensors("metadata", {"__metadata__": {"format": "longer than the room"}, **one}, bytes(16))
safetensors("metadata-array", {"__metadata__": ["format", {}], **one}, bytes(16))
safetensors("scalar", {"q": entry("F32", [], 0, 4)}, bytes(4))
safetensors("empty", {})
safetensors("f8", {"k": entry("F8_E4M3", [4], 0, 4), "q": entry("F16", [1], 4, 6)}, bytes(6))
safetensors("overlap", {"k": entry("F16", [2], 0, 4), "q": entry("F16", [2], 2, 6)}, bytes(6))
safetensors("gap", {"k": entry("F16", [2], 0, 4), "q": entry("F16", [2], 6, 10)}, bytes(10))
safetensors("outside", {"q": entry("F16", [2], 0, 4)}, bytes(2))
safetensors("backwards", {"q": entry("F16", [2], 4, 0)}, bytes(4))
safetensors("overflow", {"q": entry("F16", [2 ** 40, 2 ** 40], 0, 4)}, bytes(4))
safetensors("negative", {"q": entry("F16", [-1, -2], 0, 4)}, bytes(4))
safetensors("fraction", {"q": entry("F16", [1.5], 0, 3)}, bytes(3))
safetensors("twice", '{"q":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},'
            '"q":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}', bytes(4))
safetensors("deep", '{"q":' + "[" * 40 + "]" * 40 + "}")
safetensors("strings", '{"\\u0000\\ud83d\\ude00\\"[{":{}}')
safetensors("claims", "{}", length=2 ** 63)
