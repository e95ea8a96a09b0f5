#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""readme_example.py README LIBRARY INCLUDE -- CC...: build and run the first C block of the README.

It must compile without a warning and end with status 0. Exit status 77 while there is no block."""
import os
import re
import subprocess
import sys
import tempfile

readme, library, include = sys.argv[1:4]
compiler = sys.argv[sys.argv.index("--") + 1:]
block = re.search(r"^```c\n(.*?)^```", open(readme, encoding="utf-8").read(), re.S | re.M) \
    if os.path.exists(readme) else None
if not block:
    print("the README has no C example yet")
    sys.exit(77)
with tempfile.TemporaryDirectory() as folder:
    source, program = os.path.join(folder, "example.c"), os.path.join(folder, "example")
    with open(source, "w", encoding="utf-8") as out:
        out.write(block.group(1))
    command = compiler + ["-std=c11", "-Wall", "-Wextra", "-Werror", "-I" + include, source,
                          "-o", program, library,
                          "-Wl,-rpath," + os.path.dirname(os.path.abspath(library))]
    print(" ".join(command), flush=True)
    status = subprocess.call(command) or subprocess.call([program])
sys.exit(1 if status else 0)
