# SPDX-License-Identifier: MIT
"""libdraft from Python, by ctypes alone: the structures of include/draft/draft.h and cuda.h, and
thin classes over the calls. For the scripts of this folder; no package is needed."""
import contextlib
import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_float, c_int, c_size_t
from ctypes import c_char, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

F16, BF16, F32 = 1, 2, 3
POOL, SCORE, SELECT, ATTEND = 1, 2, 4, 8
RULES = {"default": 0, "head": 1, "row": 2, "mass": 3, "paper": 4}
STAGES = {"pool": POOL, "score": SCORE, "select": SELECT, "attend": ATTEND}
SCORERS = {"default": 0, "mean": 1, "lse": 2, "max": 3, "excess": 4}
TAILS = {"default": 0, "drop": 1, "mean": 2, "gap": 3, "fitted": 4}
KEPT_ONLY = 1  # of the flags of a run
WARN, INFO = 1, 2  # levels of the log
UNSUPPORTED = "not supported"  # a status, in words
TEXT_BLOCK = 128  # tokens of a text block, but for the last of its part

MESSAGE = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class Log(Structure):
    _fields_ = [("message", MESSAGE), ("user", c_void_p), ("level", c_int)]


class DeviceInfo(Structure):
    _fields_ = [("backend", c_char_p), ("index", c_uint32), ("software", c_uint32),
                ("name", c_char * 128), ("driver", c_char * 128), ("uuid", c_uint8 * 16),
                ("memory", c_uint64), ("types", c_uint32), ("attend", c_char * 32)]


class ContextParams(Structure):
    _fields_ = [("backend", c_char_p), ("device", c_uint32), ("device_name", c_char_p),
                ("native", c_void_p), ("threads", c_uint32), ("log", Log)]


class CudaNative(Structure):
    _fields_ = [("context", c_void_p), ("stream", c_void_p)]


class Shape(Structure):
    _fields_ = [(name, c_uint32) for name in ("batch", "prefix", "frames", "height", "width",
                                              "suffix", "heads", "kv_heads", "dim")]


class Tile(Structure):
    _fields_ = [(name, c_uint32) for name in "thw"]


class PlanParams(Structure):
    _fields_ = [("shape", Shape), ("type", c_int), ("tile", Tile), ("rule", c_int),
                ("sparsity", c_double), ("head_sparsity", POINTER(c_double)), ("mass", c_double),
                ("force", c_uint32), ("scale", c_float), ("scorer", c_int), ("tail", c_int),
                ("row_floor", c_double)]


class Layout(Structure):
    _fields_ = [("size", c_uint64), ("alignment", c_uint64), ("rule", c_int), ("scorer", c_int),
                ("tail", c_int), ("tile", Tile)] + \
        [(name, c_uint32) for name in ("tiles_t", "tiles_h", "tiles_w", "prefix_blocks",
                                       "video_blocks", "suffix_blocks", "blocks")] + \
        [(name, c_uint64) for name in ("tokens", "pooled_q", "pooled_k", "pooled_v", "map",
                                       "counts", "lists", "order", "quarters", "bias",
                                       "bias_stride", "moment_q", "moment_k", "tail_k", "tail_v",
                                       "factors", "parts_q", "parts_k")]


class Tensor(Structure):
    _fields_ = [(name, c_uint64) for name in ("data", "batch_stride", "token_stride",
                                              "head_stride")]


class RunParams(Structure):
    _fields_ = [("q", Tensor), ("k", Tensor), ("v", Tensor), ("out", Tensor), ("lse", c_uint64),
                ("workspace", c_uint64), ("valid", c_uint64), ("stages", c_uint32),
                ("queue", c_void_p), ("chunk", c_uint32), ("chunks", c_uint32),
                ("flags", c_uint32)]


class Density(Structure):
    _fields_ = [("video", c_double), ("work", c_double), ("flops", c_double),
                ("kept_pairs", c_uint64), ("empty_rows", c_uint64), ("tail", c_double)]


class ProbeParams(Structure):
    _fields_ = [("seed", c_uint64), ("blocks", c_uint32)]


class Probe(Structure):
    _fields_ = [("error", c_double), ("factor", c_double)]


