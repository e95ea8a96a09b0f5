# SPDX-License-Identifier: MIT
"""What gpu_compare.py does with PyTorch: machines that time calls, the tensors of one shape with
their dense peers, lists in a workspace, FlexAttention. PyTorch itself is passed in."""
import ctypes
import math
import time

import libdraft

BLOCK = 128              # tokens of a full block
# More than any L2 cache holds; and takes longer than the host needs to start what comes after it.
FLUSH_BYTES = 1 << 30
PIECE = 8192             # rows whose errors are summed at once


def reason_of(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:300]


class CudaMachine:
    """PyTorch's primary context and one stream of it, which libdraft and all peers use."""
    name = "cuda"

    def __init__(self, torch, device):
        self.torch, self.device, self.number = torch, torch.device("cuda", device), device
        torch.cuda.set_device(self.device)
        self.stream = torch.cuda.Stream()
        torch.cuda.set_stream(self.stream)
        self.flush = torch.zeros(FLUSH_BYTES, dtype=torch.uint8, device=self.device)
        current = ctypes.c_void_p()
        if ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(current)) or not current.value:
            raise RuntimeError("PyTorch has no current CUDA context")
        self.queue = self.stream.cuda_stream
        self.native = libdraft.CudaNative(current.value, self.queue)

    def open(self, library):
        return libdraft.Context(library, "cuda", self.number, self.native)

    def synchronize(self):
        self.torch.cuda.synchronize()

    def memory_free(self):
        self.torch.cuda.empty_cache()
        return self.torch.cuda.mem_get_info()[0]

    def prepare(self, call):
        """call as a graph where it can be captured; and "graph", or why not."""
        for _ in range(2):
            call()
        self.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        try:
            with self.torch.cuda.graph(graph, stream=self.stream):
                call()
        except (RuntimeError, libdraft.Failure) as error:
            self.synchronize()
            return call, "not captured: " + reason_of(error)
        graph.replay()
        self.synchronize()
        return graph.replay, "graph"

    def one_round(self, calls):
        """Microseconds of each call, one after the other."""
        event = self.torch.cuda.Event
        events = {name: (event(enable_timing=True), event(enable_timing=True)) for name in calls}
        for name, call in calls.items():
            self.flush.zero_()
            events[name][0].record()
            call()
            events[name][1].record()
        self.synchronize()
        return {name: 1e3 * start.elapsed_time(end) for name, (start, end) in events.items()}


class CpuMachine:
    """The CPU backend on PyTorch's host memory: to try this script without a GPU."""
    name = "cpu"

    def __init__(self, torch, device):
        self.torch, self.device, self.queue = torch, torch.device("cpu"), None
        self.number = device

    def open(self, library):
        return libdraft.Context(library, "cpu", self.number)

    def synchronize(self):
        pass

    def memory_free(self):
        return 8 << 30

    def prepare(self, call):
        call()
        return call, "call"

    def one_round(self, calls):
        times = {}
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name] = 1e6 * (time.perf_counter() - start)
        return times


# ---- One shape -----------------------------------------------------------------------------------

