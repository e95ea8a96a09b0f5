#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A first look at some kernels of the library: are they right, and about how fast?

    gpu_first.py --library build/libdraft.so --kernels sm90,simt [--backend cuda] [--device 0]

Each type and dim, by the method of the paper and with scores and tail beyond it, on a small ragged
grid: the plan, which runs the library's own test of the kernels; a run of all stages; its result
against the CPU backend's over the same lists, where there is no tail. Then a rate. It says what it
is about to do before it does it, since a kernel may hang. For tools/gpu-check, which runs one
process for each kernel. Needs no package, and of the build nothing but the library.

Exit status: 0 all is right, 1 not, 77 the device does not take these kernels."""
import argparse
import ctypes
import json
import math
import os
import random
import struct
import sys
import tempfile
import time

import libdraft

SHAPE = libdraft.Shape(prefix=5, frames=3, height=10, width=19, suffix=131, heads=2)
TILE = (1, 8, 16)
SPARSITY = 0.5
RATED = libdraft.Shape(frames=5, height=30, width=52, suffix=128, heads=8)
RUNS, ROUNDS = 10, 3  # of the rate
BOUND = 2.0 ** -7     # of relative errors, as in gpu_compare.py
TYPES = {"bf16": libdraft.BF16, "f16": libdraft.F16}
METHODS = (("mean", "drop"), ("excess", "drop"), ("excess", "mean"))  # scorer, tail
PATTERN = 262139      # numbers before they repeat: more than are checked, and prime
REFUSED = 77


def say(text):
    print(text, flush=True)


# ---- Numbers -------------------------------------------------------------------------------------

def half_of(kind, number):
    """The bits of a number that both types have without rounding."""
    if kind == libdraft.F16:
        return struct.unpack("<H", struct.pack("<e", number))[0]
    return struct.unpack("<I", struct.pack("<f", number))[0] >> 16


def numbers_of(kind, halves):
    if kind == libdraft.F16:
        return struct.unpack(f"<{len(halves)}e", bytes(halves))
    return struct.unpack(f"<{len(halves)}f", struct.pack(f"<{len(halves)}I",
                                                         *(half << 16 for half in halves)))


def random_halves(kind, count, seed):
    generator = random.Random(seed)
    table = [half_of(kind, n / 64) for n in range(-127, 128)]
    pattern = struct.pack(f"<{PATTERN}H", *generator.choices(table, k=PATTERN))
    repeated = pattern * math.ceil(count / PATTERN)
    return (ctypes.c_uint16 * count).from_buffer_copy(repeated[:2 * count])


def relative(got, wanted):
    """NaN where a number is none."""
    square = sum((a - b) ** 2 for a, b in zip(got, wanted))
    return math.sqrt(square / sum(b * b for b in wanted))


def name_of(type_name, dim, method):
    return f"{type_name}, dim {dim}, {method[0]} {method[1]}"


# ---- One device ----------------------------------------------------------------------------------

class Bench:
    """A context with a plan, tensors and a workspace."""

    def __init__(self, library, backend, device, shape, kind, sparsity, method, kernels):
        self.context = libdraft.Context(library, backend, device, level=libdraft.INFO)
        self.kind = kind
        try:
            self.plan = libdraft.Plan(self.context, shape, sparsity, kind, TILE, kernels,
                                      scorer=libdraft.SCORERS[method[0]],
                                      tail=libdraft.TAILS[method[1]])
        except libdraft.Failure:
            self.context.close()
            raise
        count = libdraft.tokens_of(shape) * shape.heads * shape.dim
        self.count, self.rows = count, libdraft.tokens_of(shape) * shape.heads
        self.addresses = [self.context.alloc(2 * count) for _ in range(4)]
        for seed, address in enumerate(self.addresses):
            self.context.write(address, random_halves(kind, count, seed))
        self.workspace = self.context.alloc(self.plan.layout.size)
        self.lse = self.context.alloc(4 * self.rows)

    def run(self, stages=0, flags=0):
        arguments = self.plan.arguments(self.addresses, self.workspace, stages, flags=flags)
        arguments.lse = self.lse
        self.plan.run(arguments)
        self.context.wait()

    def result(self):
        """out, and lse."""
        out = self.context.read(self.addresses[3], ctypes.c_uint16, self.count)
        return numbers_of(self.kind, out), self.context.read(self.lse, ctypes.c_float, self.rows)

    def lists(self):
        blocks, layout = self.plan.layout.blocks, self.plan.layout
        rows = blocks * self.plan.shape.heads
        return (self.context.read(self.workspace + layout.counts, ctypes.c_uint32, rows),
                self.context.read(self.workspace + layout.lists, ctypes.c_uint16, rows * blocks))

    def kernels(self):
        return [self.plan.kernel(stage) for stage in libdraft.STAGES.values()]

    def close(self):
        for address in [*self.addresses, self.workspace, self.lse]:
            self.context.free(address)
        self.plan.close()
        self.context.close()


class Look:
    """All checks of one set of kernels."""

    def __init__(self, options):
        self.options, self.library = options, libdraft.Library(options.library)
        self.wanted = [name for name in options.kernels.split(",") if name]
        self.wrong = False

    def report(self, entry):
        self.wrong = self.wrong or entry["result"] != "right"
        say("RESULT " + json.dumps(dict(entry, kernels=self.options.kernels)))

    def bench(self, shape, dim, kind, sparsity, method, backend=None):
        sized = libdraft.Shape.from_buffer_copy(shape)
        sized.dim = dim
        if backend:
            return Bench(self.library, backend, 0, sized, kind, sparsity, method, None)
        return Bench(self.library, self.options.backend, self.options.device, sized, kind, sparsity,
                     method, self.options.kernels or None)

    def case(self, type_name, dim, method):
        """Everything with one type, dim and method."""
        name, kind = name_of(type_name, dim, method), TYPES[type_name]
        say(f"{name}: plan and self-test")
        start = time.monotonic()
        own = self.bench(SHAPE, dim, kind, SPARSITY, method)
        seconds = time.monotonic() - start
        if not set(self.wanted) <= set(own.kernels()):
            found = ", ".join(own.kernels())
            own.close()
            raise libdraft.Failure(f"{libdraft.UNSUPPORTED}: the plan has {found}")
        say(f"{name}: all stages")
        own.run()
        entry = {"case": name, "seconds": round(seconds, 2)}
        if method[1] == "drop":
            say(f"{name}: against the CPU backend")
            entry.update(self.against_cpu(own, dim, kind, method))
        else:
            good = all(math.isfinite(x) for x in own.result()[0])
            entry["result"] = "right" if good else "not all numbers are finite"
        own.close()
        self.report(entry)

    def against_cpu(self, own, dim, kind, method):
        """Attend of both over the same lists."""
        other = self.bench(SHAPE, dim, kind, SPARSITY, method, "cpu")
        other.plan.write_lists(other.workspace, *own.lists())
        other.run(libdraft.ATTEND)
        (out, lse), (wanted, wanted_lse) = own.result(), other.result()
        errors = relative(out, wanted), relative(lse, wanted_lse)
        other.close()
        right = errors[0] <= BOUND and errors[1] <= BOUND
        return {"error": errors[0], "error_lse": errors[1], "result": "right" if right else
                f"relative errors {errors[0]:.2e} of out, {errors[1]:.2e} of lse"}

    def rate(self, dim):
        """TFLOP/s of dense attend in bf16, on the host's clock over a few runs in a row."""
        say(f"rate of attend, bf16, dim {dim}")
        bench = self.bench(RATED, dim, libdraft.BF16, 0, METHODS[0])
        arguments = bench.plan.arguments(bench.addresses, bench.workspace, libdraft.ATTEND)
        bench.run()
        times = []
        for _ in range(ROUNDS):
            start = time.monotonic()
            for _ in range(RUNS):
                bench.plan.run(arguments)
            bench.context.wait()
            times.append((time.monotonic() - start) / RUNS)
        kernel = bench.plan.kernel(libdraft.ATTEND)
        bench.close()
        tokens = libdraft.tokens_of(RATED)
        flops = 4.0 * dim * tokens ** 2 * RATED.heads
        self.report({"case": f"{kernel}, bf16, dim {dim}, dense, {tokens} tokens",
                     "result": "right", "tflops": round(1e-12 * flops / min(times), 1)})

    def run(self):
        say("opening the device")
        info = self.library.list_devices
        device = next((i for i in info() if i.backend == self.options.backend.encode() and
                       i.index == self.options.device), None)
        if device is None:
            say("there is no such device")
            return REFUSED
        small = self.options.brief
        dims, types = ((128,), ("bf16",)) if small else ((128, 64), tuple(TYPES))
        cases = [(kind, dim, method) for method in METHODS for dim in dims for kind in types]
        refused = sum(self.tried(case) for case in cases)
        if refused == len(cases):
            return REFUSED
        # The kernels of score alone are not rated: wgmma's plans are those of another scorer.
        if not (small or device.software or refused):
            for dim in dims:
                self.rate(dim)
        return 1 if self.wrong else 0

    def tried(self, case):
        """True where the device or the plan does not take these kernels."""
        try:
            self.case(*case)
        except libdraft.Failure as failure:
            if str(failure).startswith(libdraft.UNSUPPORTED):
                say(f"{name_of(*case)}: {failure}")
                return True
            self.report({"case": name_of(*case), "result": str(failure)})
        return False


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--library", default="build/libdraft.so")
    parser.add_argument("--kernels", default="", help="names, by commas: DRAFT_KERNEL")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--brief", action="store_true", help="few cases, and no rate")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as cache:  # what self-tests found before does not count
        os.environ["XDG_CACHE_HOME"] = cache
        return Look(options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
