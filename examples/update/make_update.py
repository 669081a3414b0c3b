"""A client in PyTorch: takes one step on one picture and saves what it would send.

python make_update.py            # needs torch and safetensors
"""

import numpy as np
import torch
from my_net import Net
from safetensors.torch import save_file


def picture() -> np.ndarray:
    """A made-up photograph: soft spots of colour, `[32, 32, 3]` in [0, 1]."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[:32, :32] / 32
    image = np.full((32, 32, 3), 0.15)
    for _ in range(6):
        y, x, width = *rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
        image += spot[..., None] * rng.uniform(0, 0.6, 3)
    return np.clip(image, 0, 1)


def main() -> None:
    """Writes before.safetensors, after.safetensors and truth.npz."""
    torch.manual_seed(0)
    net = Net()
    # Wider than PyTorch's own start, as in Deep Leakage from Gradients: easy to attack.
    for weights in net.parameters():
        torch.nn.init.uniform_(weights, -0.5, 0.5)
    save_file(net.state_dict(), "before.safetensors")

    image, label = picture(), torch.tensor([3])
    inputs = torch.tensor((image - 0.5) / 0.25, dtype=torch.float32).permute(2, 0, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = torch.nn.functional.cross_entropy(net(inputs[None]), label)
    loss.backward()
    optimizer.step()
    save_file(net.state_dict(), "after.safetensors")
    np.savez(
        "truth.npz", x=np.round(255 * image[None]).astype(np.uint8), y=label.numpy()
    )


if __name__ == "__main__":
    main()
