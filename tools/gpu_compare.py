#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time libdraft against PyTorch's attention in one process, on the same tensors and stream.

    gpu_compare.py --library build/libdraft.so [--shapes a,b] [--output report.json]
    gpu_compare.py --library main=build/libdraft.so --library try=../try/build/libdraft.so
    gpu_compare.py --library build/libdraft.so --library old=build/libdraft.so:sm80,simt

For each shape, sparsity and kind of lists: every stage alone, the whole run, dense attention of
PyTorch (cuDNN and flash backends), and FlexAttention with full 128 x 128 blocks from the same
lists. They take turns, one call of each in a round, and the L2 cache is overwritten before each
call. Each is a CUDA graph where it can be captured. Times are medians over the rounds.

TFLOP/s: 4 x dim x kept pairs of tokens / time; for FlexAttention, whose tokens must be in block
order and are padded to full blocks, the pairs of its own blocks. Its permutation is timed apart.

Several libraries, each a build of its own or the same with other kernels, take turns in the same
rounds. Each has rows of its own, with its speed as a ratio to the first library's: the median over
the rounds of the ratio within a round. What one library makes of twice the same is noise.

--scorer and --tail measure plans beyond the paper's method. Rates still count kept pairs alone, so
that the pooled keys show as lost time; the result is checked by a run of the kept pairs alone.

