# SPDX-License-Identifier: MIT
"""The self-test of gpu_compare.py, without PyTorch and without a GPU. The structures of libdraft.py
are checked by what the CPU backend makes of them: a misplaced field gives another result."""
import ctypes
import math
import os
import random
import shutil
import tempfile

import gpu_compare
import libdraft

SHAPE = libdraft.Shape(prefix=3, frames=3, height=5, width=7, suffix=130, heads=4, kv_heads=2,
                       dim=8)
TILE = (2, 3, 4)
ALIGNMENT = 256  # of what draft_alloc gives
BOUND = 1e-5     # of f32 sums of 238 terms of about 1


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def near(got, wanted, what, bound=BOUND):
    worst = max(abs(a - b) for a, b in zip(got, wanted))
    expect(len(got) == len(wanted) and worst <= bound, f"{what}: off by {worst}")


def random_lists(layout, heads, sparsity, seed):
    """counts and lists as draft_lists_write takes them: in each row of a video block as many random
    video blocks as the sparsity leaves, at least one; every pair with a text block."""
    blocks, first, count = layout.blocks, layout.prefix_blocks, layout.video_blocks
    video = range(first, first + count)
    text = [b for b in range(blocks) if b not in video]
    kept = max(1, round((1 - sparsity) * count))
    generator = random.Random(seed)
    counts = (ctypes.c_uint32 * (heads * blocks))()
    lists = (ctypes.c_uint16 * (heads * blocks * blocks))()
    for row in range(heads * blocks):
        chosen = generator.sample(video, kept) + text if row % blocks in video else range(blocks)
        counts[row] = len(chosen)
        for i, block in enumerate(sorted(chosen)):
            lists[row * blocks + i] = block
    return counts, lists


class Rig:
    """The shape on the CPU backend, with random numbers."""

    def __init__(self, library, sparsity, tile=TILE, **more):
        self.context = libdraft.Context(library, "cpu")
        more.setdefault("tail", libdraft.TAILS["drop"])
        self.plan = libdraft.Plan(self.context, SHAPE, sparsity, libdraft.F32, tile, **more)
        self.layout, self.tokens = self.plan.layout, libdraft.tokens_of(SHAPE)
        generator = random.Random(7)
        self.values, self.addresses = [], []
        for heads in (SHAPE.heads, SHAPE.kv_heads, SHAPE.kv_heads, SHAPE.heads):
            count = self.tokens * heads * SHAPE.dim
            data = (ctypes.c_float * count)(*(generator.gauss(0, 1) for _ in range(count)))
            address = self.context.alloc(4 * count)
            expect(address % ALIGNMENT == 0, "an aligned address")
            self.context.write(address, data)
            self.values.append(data)
            self.addresses.append(address)
        self.workspace = self.context.alloc(self.layout.size)
        self.lse = self.context.alloc(4 * SHAPE.heads * self.tokens)

    def close(self):
        for address in [*self.addresses, self.workspace, self.lse]:
            self.context.free(address)
        self.plan.close()
        self.context.close()

    def run(self, stages=0, flags=0):
        """out and lse."""
        arguments = self.plan.arguments(self.addresses, self.workspace, stages, flags=flags)
        arguments.lse = self.lse
        self.plan.run(arguments)
        self.context.wait()
        count = self.tokens * SHAPE.heads * SHAPE.dim
        return (list(self.context.read(self.addresses[3], ctypes.c_float, count)),
                list(self.context.read(self.lse, ctypes.c_float, SHAPE.heads * self.tokens)))

    def lists(self):
        """For each head and query block its key blocks."""
        blocks, heads = self.layout.blocks, SHAPE.heads
        read, start = self.context.read, self.workspace
        counts = read(start + self.layout.counts, ctypes.c_uint32, heads * blocks)
        lists = read(start + self.layout.lists, ctypes.c_uint16, heads * blocks * blocks)
        return [[list(lists[row * blocks:row * blocks + counts[row]])
                 for row in range(h * blocks, (h + 1) * blocks)] for h in range(heads)]

    def attention(self, lists):
        """The same by the definition, one row after the other: out and lse."""
        members = libdraft.block_tokens(SHAPE, self.layout)
        q, k, v, dim = *self.values[:3], SHAPE.dim
        out, lse = [0.0] * len(q), [0.0] * (SHAPE.heads * self.tokens)
        for head in range(SHAPE.heads):
            pair = head // (SHAPE.heads // SHAPE.kv_heads)
            for block, row in enumerate(lists[head]):
                at = [(t * SHAPE.kv_heads + pair) * dim for b in row for t in members[b]]
                for token in members[block]:
                    query = (token * SHAPE.heads + head) * dim
                    logits = [sum(q[query + i] * k[key + i] for i in range(dim)) / math.sqrt(dim)
                              for key in at]
                    most = max(logits)
                    weights = [math.exp(x - most) for x in logits]
                    total = sum(weights)
                    lse[head * self.tokens + token] = most + math.log(total)
                    for i in range(dim):
                        out[query + i] = sum(w * v[key + i] for w, key in zip(weights, at)) / total
        return out, lse

    def agrees(self, got, what):
        wanted = self.attention(self.lists())
        near(got[0], wanted[0], what + ": out")
        near(got[1], wanted[1], what + ": lse")

    def token_pairs(self, lists):
        sizes = [len(tokens) for tokens in libdraft.block_tokens(SHAPE, self.layout)]
        return sum(sizes[i] * sizes[j] for head in lists for i, row in enumerate(head) for j in row)


