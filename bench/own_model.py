"""The 8-layer ConvNet as somebody writes it who has never heard of jaxinv.

flax's own convolution, pool and batch norm, and `from_linen` around them: what a user
brings. Layers and names are those of `jaxinv.models.convnet`, so that the same weights
and the same peer serve both, and `--target own` beside `--target convnet` tells what
rewriting a user's loss (`jaxinv_kernels.rewrite`) leaves to be gained by hand.
"""

from __future__ import annotations

import jax
from flax import linen as nn

import jaxinv
from jaxinv.models.layers import check_image
from jaxinv.target import Spec, Target


class OwnConvNet(nn.Module):
    """Eight 3x3 convolutions, each with norm and ReLU, two max pools, a dense layer."""

    width: int
    """Channels of the first convolution."""
    num_classes: int
    """K."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, C]` to `[N, K]`."""
        for i, factor in enumerate((1, 2, 2, 4, 4, 4, 4, 4)):
            x = nn.Conv(factor * self.width, (3, 3), padding="SAME", name=f"conv{i}")(x)
            x = nn.BatchNorm(use_running_average=True, name=f"bn{i}")(x)
            x = nn.relu(x)
            if i in (5, 7):
                x = nn.max_pool(x, (3, 3), strides=(3, 3))
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.num_classes, name="linear")(x)


def own(spec: Spec, *, width: int = 64) -> Target:
    """The target; its weights are drawn as flax draws them.

    Args:
      spec: what an example looks like, `(H, W, C)` of 9x9 or more.
      width: channels of the first convolution.

    Raises:
      InputError: the images are too small.
    """
    check_image("own", spec, at_least=9)
    return jaxinv.from_linen(OwnConvNet(width, spec.num_classes), spec)
