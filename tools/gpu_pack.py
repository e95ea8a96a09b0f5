#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Copy out of a finished build what tools/gpu-check needs of it, for a machine that cannot build.

    gpu_pack.py BUILD FOLDER
    gpu_pack.py BUILD FOLDER.tar.xz

The second is for where room counts: all programs hold the same kernels, so that it is about a
fiftieth as large. FOLDER holds the library, the draft program, the tests and examples that use a
GPU, the shared libraries beyond the C library that these need, and the commit it was made from. It
runs on Linux with a C library no older than this one's: tools/gpu-check --build FOLDER, in a tree
of the same commit, at any path."""
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import gpu_facts

ARCHIVE = ".tar.xz"
# Little effort, but sight of several programs, which are much alike.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
SUITES = ("cuda", "vulkan")
INFORMATION = ("intro-tests.json", "meson-info.json")
# Of every Linux.
SYSTEM = re.compile(r"(ld-linux.*|linux-vdso|libc|libm|libdl|librt|libpthread)\.so.*")


def programs_of(build):
    """Paths within the build of what its tests on devices run, and of the draft program."""
    information = os.path.join(build, "meson-info")
    with open(os.path.join(information, "intro-tests.json"), encoding="utf-8") as file:
        tests = json.load(file)
    with open(os.path.join(information, "meson-info.json"), encoding="utf-8") as file:
        made_in = json.load(file)["directories"]["build"]
    words = [word for test in tests for word in test["cmd"]
             if any(suite.split(":")[-1] in SUITES for suite in test["suite"])]
    found = {os.path.relpath(word, made_in) for word in words if word.startswith(made_in + os.sep)}
    return sorted(path for path in found | {"tools/draft"}
                  if os.path.isfile(os.path.join(build, path)))


def libraries_of(program):
    """Paths of the shared libraries that a program needs and a bare machine may lack."""
    said = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = dict(re.findall(r"^\s*(\S+) => (/\S+)", said, re.M))
    return [path for name, path in found.items()
            if not SYSTEM.fullmatch(name) and not name.startswith("libdraft.")]


def copy(source, to):
    os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copy2(source, to)
    if shutil.which("strip"):
        subprocess.run(["strip", to], check=False)


def pack(build, folder):
    """Returns how many programs it holds, and bytes."""
    programs = programs_of(build)
    for path in programs:
        copy(os.path.join(build, path), os.path.join(folder, path))
        for library in libraries_of(os.path.join(build, path)):
            copy(library, os.path.join(folder, "lib", os.path.basename(library)))
    copy(os.path.join(build, "libdraft.so"), os.path.join(folder, "libdraft.so"))
    os.symlink("libdraft.so", os.path.join(folder, "libdraft.so.0"))  # the examples' name for it
    os.makedirs(os.path.join(folder, "meson-info"))
    for name in INFORMATION:
        shutil.copy2(os.path.join(build, "meson-info", name), os.path.join(folder, "meson-info"))
    with open(os.path.join(folder, gpu_facts.MADE), "w", encoding="utf-8") as out:
        json.dump(gpu_facts.source_facts(), out)
    return len(programs), sum(os.lstat(os.path.join(where, name)).st_size
                              for where, _, names in os.walk(folder) for name in names)


def main(build, to):
    if os.path.exists(to):
        sys.exit(f"{to} exists")
    if not to.endswith(ARCHIVE):
        programs, size = pack(build, to)
    else:
        with tempfile.TemporaryDirectory() as work:
            name = os.path.basename(to)[:-len(ARCHIVE)]
            programs, _ = pack(build, os.path.join(work, name))
            with lzma.open(to, "wb", filters=FILTERS) as file, \
                    tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(os.path.join(work, name), name)
        size = os.path.getsize(to)
    print(f"{to}: {programs} programs, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(os.path.abspath, sys.argv[1:]))
