"""The MNIST network of `tessera train mnist --model cnn` in PyTorch, for bench_train: reads a number of steps a line, trains so many
on random images of MNIST's shape, and answers with the seconds they took. The first line that it prints is the version."""
import sys
import time

import torch
from torch import nn

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
torch.manual_seed(1)
model = nn.Sequential(
    nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_of = nn.CrossEntropyLoss()
images = torch.randn(8, 64, 1, 28, 28)
labels = torch.randint(0, 10, (8, 64))
print(torch.__version__, flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    for step in range(int(line)):
        optimizer.zero_grad()
        loss = loss_of(model(images[step % 8]), labels[step % 8])
        loss.backward()
        optimizer.step()
    print(time.perf_counter() - begin, flush=True)