FUNCTIONS = {
    "draft_version": (c_uint32, []),
    "draft_status_name": (c_char_p, [c_int]),
    "draft_devices": (c_int, [POINTER(Log), POINTER(DeviceInfo), POINTER(c_size_t)]),
    "draft_context_create": (c_int, [POINTER(ContextParams), POINTER(c_void_p)]),
    "draft_context_destroy": (None, [POINTER(c_void_p)]),
    "draft_context_device": (None, [c_void_p, POINTER(DeviceInfo)]),
    "draft_alloc": (c_int, [c_void_p, c_size_t, POINTER(c_uint64)]),
    "draft_free": (None, [c_void_p, c_uint64]),
    "draft_write": (c_int, [c_void_p, c_uint64, c_void_p, c_size_t]),
    "draft_read": (c_int, [c_void_p, c_void_p, c_uint64, c_size_t]),
    "draft_plan_create": (c_int, [c_void_p, POINTER(PlanParams), POINTER(c_void_p)]),
    "draft_plan_destroy": (None, [POINTER(c_void_p)]),
    "draft_plan_layout": (None, [c_void_p, POINTER(Layout)]),
    "draft_run": (c_int, [c_void_p, POINTER(RunParams)]),
    "draft_wait": (c_int, [c_void_p]),
    "draft_lists_write": (c_int, [c_void_p, c_uint64, POINTER(c_uint32), POINTER(c_uint16)]),
    "draft_factors_write": (c_int, [c_void_p, c_uint64, POINTER(c_float)]),
    "draft_density_read": (c_int, [c_void_p, c_uint64, POINTER(Density)]),
    "draft_probe_run": (c_int, [c_void_p, POINTER(RunParams), POINTER(ProbeParams),
                                POINTER(Probe)]),
    "draft_probe_sparsities": (c_int, [POINTER(c_double), POINTER(c_double), c_uint32, c_uint32,
                                       c_double, POINTER(c_double)]),
    "draft_plan_kernel": (c_char_p, [c_void_p, c_int]),
}


class Failure(Exception):
    """A call that failed, with what the log said."""


class Library:
    """The shared library, its functions with their types."""

    def __init__(self, path):
        self.path = path
        library = ctypes.CDLL(path)
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name[len("draft_"):], function)

    def list_devices(self):
        """Every device of every backend, as a list of DeviceInfo."""
        count = c_size_t()
        status = self.devices(None, None, byref(count))
        infos = (DeviceInfo * max(1, count.value))()
        status = status or self.devices(None, infos, byref(count))
        if status:
            raise Failure(self.status_name(status).decode())
        return list(infos)[:count.value]

    def sparsities(self, errors, sparsities, mean):
        """One for each head, from the errors that probes found: errors[head][level] belongs to
        sparsities[level]."""
        heads, levels = len(errors), len(sparsities)
        flat = [error for head in errors for error in head]
        if len(flat) != heads * levels:
            raise ValueError("each head needs an error for each sparsity")
        out = (c_double * heads)()
        status = self.probe_sparsities((c_double * len(flat))(*flat),
                                       (c_double * levels)(*sparsities), levels, heads, mean, out)
        if status:
            raise Failure(self.status_name(status).decode())
        return list(out)

    def version_text(self):
        number = self.version()
        return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Context:
    """A device in use. native: a CudaNative whose context is adopted, or None. level: of the log."""

    def __init__(self, library, backend, device=0, native=None, level=WARN):
        self.library, self.messages = library, []
        # The library calls through these as long as the context lives.
        self.message = MESSAGE(lambda user, level, text: self.messages.append(text.decode()))
        self.handle = c_void_p()
        params = ContextParams(
            backend=backend.encode(), device=device, log=Log(self.message, None, level),
            native=ctypes.cast(byref(native), c_void_p) if native is not None else None)
        self.check(library.context_create(byref(params), byref(self.handle)))
        self.info = DeviceInfo()
        library.context_device(self.handle, byref(self.info))

    def check(self, status):
        if status:
            text = "; ".join(self.messages[-3:])
            raise Failure(f"{self.library.status_name(status).decode()}: {text}")

    def alloc(self, size):
        address = c_uint64()
        self.check(self.library.alloc(self.handle, size, byref(address)))
        return address.value

    def free(self, address):
        self.library.free(self.handle, address)

    def write(self, address, data):
        """data: an instance of a ctypes array."""
        self.check(self.library.write(self.handle, address, data, ctypes.sizeof(data)))

    def read(self, address, kind, count):
        data = (kind * count)()
        self.check(self.library.read(self.handle, data, address, ctypes.sizeof(data)))
        return data

    def wait(self):
        self.check(self.library.wait(self.handle))

    def close(self):
        self.library.context_destroy(byref(self.handle))


