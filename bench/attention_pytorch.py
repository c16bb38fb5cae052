"""Attention composed of matmul and softmax in PyTorch, forward and backward, for bench_attention: reads batch, heads, sequence, width,
causal (0 or 1) and a number of turns a line, and answers with the seconds that they took. The first line that it prints is the version."""
import math
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(1)
print(torch.__version__, flush=True)
for line in sys.stdin:
    batch, heads, sequence, width, causal, turns = map(int, line.split())
    q, k, v, dy = (torch.randn(batch, heads, sequence, width) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    mask = torch.full((sequence, sequence), -math.inf).triu(1) if causal else None
    begin = time.perf_counter()
    for turn in range(turns):
        q.grad = k.grad = v.grad = None
        scores = q @ k.transpose(-2, -1) / math.sqrt(width)
        if mask is not None:
            scores = scores + mask
        (torch.softmax(scores, -1) @ v).backward(dy)
    print(time.perf_counter() - begin, flush=True)