--self-test needs neither PyTorch nor a GPU: it checks the pure parts, and the structures of
libdraft.py by runs on the CPU backend. --backend cpu measures that backend, on small shapes."""
import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings

import libdraft
from gpu_compare_torch import BLOCK, Case, CpuMachine, CudaMachine, Flex, Lists, reason_of

# name: prefix, frames, height, width, suffix, heads, dim
SHAPES = {
    "hunyuan-720p": (0, 33, 45, 80, 256, 24, 128),
    "hunyuan-768p": (0, 33, 48, 80, 256, 24, 128),
    "wan-14b-720p": (0, 21, 45, 80, 0, 40, 128),
    "wan-14b-480p": (0, 21, 30, 52, 0, 40, 128),
    "wan-1.3b-480p": (0, 21, 30, 52, 0, 12, 128),
    "minimax-h3": (1234, 102, 24, 42, 0, 56, 128),
    "clip": (0, 5, 30, 52, 128, 8, 128),
    "clip-64": (0, 5, 30, 52, 128, 8, 64),
    "tiny": (40, 3, 16, 32, 100, 2, 128),
}
TABLE = ("hunyuan-720p", "hunyuan-768p", "wan-14b-720p", "wan-14b-480p", "wan-1.3b-480p",
         "minimax-h3")
QUICK = ("clip", "clip-64")
SPARSITIES = (0, 0.5, 0.75, 0.9, 0.95)
LEAST_ROUNDS = 3
# Of relative errors. Probabilities and results are rounded to bf16, each by up to 2^-9 of itself.
BOUND = 2.0 ** -7


def shape_of(name, dim=0):
    prefix, frames, height, width, suffix, heads, own_dim = SHAPES[name]
    return libdraft.Shape(prefix=prefix, frames=frames, height=height, width=width, suffix=suffix,
                          heads=heads, dim=dim or own_dim)


# ---- Numbers and tables --------------------------------------------------------------------------

def summary(times):
    return {"median": statistics.median(times), "min": min(times), "max": max(times),
            "rounds": len(times)}


def rate(flops, microseconds):
    """TFLOP/s."""
    return flops / microseconds * 1e-6


def derive(row):
    """Rates and ratios of a row, from its times."""
    times, dense = row["times_us"], 4.0 * row["dim"] * row["tokens"] ** 2 * row["heads"]
    flops = {"attend": row["flops"], "run": row["flops"], "cudnn": dense, "flash": dense,
             "sdpa": dense, "flex": row.get("flex_flops", 0)}
    median = {name: entry["median"] for name, entry in times.items()}
    row["tflops"] = {name: rate(flops[name], median[name]) for name in flops if name in median}
    small = [median[name] for name in ("pool", "score", "select") if name in median]
    if len(small) == 3 and "attend" in median:
        row["small_share"] = sum(small) / median["attend"]
    whole = median.get("run", median.get("attend"))
    for peer in ("cudnn", "flash", "sdpa", "flex"):
        if peer in median and "attend" in median:
            row[f"rate_vs_{peer}"] = row["tflops"]["attend"] / row["tflops"][peer]
            row[f"speedup_vs_{peer}"] = median[peer] / whole
    return row


class Build:
    """A library to measure: NAME=FILE:KERNELS, of which FILE alone must be there. kernels: those
    that its plans choose from, or None."""

    def __init__(self, text):
        name, equals, rest = text.rpartition("=")
        self.path, _, kernels = rest.partition(":")
        self.name, self.kernels = name if equals else rest, kernels or None
        self.context = None


def builds_of(texts):
    """Each has a name of its own."""
    builds = [Build(text) for text in texts]
    for number, build in enumerate(builds):
        if any(build.name == other.name for other in builds[:number]):
            build.name += f" ({number + 1})"
    return builds


def key_of(number, name):
    """What a call of library number `number` is called in a round."""
    return name if number == 0 else f"{number} {name}"


def own_times(times, number, names):
    """Of a round's times those that belong in the rows of one library: its own, and the peers'."""
    own = {name: times[key_of(number, name)] for name in names}
    peers = {name: t for name, t in times.items() if name not in names and " " not in name}
    return {**own, **peers}


def speed_ratio(first, own):
    """How much faster the own is, from the times of both in the same rounds."""
    return statistics.median(a / b for a, b in zip(first, own))


def word_of(words, number):
    return next(word for word, value in words.items() if value == number)


def cell(row, *path, scale=1.0, form="{:.0f}"):
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    return "" if row is None else form.format(row * scale)


COLUMNS = (
    ("library", lambda r: r.get("library") or ""),
    # Which kernel attends: a library's choice may be another than one thinks.
    ("kernel", lambda r: r.get("kernels", {}).get("attend", "") if "library" in r else ""),
    ("shape", lambda r: r["shape"]), ("lists", lambda r: r["lists"]),
    ("sparsity", lambda r: f"{r['sparsity']:g}"),
    ("scorer", lambda r: r.get("scorer", "mean").replace("mean", "")),
    ("tail", lambda r: r.get("tail", "drop").replace("drop", "")),
    ("work", lambda r: cell(r, "kept", scale=100, form="{:.1f} %")),
    ("pool us", lambda r: cell(r, "times_us", "pool", "median")),
    ("score us", lambda r: cell(r, "times_us", "score", "median")),
    ("select us", lambda r: cell(r, "times_us", "select", "median")),
    ("attend us", lambda r: cell(r, "times_us", "attend", "median")),
    ("min-max", lambda r: "-".join(cell(r, "times_us", "attend", x) for x in ("min", "max"))),
    ("run us", lambda r: cell(r, "times_us", "run", "median")),
    ("small stages / attend", lambda r: cell(r, "small_share", scale=100, form="{:.2f} %")),
    ("attend / first's", lambda r: cell(r, "speed_of_first", "attend", form="{:.3f}")),
    ("run / first's", lambda r: cell(r, "speed_of_first", "run", form="{:.3f}")),
    ("attend TFLOP/s", lambda r: cell(r, "tflops", "attend", form="{:.1f}")),
    ("cuDNN dense us", lambda r: cell(r, "times_us", "cudnn", "median")),
    ("TFLOP/s", lambda r: cell(r, "tflops", "cudnn", form="{:.1f}")),
    ("flash dense us", lambda r: cell(r, "times_us", "flash", "median")),
    ("TFLOP/s", lambda r: cell(r, "tflops", "flash", form="{:.1f}")),
    ("Flex us", lambda r: cell(r, "times_us", "flex", "median")),
    ("TFLOP/s", lambda r: cell(r, "tflops", "flex", form="{:.1f}")),
    ("its permutes us", lambda r: cell(r, "times_us", "permute", "median")),
    ("rate / cuDNN's", lambda r: cell(r, "rate_vs_cudnn", form="{:.2f}")),
    ("rate / flash's", lambda r: cell(r, "rate_vs_flash", form="{:.2f}")),
    ("times faster than cuDNN dense", lambda r: cell(r, "speedup_vs_cudnn", form="{:.2f}")),
    ("than Flex", lambda r: cell(r, "speedup_vs_flex", form="{:.2f}")),
    ("error", lambda r: cell(r, "error", "relative", form="{:.1e}")),
)


def markdown_row(cells):
    return "| " + " | ".join(cells) + " |"


def markdown(report):
    """The report's tables, as lines of Markdown."""
    rows = report["results"]
    lines = []
    if rows:
        # Columns that no row fills are left out.
        columns = [c for c in COLUMNS if any(c[1](r).strip("-") for r in rows)]
        lines += [markdown_row([name for name, _ in columns]), markdown_row(["---"] * len(columns))]
        lines += [markdown_row([of(r) for _, of in columns]) for r in rows]
        lines.append("")
    for check in report["checks"]:
        peer = check.get("against_peer", {})
        lines.append(f"* {check['shape']}, dense: relative L2 error {check['relative']:.2e}, "
                     f"largest {check['largest']:.2e}, against f32 on {check['rows']} rows" +
                     (f"; against {peer['name']} on all: {peer['relative']:.2e}, "
                      f"{peer['largest']:.2e}" if peer else ""))
    lines += [f"* **WRONG: {text}**" for text in report["wrong"]]
    for name, reason in report["missing"].items():
        lines.append(f"* {name}: not measured: {reason}")
    return lines