@contextlib.contextmanager
def kernels_limited(names):
    """Plans that are made meanwhile choose from these kernels, by commas; None: as they would."""
    before = os.environ.get("DRAFT_KERNEL")
    if names is not None:
        os.environ["DRAFT_KERNEL"] = names
    try:
        yield
    finally:
        os.environ.pop("DRAFT_KERNEL", None)
        if before is not None:
            os.environ["DRAFT_KERNEL"] = before


class Plan:
    """A plan, its layout, and runs of it. kernels: as kernels_limited has them."""

    def __init__(self, context, shape, sparsity, kind=BF16, tile=(0, 0, 0), kernels=None, **more):
        self.context, self.library, self.shape = context, context.library, shape
        params = PlanParams(shape=shape, type=kind, tile=Tile(*tile), sparsity=sparsity, **more)
        self.handle = c_void_p()
        with kernels_limited(kernels):
            status = self.library.plan_create(context.handle, byref(params), byref(self.handle))
        context.check(status)
        self.layout = Layout()
        self.library.plan_layout(self.handle, byref(self.layout))

    def kernel(self, stage):
        return self.library.plan_kernel(self.handle, stage).decode()

    def arguments(self, addresses, workspace, stages=0, queue=None, flags=0):
        """What run takes. addresses: of q, k, v and out, packed."""
        q, k, v, out = (Tensor(data=address) for address in addresses)
        return RunParams(q=q, k=k, v=v, out=out, workspace=workspace, stages=stages, queue=queue,
                         flags=flags)

    def run(self, arguments):
        self.context.check(self.library.run(self.handle, byref(arguments)))

    def write_lists(self, workspace, counts, lists):
        self.context.check(self.library.lists_write(self.handle, workspace, counts, lists))

    def write_factors(self, workspace, factors=None):
        """factors: one for each head of each sample; None: all 0."""
        count = max(1, self.shape.batch) * self.shape.heads
        if factors is not None and len(factors) != count:
            raise ValueError(f"{len(factors)} factors for {count} heads")
        array = (c_float * count)(*factors) if factors is not None else None
        self.context.check(self.library.factors_write(self.handle, workspace, array))

    def probe(self, arguments, seed=0, blocks=0):
        """A Probe for each head of each sample, and its factor in the workspace."""
        out = (Probe * (max(1, self.shape.batch) * self.shape.heads))()
        self.context.check(self.library.probe_run(self.handle, byref(arguments),
                                                  byref(ProbeParams(seed, blocks)), out))
        return list(out)

    def density(self, workspace):
        density = Density()
        self.context.check(self.library.density_read(self.handle, workspace, byref(density)))
        return density

    def close(self):
        self.library.plan_destroy(byref(self.handle))


# ---- Blocks: what the header says of their numbers, in Python -----------------------------------

def tokens_of(shape):
    return shape.prefix + shape.frames * shape.height * shape.width + shape.suffix


def text_blocks(first, tokens):
    """Text of one part, cut into blocks."""
    return [list(range(start, min(start + TEXT_BLOCK, first + tokens)))
            for start in range(first, first + tokens, TEXT_BLOCK)]


def block_tokens(shape, layout):
    """The tokens of each block of a sample: prefix, video in raster order of tiles, suffix."""
    video = shape.frames * shape.height * shape.width
    blocks = text_blocks(0, shape.prefix)
    tile = layout.tile
    for t in range(0, shape.frames, tile.t):
        for h in range(0, shape.height, tile.h):
            for w in range(0, shape.width, tile.w):
                blocks.append([shape.prefix + (a * shape.height + b) * shape.width + c
                               for a in range(t, min(t + tile.t, shape.frames))
                               for b in range(h, min(h + tile.h, shape.height))
                               for c in range(w, min(w + tile.w, shape.width))])
    return blocks + text_blocks(shape.prefix + video, shape.suffix)
