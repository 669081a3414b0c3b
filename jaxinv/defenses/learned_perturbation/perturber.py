"""The perturber: moves an image in the latent space of an autoencoder, within a bound.

Re-derived from the abstract of Jiang, Firouzi and Chakrabarty, "Defending Against
Gradient Inversion Attacks for Biomedical Images via Learnable Data Perturbation",
arXiv 2503.16542, which is all that was available: a perturbation in latent space,
learned as a minimax game. Architecture, form and bound are ours.

    z = Enc(x),   delta = eps s tanh(h(z, n)),   x~ = Dec(z + delta)

with s the standard deviation of the latent's channels over the images that the
autoencoder was fitted on and n standard normal noise. The form "gaussian" draws after
the network, delta = eps s tanh(mu(z) + sigma(z) n), the reparameterised normal of
Kingma and Welling (arXiv 1312.6114) squashed into the same bound as Haarnoja et al.
(arXiv 1801.01290) do. Either way |delta| <= eps s, and eps = 0 is the autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxinv.defenses.checks import check_strength
from jaxinv.defenses.learned_perturbation.networks import (
    DOWN,
    Decoder,
    Encoder,
    Shift,
)
from jaxinv.errors import InputError
from jaxinv.options import check_choice, check_positive
from jaxinv.target import Spec

FORMS = ("tanh", "gaussian")
"""Whether noise enters the network of the shift, or the shift itself."""


@dataclass(frozen=True)
class Design:
    """What a perturber is made of. Hashable, so static.

    Attributes:
      shape: of one image, `(H, W, C)`, sides of a multiple of 4.
      mean: per channel, as in `jaxinv.target.Spec`.
      std: per channel, likewise.
      width: of the networks, channels of the first convolution.
      latent: channels of the latent, whose sides are a quarter of the image's.
      form: one of `FORMS`.
      noise: of "tanh", channels of noise that the shift's network is given; 0 makes
        the perturber deterministic.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    width: int = 16
    latent: int = 8
    form: str = "tanh"
    noise: int = 2

    def __post_init__(self) -> None:
        spec = Spec(self.shape, 1, self.mean, self.std)
        if len(self.shape) != 3 or any(side % DOWN for side in self.shape[:2]):
            raise InputError(
                f"shape is {self.shape!r}; expected (H, W, C) with sides of a multiple "
                f"of {DOWN}"
            )
        check_positive("width", self.width)
        check_positive("latent", self.latent)
        check_choice("form", self.form, FORMS)
        if type(self.noise) is not int or self.noise < 0:
            raise InputError(f"noise is {self.noise!r}; expected 0 or more channels")
        object.__setattr__(self, "mean", spec.mean)
        object.__setattr__(self, "std", spec.std)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Of one image's latent."""
        return (self.shape[0] // DOWN, self.shape[1] // DOWN, self.latent)

    @property
    def draws(self) -> int:
        """Channels of noise at every place of the latent."""
        return self.noise if self.form == "tanh" else self.latent

    @property
    def spec(self) -> Spec:
        """The normalisation of the images."""
        return Spec(self.shape, 1, self.mean, self.std)


@flax.struct.dataclass
class Perturber:
    """A perturber, fitted or fresh: arrays, and the design that says what they are."""

    params: dict[str, Any]
    """Of the networks "encoder", "decoder" and "shift"."""
    scale: jax.Array
    """`[latent]`, standard deviation of the latent's channels."""
    eps: jax.Array
    """`[]`, the bound, in those."""
    design: Design = flax.struct.field(pytree_node=False)


class Perturbed(NamedTuple):
    """What a perturber made of images."""

    inputs: jax.Array
    """`[N, H, W, C]`, normalised as they came."""
    delta: jax.Array
    """`[N, h, w, latent]`, what was added to the latent."""


def fresh(key: jax.Array, design: Design, *, eps: float = 0.5) -> Perturber:
    """A perturber that was not fitted; see `training`.

    Args:
      key: of the networks' parameters.
      design: what it is made of.
      eps: the bound, in standard deviations of the latent. 0 leaves the autoencoder.

    Raises:
      InputError: `eps` is negative, infinite or no number.
    """
    check_strength("eps", eps)
    if eps == float("inf"):
        raise InputError("eps is inf; expected a finite number")
    keys = jax.random.split(key, 3)
    encoder, decoder, shift = _networks(design)
    pixels = jax.ShapeDtypeStruct((1, *design.shape), jnp.float32)
    small = (1, *design.latent_shape)
    latent = jax.ShapeDtypeStruct(small, jnp.float32)
    seen = jax.ShapeDtypeStruct((*small[:3], _seen(design)), jnp.float32)
    params = {
        "encoder": encoder.lazy_init(keys[0], pixels)["params"],
        "decoder": decoder.lazy_init(keys[1], latent)["params"],
        "shift": shift.lazy_init(keys[2], seen)["params"],
    }
    return Perturber(params, jnp.ones(design.latent), jnp.asarray(float(eps)), design)


def encode(perturber: Perturber, inputs: jax.Array) -> jax.Array:
    """Normalised images `[N, H, W, C]` to their latents `[N, h, w, latent]`.

    Raises:
      InputError: the images are of another shape than the design's.
    """
    design = perturber.design
    if inputs.shape[1:] != design.shape:
        raise InputError(
            f"inputs have shape {inputs.shape}; the perturber expected images of "
            f"{design.shape}"
        )
    pixels = design.spec.denormalise(inputs)
    return _networks(design)[0].apply({"params": perturber.params["encoder"]}, pixels)  # pyright: ignore


def decode(perturber: Perturber, latent: jax.Array) -> jax.Array:
    """Latents `[N, h, w, latent]` to normalised images `[N, H, W, C]`."""
    decoder = _networks(perturber.design)[1]
    logits = decoder.apply({"params": perturber.params["decoder"]}, latent)
    return perturber.design.spec.normalise(jax.nn.sigmoid(logits))  # pyright: ignore


def shifted(perturber: Perturber, key: jax.Array, latent: jax.Array) -> jax.Array:
    """The delta of latents, `[N, h, w, latent]`, within the bound of each channel."""
    design, scale = perturber.design, perturber.scale
    network = _networks(design)[2]
    noise = jax.random.normal(key, (*latent.shape[:3], design.draws), latent.dtype)
    # The network sees latents of unit size, whatever the autoencoder made of them.
    seen = latent / scale
    if design.form == "tanh":
        seen = jnp.concatenate([seen, noise], axis=-1)
    out: Any = network.apply({"params": perturber.params["shift"]}, seen)
    if design.form == "gaussian":
        mean, log_std = jnp.split(out, 2, axis=-1)
        # Between e^-4 and e: neither certain nor lost.
        out = mean + jnp.exp(2.5 * jnp.tanh(log_std) - 1.5) * noise
    return perturber.eps * scale * jnp.tanh(out)


def perturbed(perturber: Perturber, key: jax.Array, inputs: jax.Array) -> Perturbed:
    """Normalised images `[N, H, W, C]` as the client's model is to see them.

    Raises:
      InputError: the images are of another shape than the design's.
    """
    latent = encode(perturber, inputs)
    delta = shifted(perturber, key, latent)
    return Perturbed(decode(perturber, latent + delta), delta)


def _networks(design: Design) -> tuple[Encoder, Decoder, Shift]:
    outputs = design.latent * (2 if design.form == "gaussian" else 1)
    return (
        Encoder(design.width, design.latent),
        Decoder(design.width, design.shape[2]),
        Shift(design.width, outputs),
    )


def _seen(design: Design) -> int:
    """Channels that the shift's network takes."""
    return design.latent + (design.noise if design.form == "tanh" else 0)
