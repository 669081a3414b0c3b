"""The same model in flax, for the audit: the layers of my_net.py, channels last."""

from flax import linen as nn


class Net(nn.Module):
    """A small network for 32 x 32 images, ten classes."""

    @nn.compact
    def __call__(self, x):
        """`[N, 32, 32, 3]` to `[N, 10]`."""
        x = nn.sigmoid(nn.Conv(12, (5, 5), strides=2, padding=2)(x))
        x = nn.sigmoid(nn.Conv(12, (5, 5), strides=2, padding=2)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))
