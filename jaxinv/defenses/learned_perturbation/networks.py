"""The networks: small convolutional ones, for images of 28 or 32 pixels a side.

All of them are smooth (GELU), so that derivatives through them are those of a finite
difference, and take or give pixels in [0, 1]. Sizes are ours; see `perturber`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxinv_kernels.conv import conv_general_dilated

DOWN = 4
"""How many pixels of a side one position of the latent stands for."""


class Encoder(nn.Module):
    """Two convolutions of stride 2 and one that makes the latent."""

    width: int
    """Channels of the first convolution; the second has twice as many."""
    latent: int
    """Channels of the latent."""

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, H / 4, W / 4, latent]`."""
        x = nn.gelu(_conv(self.width, stride=2, name="conv0")(pixels))
        x = nn.gelu(_conv(2 * self.width, stride=2, name="conv1")(x))
        return _conv(self.latent, name="latent")(x)


class Decoder(nn.Module):
    """Convolutions whose channels become pixels, twice."""

    width: int
    """Channels at half the size of the image; twice as many at a quarter."""
    channels: int
    """C of the image."""

    @nn.compact
    def __call__(self, latent: jax.Array) -> jax.Array:
        """`[N, H / 4, W / 4, latent]` to the logits of `[N, H, W, C]`."""
        x = nn.gelu(_conv(2 * self.width, name="conv0")(latent))
        x = nn.gelu(spread(_conv(4 * self.width, name="conv1")(x)))
        return spread(_conv(4 * self.channels, name="pixels")(x))


class Shift(nn.Module):
    """Where to the latent is moved, before the bound."""

    width: int
    """Channels of the hidden layers."""
    outputs: int
    """Channels of the result."""

    @nn.compact
    def __call__(self, latent: jax.Array) -> jax.Array:
        """`[N, h, w, D]` to `[N, h, w, outputs]`."""
        x = nn.gelu(_conv(2 * self.width, name="conv0")(latent))
        # What is said of the whole image, beside what is said of the place.
        whole = nn.Dense(2 * self.width, name="whole")(jnp.mean(x, axis=(1, 2)))
        x = nn.gelu(_conv(2 * self.width, name="conv1")(x) + _place(whole))
        return _conv(self.outputs, name="shift")(x)


class InverterNet(nn.Module):
    """Numbers of a gradient to an image: two dense layers, then a `Decoder`."""

    hidden: int
    """Units of the dense layers."""
    width: int
    """Of the decoder."""
    shape: tuple[int, ...]
    """`(H, W, C)` of the image."""

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """`[N, D]` to the logits of `[N, H, W, C]`."""
        height, breadth, channels = self.shape
        x = nn.gelu(nn.Dense(self.hidden, name="dense0")(features))
        x = nn.gelu(nn.Dense(self.hidden, name="dense1")(x))
        small = (height // DOWN, breadth // DOWN, self.width)
        x = nn.gelu(nn.Dense(small[0] * small[1] * small[2], name="dense2")(x))
        return Decoder(self.width, channels, name="decoder")(x.reshape(-1, *small))


def spread(x: jax.Array) -> jax.Array:
    """`[N, h, w, 4 c]` to `[N, 2 h, 2 w, c]`: four channels become four pixels."""
    num, height, breadth, channels = x.shape
    x = x.reshape(num, height, breadth, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(num, 2 * height, 2 * breadth, -1)


def _place(vector: jax.Array) -> jax.Array:
    """`[N, D]` to `[N, 1, 1, D]`."""
    return vector[:, None, None, :]


def _conv(channels: int, *, stride: int = 1, name: str) -> nn.Conv:
    """A 3x3 convolution, in the form that is fast within a scan on a CPU as well."""
    return nn.Conv(
        channels,
        (3, 3),
        strides=stride,
        padding=1,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )
