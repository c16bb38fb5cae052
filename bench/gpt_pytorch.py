"""GPT-2's architecture in PyTorch, for bench_gpt_train. Arguments: threads, and a folder with weights.safetensors and tokens.bin (bytes: steps × batch ×
(context + 1)). Lines: "model LAYERS HEADS BATCH CONTEXT WEIGHT_DECAY" begins a training, "train LR" trains the next step; each is answered with
"SECONDS LOSS". The first line printed is PyTorch's version."""
import json
import math
import struct
import sys
import time

import numpy
import torch
from torch.nn import functional as F

torch.set_num_threads(int(sys.argv[1]))
print(torch.__version__, flush=True)


def load(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    return {name: torch.from_numpy(numpy.frombuffer(data[e["data_offsets"][0]:e["data_offsets"][1]], numpy.float32)
                                   .reshape(e["shape"]).copy()).requires_grad_()
            for name, e in header.items() if name != "__metadata__"}


def attention(q, k, v, mask):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.size(-1))
    return F.softmax(scores.masked_fill(mask, -math.inf), dim=-1) @ v


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])


def project(w, name, x):  # published weights are [in, out]
    return torch.addmm(w[name + ".bias"], x.view(-1, x.size(-1)), w[name + ".weight"]).view(*x.shape[:-1], -1)


def forward(w, layers, heads, x, mask):
    batch, tokens = x.shape
    y = F.embedding(x, w["wte.weight"]) + w["wpe.weight"][:tokens]
    for i in range(layers):
        h = "h.%d." % i
        q, k, v = [t.view(batch, tokens, heads, -1).transpose(1, 2)
                   for t in project(w, h + "attn.c_attn", norm(w, h + "ln_1", y)).chunk(3, dim=-1)]
        a = attention(q, k, v, mask).transpose(1, 2).reshape(batch, tokens, -1)
        y = y + project(w, h + "attn.c_proj", a)
        m = F.gelu(project(w, h + "mlp.c_fc", norm(w, h + "ln_2", y)), approximate="tanh")
        y = y + project(w, h + "mlp.c_proj", m)
    return norm(w, "ln_f", y) @ w["wte.weight"].t()


class Training:
    def __init__(self, folder, layers, heads, batch, context, decay):
        self.weights = load(folder + "/weights.safetensors")
        self.layers, self.heads = layers, heads
        tokens = numpy.fromfile(folder + "/tokens.bin", numpy.uint8).reshape(-1, batch, context + 1)
        self.tokens = torch.from_numpy(tokens)
        self.mask = torch.ones(context, context, dtype=torch.bool).triu(1)
        matrices = [w for w in self.weights.values() if w.dim() >= 2]
        others = [w for w in self.weights.values() if w.dim() < 2]
        self.optimizer = torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0.0}], lr=1e-3,
                                           weight_decay=decay)
        self.step = 0

    def train(self, rate):
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        begin = time.perf_counter()
        window = self.tokens[self.step % len(self.tokens)].long()
        self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        logits = forward(self.weights, self.layers, self.heads, window[:, :-1], self.mask)
        loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), window[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        value = loss.item()
        return time.perf_counter() - begin, value


training = None
for line in sys.stdin:
    words = line.split()
    if words[0] == "model":
        training = Training(sys.argv[2], *map(int, words[1:5]), float(words[5]))
        print("1 1", flush=True)
    else:
        print("%.9f %.9g" % training.train(float(words[1])), flush=True)