def test_layout(library):
    rig = Rig(library, 0.5)
    layout, info = rig.layout, rig.context.info
    expect((layout.tile.t, layout.tile.h, layout.tile.w) == TILE, "the tile")
    expect((layout.tiles_t, layout.tiles_h, layout.tiles_w) == (2, 2, 2), "the tile grid")
    expect((layout.prefix_blocks, layout.video_blocks, layout.suffix_blocks) == (1, 8, 2), "parts")
    expect(layout.blocks == 11 and layout.tokens == rig.tokens, "blocks and tokens")
    places = [getattr(layout, name) for name in ("pooled_q", "pooled_k", "pooled_v", "map",
                                                 "counts", "lists", "order")]
    expect(len(set(places)) == 7 and max(places) < layout.size, "places in the workspace")
    members = libdraft.block_tokens(SHAPE, layout)
    expect(len(members) == layout.blocks, "as many blocks as the layout says")
    expect(sorted(t for block in members for t in block) == list(range(rig.tokens)),
           "each token in one block")
    expect(info.backend == b"cpu" and info.software == 1 and info.memory > 1 << 20, "the device")
    expect(info.types == 0b1110 and info.attend in (b"avx512", b"avx2", b"baseline"), "its kernels")
    expect(rig.plan.kernel(libdraft.ATTEND).encode() == info.attend, "the plan's kernel")
    rig.close()


def test_devices(library):
    found = [info for info in library.list_devices() if info.backend == b"cpu"]
    expect(len(found) == 1 and found[0].types == 0b1110, "the processor is a device")


def test_run(library):
    rig = Rig(library, 0.5)
    whole = rig.run()
    rig.agrees(whole, "all stages at once")
    lists = rig.lists()
    density = rig.plan.density(rig.workspace)
    pairs = rig.token_pairs(lists)
    expect(density.kept_pairs == 4 * 32 and density.video == 0.5, "the budget")
    expect(density.flops == 4 * SHAPE.dim * pairs and density.empty_rows == 0, "counted work")
    expect(abs(density.work - pairs / rig.tokens ** 2 / SHAPE.heads) < 1e-12, "share of the work")
    for stage in libdraft.STAGES.values():
        single = rig.run(stage)
    expect(single == whole, "the stages one by one give the same bits")
    rig.close()


def test_random_lists(library):
    rig = Rig(library, 0)
    counts, lists = random_lists(rig.layout, SHAPE.heads, 0.75, 3)
    rig.plan.write_lists(rig.workspace, counts, lists)
    rig.agrees(rig.run(libdraft.ATTEND), "lists of one's own")
    density = rig.plan.density(rig.workspace)
    expect(density.video == 0.25, "two video blocks of eight in each row")
    expect(rig.lists() != random_lists_of(rig, 4), "another seed, other lists")
    rig.close()


def random_lists_of(rig, seed):
    rig.plan.write_lists(rig.workspace, *random_lists(rig.layout, SHAPE.heads, 0.75, seed))
    return rig.lists()


def test_kept_only(library):
    rig = Rig(library, 0.75, tail=libdraft.TAILS["mean"])
    whole = rig.run()
    kept = rig.run(libdraft.ATTEND, libdraft.KEPT_ONLY)
    rig.agrees(kept, "the kept pairs alone")
    video = rig.context.read(rig.workspace + rig.layout.counts + 4, ctypes.c_uint32, 1)[0]
    expect(video < rig.layout.blocks and whole != kept, "a tail changes the rest")
    rig.close()


def head_rows(values, head):
    """Of out, the rows of the video's tokens in one head."""
    first, video = SHAPE.prefix, SHAPE.frames * SHAPE.height * SHAPE.width
    return [values[(t * SHAPE.heads + head) * SHAPE.dim + i]
            for t in range(first, first + video) for i in range(SHAPE.dim)]