class Case:
    """The tensors of one shape, and what the peers make of them."""

    def __init__(self, machine, name, shape, seed):
        self.machine, self.torch, self.name, self.shape = machine, machine.torch, name, shape
        self.tokens = libdraft.tokens_of(shape)
        self.seed = seed
        self.needs_copies = {}  # of the dense peers
        self.make_inputs()

    def make_inputs(self):
        """Noise, and for q and k waves over the grid, of other lengths in each head: near tokens
        attend to each other, as in video models."""
        torch, s, device = self.torch, self.shape, self.machine.device
        generator = torch.Generator(device=device).manual_seed(self.seed)
        axes = [torch.linspace(0, 1, n, device=device) for n in (s.frames, s.height, s.width)]
        place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        size = (1, self.tokens, s.heads, s.dim)
        self.q, self.k, self.v, self.out = (
            torch.empty(size, dtype=torch.bfloat16, device=device) for _ in range(4))
        video = slice(s.prefix, s.prefix + place.shape[0])
        for head in range(s.heads):
            spread = 2.0 + 14.0 * head / s.heads
            angle = place @ (spread * torch.randn(3, s.dim // 2, generator=generator,
                                                  device=device))
            waves = torch.cat((angle.cos(), angle.sin()), -1)
            for tensor in (self.q, self.k, self.v):
                values = torch.randn(self.tokens, s.dim, generator=generator, device=device)
                if tensor is not self.v:
                    values[video] += waves
                tensor[0, :, head] = values

    def addresses(self):
        return [tensor.data_ptr() for tensor in (self.q, self.k, self.v, self.out)]

    def dense_peer(self, backend, of_copies=False):
        """A call of scaled_dot_product_attention. backend: a name of SDPBackend, or None for any.
        The tensors are views of the library's, [1, heads, tokens, dim] by strides; or copies, for a
        backend that takes no such strides."""
        functional = self.torch.nn.functional
        q, k, v = (tensor.transpose(1, 2) for tensor in (self.q, self.k, self.v))
        if of_copies:
            q, k, v = (tensor.contiguous() for tensor in (q, k, v))

        def any_backend():
            return functional.scaled_dot_product_attention(q, k, v)
        if backend is None:
            return any_backend
        from torch.nn.attention import SDPBackend, sdpa_kernel
        chosen = getattr(SDPBackend, backend)

        def call():
            with sdpa_kernel(chosen):
                return any_backend()
        return call

    def references(self, kept, heads, rows):
        """Attention in f32 of some rows of some heads: [heads, rows, dim]. kept: None, or for each
        of the heads and rows the tokens that count, [heads, rows, tokens]."""
        torch = self.torch
        q, k, v = (t[0][:, heads].float().transpose(0, 1) for t in (self.q, self.k, self.v))
        logits = q[:, rows] @ k.transpose(1, 2) / math.sqrt(self.shape.dim)
        if kept is not None:
            logits = logits.masked_fill(~kept, -math.inf)
        return torch.softmax(logits, -1) @ v

    def error(self, got, wanted):
        """Relative L2 and largest absolute difference; NaN makes the first NaN. In pieces, since
        f32 takes twice the memory."""
        square = total = largest = 0.0
        for a, b in zip(got.split(PIECE, 1), wanted.split(PIECE, 1)):
            difference = a.float() - b.float()
            square += float(difference.square().sum())
            total += float(b.float().square().sum())
            largest = max(largest, float(difference.abs().max()))
        return {"relative": math.sqrt(square / total), "largest": largest}


