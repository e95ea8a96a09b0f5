#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turn a binary file into a C array of 32-bit words: embed.py INPUT OUTPUT SYMBOL"""
import sys

source, target, symbol = sys.argv[1:]
with open(source, 'rb') as file:
    data = file.read()
size = len(data)
data += b'\0' * (-size % 4)
words = [f'0x{int.from_bytes(data[i:i + 4], sys.byteorder):08x}' for i in range(0, len(data), 4)]
lines = [', '.join(words[i:i + 8]) for i in range(0, len(words), 8)]
with open(target, 'w', encoding='ascii') as file:
    file.write('#include <stddef.h>\n#include <stdint.h>\n\n')
    file.write(f'extern const uint32_t {symbol}[];\nextern const size_t {symbol}_size;\n\n')
    file.write(f'const uint32_t {symbol}[] = {{\n    ' + ',\n    '.join(lines) + ',\n};\n')
    file.write(f'const size_t {symbol}_size = {size};\n')