def test_factors(library):
    rig = Rig(library, 0.75, tail=libdraft.TAILS["mean"])
    mean = rig.run()[0]
    rig.close()
    rig = Rig(library, 0.75, tail=libdraft.TAILS["fitted"])
    rig.plan.write_factors(rig.workspace)
    near(rig.run()[0], mean, "factors of 0")
    rig.plan.write_factors(rig.workspace, [0, 0, 1.25, 0])
    one = rig.run()[0]
    same = [head_rows(one, h) == head_rows(mean, h) for h in range(SHAPE.heads)]
    expect(same == [True, True, False, True], "a factor is of its own head")
    try:
        rig.plan.write_factors(rig.workspace, [1])
        raise AssertionError("one factor was taken for four heads")
    except ValueError:
        pass
    rig.close()


def relative(got, wanted):
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(got, wanted)) / sum(b * b for b in wanted))


def test_kernels(library):
    """A plan of the kernels that are asked for, without a trace in what is made after it."""
    rig = Rig(library, 0.5)
    usual = rig.plan.kernel(libdraft.ATTEND)
    before = os.environ.get("DRAFT_KERNEL")
    plan = libdraft.Plan(rig.context, SHAPE, 0.5, libdraft.F32, TILE, kernels="baseline")
    expect(plan.kernel(libdraft.ATTEND) == "baseline", "the kernel that was asked for")
    plan.close()
    expect(os.environ.get("DRAFT_KERNEL") == before, "the variable is as it was")
    plan = libdraft.Plan(rig.context, SHAPE, 0.5, libdraft.F32, TILE)
    expect(plan.kernel(libdraft.ATTEND) == usual, "the usual kernel again")
    plan.close()
    rig.close()


def test_two_libraries(library):
    """Another file is another library in the same process, with the same results."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(library.path))
        shutil.copy(library.path, path)
        other = libdraft.Library(path)
        addresses = [ctypes.cast(each.run, ctypes.c_void_p).value for each in (library, other)]
        expect(addresses[0] != addresses[1], "two places for the same function")
        rigs = [Rig(each, 0.5) for each in (library, other)]
        expect(rigs[0].run() == rigs[1].run(), "the same bits")
        for rig in rigs:
            rig.close()


def test_builds(_):
    builds = gpu_compare.builds_of(["a.so", "main=x/b.so", "old=x/b.so:sm80,simt", "main=c.so",
                                    "c.so:sm80"])
    expect([b.name for b in builds] == ["a.so", "main", "old", "main (4)", "c.so:sm80"], "names")
    expect([b.path for b in builds] == ["a.so", "x/b.so", "x/b.so", "c.so", "c.so"], "files")
    expect([b.kernels for b in builds] == [None, None, "sm80,simt", None, "sm80"], "kernels")


def test_rounds_of_two(_):
    """Drift from round to round is no difference between libraries, and peers are everybody's."""
    times = {"attend": [100.0, 200.0, 400.0], "1 attend": [50.0, 100.0, 200.0],
             "2 attend": [100.0, 100.0, 800.0], "cudnn": [7.0, 8.0, 9.0]}
    own = [gpu_compare.own_times(times, number, ["attend"]) for number in range(3)]
    expect(own[1] == {"attend": [50.0, 100.0, 200.0], "cudnn": [7.0, 8.0, 9.0]}, "times of one")
    ratios = [gpu_compare.speed_ratio(own[0]["attend"], each["attend"]) for each in own]
    expect(ratios == [1, 2, 1], f"ratios within the rounds, not {ratios}")
    row = {"shape": "x", "lists": "draft", "sparsity": 0.9, "library": "try", "times_us": {},
           "speed_of_first": {"attend": 2.0}, "kernels": {"attend": "sm80"}}
    text = gpu_compare.markdown({"results": [row], "checks": [], "wrong": [], "missing": {}})
    expect(text[0].startswith("| library | kernel |") and "attend / first's" in text[0], "columns")
    expect(text[2].startswith("| try | sm80 |") and "2.000" in text[2], "cells")


def test_probe(library):
    """With every block taken, the error is that of the whole video."""
    rig = Rig(library, 0.75, tail=libdraft.TAILS["drop"])
    out = rig.run()[0]
    blocks = range(rig.layout.blocks)
    dense = rig.attention([[list(blocks) for _ in blocks] for _ in range(SHAPE.heads)])[0]
    errors = [relative(head_rows(out, h), head_rows(dense, h)) for h in range(SHAPE.heads)]
    arguments = rig.plan.arguments(rig.addresses, rig.workspace)
    found = rig.plan.probe(arguments, blocks=rig.layout.video_blocks)
    near([p.error for p in found], errors, "the probe's errors")
    expect(all(p.factor == 0 for p in found), "no factor without a tail")
    few = [[p.error for p in rig.plan.probe(arguments, seed, 1)] for seed in range(8)]
    expect(any(a != few[0] for a in few), "the seed chooses the block")
    rig.close()


