"""The client's model in PyTorch."""

import torch
from torch import nn


class Net(nn.Module):
    """A small network for 32 x 32 images, ten classes."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
        )
        self.classifier = nn.Linear(12 * 8 * 8, 10)

    def forward(self, x):
        """`[N, 3, 32, 32]` to `[N, 10]`."""
        return self.classifier(torch.flatten(self.features(x), 1))