class Lists:
    """The lists in a workspace, as tensors."""

    def __init__(self, case, plan):
        self.case, self.plan, self.torch = case, plan, case.torch
        layout, device = plan.layout, case.machine.device
        self.heads, self.blocks = case.shape.heads, layout.blocks
        memory = self.torch.zeros(layout.size + layout.alignment, dtype=self.torch.uint8,
                                  device=device)
        self.workspace = memory[-memory.data_ptr() % layout.alignment:][:layout.size]
        self.members = libdraft.block_tokens(case.shape, layout)
        self.sizes = self.torch.tensor([len(tokens) for tokens in self.members], device=device)
        self.block_of = self.torch.empty(case.tokens, dtype=self.torch.int64)
        for block, tokens in enumerate(self.members):
            self.block_of[tokens] = block
        self.block_of = self.block_of.to(device)

    def view(self, offset, kind, shape):
        count = math.prod(shape) * kind.itemsize
        return self.workspace[offset:offset + count].view(kind).view(shape)

    def views(self):
        h, b, layout, torch = self.heads, self.blocks, self.plan.layout, self.torch
        return (self.view(layout.counts, torch.int32, (h, b)),
                self.view(layout.lists, torch.int16, (h, b, b)),
                self.view(layout.order, torch.int16, (h, b)))

    def write_random(self, sparsity, seed):
        """As random_lists, on the device; and the work order that belongs to them."""
        torch, layout, device = self.torch, self.plan.layout, self.case.machine.device
        generator = torch.Generator(device=device).manual_seed(seed)
        first, count = layout.prefix_blocks, layout.video_blocks
        kept = max(1, round((1 - sparsity) * count))
        counts, lists, order = self.views()
        for head in range(self.heads):
            chosen = torch.ones(self.blocks, self.blocks, dtype=torch.bool, device=device)
            score = torch.rand(count, count, generator=generator, device=device)
            video = torch.zeros_like(score, dtype=torch.bool)
            video.scatter_(1, score.topk(kept, 1).indices, True)
            chosen[first:first + count, first:first + count] = video
            total = chosen.sum(1)
            # Kept blocks sort before the others, ascending.
            blocks = torch.arange(self.blocks, device=device)
            keys = torch.where(chosen, blocks, blocks + self.blocks).sort(1).values
            counts[head] = total.to(torch.int32)
            lists[head] = (keys % self.blocks).to(torch.int16)
            order[head] = total.sort(descending=True, stable=True).indices.to(torch.int16)

    def read(self):
        """counts, and lists as int32 whose unused places hold 0."""
        torch = self.torch
        counts, lists, _ = self.views()
        used = torch.arange(self.blocks, device=counts.device) < counts[..., None]
        return counts, torch.where(used, lists.to(torch.int32) & 0xffff, 0), used

    def pairs(self):
        """Kept pairs of tokens, and of blocks."""
        counts, lists, used = self.read()
        total = 0
        for head in range(self.heads):
            keys = self.sizes[lists[head].long()].where(used[head], 0).sum(1)
            total += int((keys * self.sizes).sum())
        return total, int(counts.sum())

    def kept_tokens(self, heads, rows):
        """[heads, rows, tokens]: what the rows of these tokens attend to."""
        _, lists, used = self.read()
        masks = []
        for head in heads:
            kept = self.torch.zeros(self.blocks, self.blocks, dtype=self.torch.bool,
                                    device=lists.device)
            row, place = used[head].nonzero(as_tuple=True)
            kept[row, lists[head][row, place].long()] = True
            masks.append(kept[self.block_of[rows]][:, self.block_of])
        return self.torch.stack(masks)


class Flex:
    """FlexAttention: tokens in block order, each block padded to 128 tokens."""

    def __init__(self, case, lists):
        torch = case.torch
        from torch.nn.attention import flex_attention
        self.module, self.case, self.lists, self.torch = flex_attention, case, lists, torch
        # A block is padded with its own first token again: FlexAttention computes full blocks.
        index = [token for block in lists.members
                 for token in block + [block[0]] * (BLOCK - len(block))]
        self.index = torch.tensor(index, device=case.machine.device)
        self.q, self.k, self.v = (case.__dict__[name][:, self.index].transpose(1, 2).contiguous()
                                  for name in "qkv")
        torch.compiler.reset()  # it compiles anew for each shape only so many times
        self.compiled = torch.compile(flex_attention.flex_attention, dynamic=False)

    def call(self):
        counts, lists, _ = self.lists.read()
        none = self.torch.zeros_like(counts)[None]
        mask = self.module.BlockMask.from_kv_blocks(
            none, self.torch.zeros_like(lists)[None], counts.clone()[None], lists[None],
            BLOCK_SIZE=BLOCK)
        return lambda: self.compiled(self.q, self.k, self.v, block_mask=mask)

    def permute(self):
        """Gather of q, k and v into block order, scatter of the result."""
        for tensor in (self.case.q, self.case.k, self.case.v):
            gathered = tensor.index_select(1, self.index)
        self.case.out.index_copy_(1, self.index, gathered)