def test_probe_factors(library):
    rig = Rig(library, 0.75, tail=libdraft.TAILS["mean"])
    arguments = rig.plan.arguments(rig.addresses, rig.workspace)
    mean = rig.plan.probe(arguments, 3, 8)
    rig.close()
    rig = Rig(library, 0.75, tail=libdraft.TAILS["fitted"])
    found = rig.plan.probe(rig.plan.arguments(rig.addresses, rig.workspace), 3, 8)
    left = rig.context.read(rig.workspace + rig.layout.factors, ctypes.c_float, SHAPE.heads)
    near([p.factor for p in found], left, "the factors that are left in the workspace", 0)
    expect(all(0 <= f <= 1.5 for f in left) and any(left), "factors in their range")
    expect(all(a.error <= b.error + BOUND for a, b in zip(found, mean)), "none is worse than 0")
    rig.close()


def test_sparsities(library):
    errors = [[0.4, 0.2, 0.1], [0.15, 0.05, 0.02]]
    got = library.sparsities(errors, [0.9, 0.6, 0.3], 0.59)
    expect(got == [0.3, 0.9], f"the worse head gets both steps, not {got}")
    try:
        library.sparsities(errors, [0.3, 0.6, 0.9], 0.59)
        raise AssertionError("ascending sparsities were taken")
    except libdraft.Failure as failure:
        expect("bad argument" in str(failure), "the status in words")


def test_failure(library):
    context = libdraft.Context(library, "cpu")
    try:
        libdraft.Plan(context, SHAPE, 2.0)
        raise AssertionError("a sparsity of 2 was taken")
    except libdraft.Failure as failure:
        expect("bad argument" in str(failure) and "sparsity" in str(failure), "the log's words")
    context.close()


def test_numbers(_):
    made = gpu_compare.summary([3.0, 1.0, 2.0, 10.0])
    expect(made == {"median": 2.5, "min": 1.0, "max": 10.0, "rounds": 4}, "the summary")
    expect(gpu_compare.rate(2e12, 1e6) == 2, "2 TFLOP in a second")
    for name in gpu_compare.SHAPES:
        expect(gpu_compare.shape_of(name).heads > 0, name)
    tera = {name: 4e-12 * 128 * libdraft.tokens_of(shape) ** 2 * shape.heads
            for name, shape in ((n, gpu_compare.shape_of(n)) for n in gpu_compare.TABLE)}
    expect(round(tera["hunyuan-720p"], 1) == 174.2, "TFLOP of HunyuanVideo")
    expect(round(tera["minimax-h3"]) == 310, "TFLOP of MiniMax-H3")
    expect(gpu_compare.shape_of("clip", 64).dim == 64, "another dim")


def test_table(_):
    times = {name: gpu_compare.summary([float(us)]) for name, us in
             (("pool", 5), ("score", 2), ("select", 3), ("attend", 100), ("run", 108),
              ("cudnn", 500))}
    flops = 4.0 * 128 * 1000 ** 2 * 2
    row = gpu_compare.derive({"shape": "x", "lists": "draft", "sparsity": 0.9, "tokens": 1000,
                              "heads": 2, "dim": 128, "kept": 0.1, "flops": flops / 10,
                              "times_us": times})
    expect(row["small_share"] == 0.1, "the small stages")
    expect(abs(row["rate_vs_cudnn"] - 0.5) < 1e-12, "a tenth of the work in a fifth of the time")
    expect(abs(row["speedup_vs_cudnn"] - 500 / 108) < 1e-12, "against the whole run")
    expect("rate_vs_flash" not in row, "no ratio to what was not measured")
    text = gpu_compare.markdown({"results": [row], "checks": [], "wrong": [],
                                 "missing": {"flex": "no compiler"}})
    header, rule, line = text[:3]
    expect(header.count("|") == rule.count("|") == line.count("|"), "as many cells in each line")
    expect("Flex us" not in header and "cuDNN dense us" in header, "only what was measured")
    expect("* flex: not measured: no compiler" in text, "what is missing, and why")


def run(library):
    """Every test of this file; returns the exit status."""
    failed = 0
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            try:
                test(library)
                print(f"ok      {name}")
            except (AssertionError, libdraft.Failure) as error:
                failed += 1
                print(f"FAILED  {name}: {error}")
    return 1 if failed else 0