# ---- Measurement ---------------------------------------------------------------------------------

class Session:
    """All measurements of one call of this script; the report is written after each."""

    def __init__(self, machine, builds, options):
        self.machine, self.builds, self.options = machine, builds, options
        self.deadline = time.monotonic() + options.budget if options.budget else math.inf
        info = builds[0].context.info
        torch, cudnn = machine.torch, machine.torch.backends.cudnn
        self.report = {
            "device": info.name.decode(), "driver": info.driver.decode(),
            "backend": machine.name, "libdraft": builds[0].context.library.version_text(),
            "libraries": [{"name": b.name, "kernels": b.kernels} for b in builds],
            "torch": torch.__version__, "cuda": torch.version.cuda,
            "cudnn": cudnn.version() if cudnn.is_available() else None,
            "results": [], "checks": [], "missing": {}, "wrong": [],
            "complete": False}

    def flush(self):
        if self.options.output:
            part = self.options.output + ".part"
            with open(part, "w", encoding="utf-8") as out:
                json.dump(self.report, out, indent=1)
                out.write("\n")
            os.replace(part, self.options.output)

    def missing(self, name, error):
        reason = error if isinstance(error, str) else reason_of(error)
        self.report["missing"][name] = reason
        print(f"{name}: not measured: {reason}", flush=True)
        self.flush()

    def wrong(self, name, error):
        self.report["wrong"].append(f"{name}: relative error {error['relative']:.2e}, the bound is "
                                    f"{BOUND:.2e}")
        print("WRONG: " + self.report["wrong"][-1], flush=True)

    def late(self):
        return time.monotonic() > self.deadline

    def attempt(self, name, make):
        """What make() gives, prepared; or None, with the reason in the report. make() may raise,
        and so may the call."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return self.machine.prepare(make())
            except Exception as error:  # whatever a peer raises, the others are measured
                self.machine.synchronize()
                said = [str(w.message).splitlines()[0] for w in caught if "ernel" in str(w.message)]
                self.missing(name, "; ".join([reason_of(error)] + said[:3]))
                return None

    def dense_peers(self, case):
        wanted = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION"}
        if self.machine.name == "cpu":
            wanted = {"sdpa": None}
        peers = {}
        for name, backend in wanted.items():
            for of_copies, kind in ((False, ""), (True, " on contiguous copies")):
                prepared = self.attempt(f"{name}{kind}, {case.name}", lambda b=backend, c=of_copies:
                                        case.dense_peer(b, c))
                if prepared:
                    peers[name] = prepared[0], prepared[1] + kind
                    case.needs_copies[name] = of_copies
                    break
        return peers

    def draft_calls(self, plan, case, lists, kind):
        """The stages and the run; for lists of one's own only attend."""
        whole = kind == "draft" and not self.options.attend_only
        stages = dict(libdraft.STAGES, run=0) if whole else {"attend": libdraft.ATTEND}
        workspace, calls = lists.workspace.data_ptr(), {}
        for name, stage in stages.items():
            arguments = plan.arguments(case.addresses(), workspace, stage, self.machine.queue)
            calls[name] = self.machine.prepare(lambda a=arguments: plan.run(a))
        return calls

    def rounds(self, calls):
        """Every call once in each round, every other round backwards."""
        times, end = {name: [] for name in calls}, time.monotonic() + self.options.seconds
        self.machine.one_round(calls)
        for done in range(self.options.rounds):
            if done >= LEAST_ROUNDS and (time.monotonic() > end or self.late()):
                break
            order = calls if done % 2 == 0 else dict(reversed(calls.items()))
            for name, value in self.machine.one_round(order).items():
                times[name].append(value)
        return times

    def check(self, case, plan, lists, rows=32):
        """Attend's result in case.out against f32 over the lists, on some rows of some heads."""
        torch, heads = self.machine.torch, sorted({0, case.shape.heads // 2, case.shape.heads - 1})
        generator = torch.Generator().manual_seed(case.seed)
        tokens = torch.randint(case.tokens, (rows,), generator=generator).to(self.machine.device)
        wanted = case.references(lists.kept_tokens(heads, tokens), heads, tokens)
        got = case.out[0][:, heads].transpose(0, 1)[:, tokens]
        return dict(case.error(got, wanted), rows=rows * len(heads))

    def check_dense(self, case, error, peers):
        """At sparsity 0 the whole result must be dense attention's."""
        entry = dict(error, shape=case.name)
        peer = next((name for name in ("cudnn", "flash", "sdpa") if name in peers), None)
        if peer:
            backend = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION", "sdpa": None}[peer]
            dense = case.dense_peer(backend, case.needs_copies[peer])().transpose(1, 2)
            entry["against_peer"] = dict(case.error(case.out, dense), name=peer)
            if not entry["against_peer"]["relative"] <= BOUND:
                self.wrong(f"{case.name}, dense, against {peer}", entry["against_peer"])
        self.report["checks"].append(entry)

    def facts(self, case, plan, lists, sparsity, kind):
        """What a row says before anything is measured."""
        pairs, blocks = lists.pairs()
        shape, layout = case.shape, plan.layout
        row = {"shape": case.name, "tokens": case.tokens, "heads": shape.heads, "dim": shape.dim,
               "sparsity": sparsity, "lists": kind,
               "scorer": word_of(libdraft.SCORERS, layout.scorer),
               "tail": word_of(libdraft.TAILS, layout.tail),
               "kept": pairs / case.tokens ** 2 / shape.heads,
               "flops": 4.0 * shape.dim * pairs, "blocks": layout.blocks,
               "tile": [layout.tile.t, layout.tile.h, layout.tile.w],
               "kernels": {name: plan.kernel(bit) for name, bit in libdraft.STAGES.items()}}
        if self.options.flex:
            row["flex_flops"] = 4.0 * shape.dim * BLOCK * BLOCK * blocks
        return row

    def flex_calls(self, case, flex):
        calls = {}
        for name, make in (("flex", flex.call), ("permute", lambda: flex.permute)):
            call = self.attempt(f"{name}, {case.name}", make)
            if call:
                calls[name] = call
        return calls

    def checked(self, case, plan, lists, row, peers):
        """row with the error of a run of its kept pairs alone."""
        plan.run(plan.arguments(case.addresses(), lists.workspace.data_ptr(), libdraft.ATTEND,
                                self.machine.queue, libdraft.KEPT_ONLY))
        self.machine.synchronize()
        row["error"] = self.check(case, plan, lists)
        if not row["error"]["relative"] <= BOUND:
            self.wrong(f"{case.name}, sparsity {row['sparsity']:g}, {row['lists']} lists" +
                       (f", {row['library']}" if "library" in row else ""), row["error"])
        if row["sparsity"] == 0:
            self.check_dense(case, row["error"], peers)
        return row

    def rows(self, case, candidates, sparsity, kind, peers, flex):
        """One for each library; candidates: (build, plan, lists)."""
        prepared, names = {}, []
        for number, (_, plan, lists) in enumerate(candidates):
            calls = self.draft_calls(plan, case, lists, kind)
            names = list(calls)
            prepared.update({key_of(number, name): call for name, call in calls.items()})
        prepared.update(peers)
        if flex:
            prepared.update(self.flex_calls(case, flex))
        times = self.rounds({name: call for name, (call, _) in prepared.items()})
        rows = []
        for number, (build, plan, lists) in enumerate(candidates):
            row = self.facts(case, plan, lists, sparsity, kind)
            own = own_times(times, number, names)
            how = {name: how for name, (_, how) in prepared.items()}
            row["how"] = own_times(how, number, names)
            row["times_us"] = {name: summary(values) for name, values in own.items()}
            if len(self.builds) > 1:
                row["library"] = build.name
                row["speed_of_first"] = {name: speed_ratio(times[name], own[name])
                                         for name in names}
            rows.append(derive(self.checked(case, plan, lists, row, peers)))
        return rows

    def candidates(self, case, sparsity):
        """(build, plan, lists) of each library that can make a plan, with the lists of select."""
        found = []
        for build in self.builds:
            try:
                plan = libdraft.Plan(build.context, case.shape, sparsity, kernels=build.kernels,
                                     scorer=libdraft.SCORERS[self.options.scorer],
                                     tail=libdraft.TAILS[self.options.tail])
            except libdraft.Failure as error:
                self.missing(f"{case.name}, sparsity {sparsity:g}, {build.name}", error)
                continue
            lists = Lists(case, plan)
            plan.run(plan.arguments(case.addresses(), lists.workspace.data_ptr(), 0,
                                    self.machine.queue))
            found.append((build, plan, lists))
        return found

    def measure(self, case, sparsity, peers, flex_of):
        """One sparsity: the lists that select makes, then random ones with as many entries."""
        candidates = self.candidates(case, sparsity)
        try:
            flex = flex_of(candidates[0][2]) if candidates else None
            for kind in self.options.lists if candidates else ():
                name = f"{case.name}, sparsity {sparsity:g}, {kind} lists"
                if kind == "random" and sparsity == 0:
                    continue  # the same lists
                if self.late():
                    self.missing(name, "the time of --budget is used up")
                    continue
                for _, _, lists in candidates if kind == "random" else ():
                    lists.write_random(sparsity, case.seed)
                for row in self.rows(case, candidates, sparsity, kind, peers, flex):
                    self.report["results"].append(row)
                    print(f"{name}: " + (f"{row['library']}: " if "library" in row else "") +
                          f"attend {row['tflops']['attend']:.1f} TFLOP/s, " +
                          ", ".join(f"{n} {t['median']:.0f} us"
                                    for n, t in row["times_us"].items()), flush=True)
                self.flush()
            self.machine.synchronize()
        finally:
            for _, plan, _ in candidates:
                plan.close()

    def run_shape(self, name):
        shape = shape_of(name, self.options.dim)
        size = 2 * libdraft.tokens_of(shape) * shape.heads * shape.dim
        blocks = libdraft.tokens_of(shape) // 100  # blocks of the default tile hold more
        need = 16 * size + 24 * shape.heads * blocks ** 2
        free = self.machine.memory_free()
        if need > free:
            self.missing(name, f"it may need {need / 2**30:.0f} GiB, {free / 2**30:.0f} are free")
            return
        case = Case(self.machine, name, shape, self.options.seed)
        peers = self.dense_peers(case) if self.options.peers else {}
        flex = []

        def flex_of(lists):
            """One for the shape: the blocks are the same at each sparsity."""
            if self.options.flex and not flex:
                try:
                    flex.append(Flex(case, lists))
                except Exception as error:
                    self.missing(f"flex, {name}", error)
                    flex.append(None)
            if flex and flex[0]:
                flex[0].lists = lists
            return flex[0] if flex else None

        for sparsity in self.options.sparsity:
            self.measure(case, sparsity, peers, flex_of)

    def run(self):
        failed = False
        for name in self.options.shapes:
            if self.late():
                self.missing(name, "the time of --budget is used up")
                continue
            try:
                self.run_shape(name)
            except Exception as error:  # out of memory, a driver's error: the rest may still go
                self.missing(name, error)
                failed = True
        self.report["complete"] = not self.report["missing"]
        self.flush()
        print("\n".join([""] + markdown(self.report)))
        return 1 if failed or self.report["wrong"] or not self.report["results"] else 0


# ---- Command line --------------------------------------------------------------------------------

def parse(arguments):
    def names(text):
        return [name for name in text.split(",") if name]

    def numbers(text):
        return [float(number) for number in names(text)]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--library", action="append", metavar="[NAME=]FILE[:KERNELS]", help="more than once to "
        "compare them; KERNELS: names by commas, as DRAFT_KERNEL (default build/libdraft.so)")
    add("--backend", choices=("cuda", "cpu"), default="cuda")
    add("--device", type=int, default=0, help="number of the device")
    add("--shapes", type=names, default=list(TABLE), help="of " + ", ".join(SHAPES))
    add("--quick", action="store_true", help="small shapes: " + ", ".join(QUICK))
    add("--sparsity", type=numbers, default=list(SPARSITIES), help="default 0,0.5,0.75,0.9,0.95")
    add("--lists", type=names, default=["draft", "random"], help="draft, random; default both")
    add("--scorer", choices=("mean", "lse", "max", "excess", "default"), default="mean",
        help="default: the library's, as for --tail")
    add("--tail", choices=("drop", "mean", "gap", "default"), default="drop",
        help="but for drop, with the lists of the draft alone, since random ones have no bias")
    add("--dim", type=int, default=0, help="of a head, in place of the shape's")
    add("--rounds", type=int, default=15, help="most rounds of one measurement (default 15)")
    add("--seconds", type=float, default=6, help="begin no further round after this (default 6)")
    add("--budget", type=float, default=0, help="begin no measurement after these seconds")
    add("--seed", type=int, default=1)
    add("--attend-only", action="store_true", help="no other stage is timed")
    add("--no-peers", dest="peers", action="store_false", help="without dense attention")
    add("--no-flex", dest="flex", action="store_false", help="without FlexAttention")
    add("--output", help="the report, JSON; written after each measurement")
    add("--self-test", action="store_true", help="check this script itself")
    options = parser.parse_args(arguments)
    options.library = options.library or [os.path.join("build", "libdraft.so")]
    if options.tail != "drop":
        options.lists = ["draft"]
    if options.quick:
        options.shapes = list(QUICK)
    for name in options.shapes:
        if name not in SHAPES:
            parser.error(f"--shapes: {name} is none of {', '.join(SHAPES)}")
    return options


def main(arguments):
    options = parse(arguments)
    builds = builds_of(options.library)
    if options.self_test:
        import gpu_compare_test
        return gpu_compare_test.run(libdraft.Library(builds[0].path))
    try:
        import torch
    except ImportError as error:
        print(f"PyTorch is missing: {error}")
        return 77
    torch.backends.cuda.matmul.allow_tf32 = False
    if options.backend == "cuda" and not torch.cuda.is_available():
        print("this PyTorch sees no CUDA device")
        return 77
    machine = {"cuda": CudaMachine, "cpu": CpuMachine}[options.backend](torch, options.device)
    for build in builds:
        build.context = machine.open(libdraft.Library(build.path))
    with torch.no_grad():
        return Session(machine, builds, options).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
