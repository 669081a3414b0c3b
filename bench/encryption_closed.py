"""What `bench.encryption` reads off without a search: inputs and labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.encryption_masks import RATIOS, STRATEGIES, Client, mask_of
from jaxinv import metrics
from jaxinv.attacks.encrypted import read_as
from jaxinv.attacks.labels import bias_corrected, idlg, masked_rows
from jaxinv.attacks.linear_layer import linear_layer
from jaxinv.layers import dense_layers
from jaxinv.observation import Knowledge, Observation
from jaxinv.target import Target

EXACT = 60.0
"""dB above which a closed form counts as exact."""


def seen_of(target: Target, params: Any, client: Client, mask: Any) -> Observation:
    """What the server holds of one client; leaves of NumPy."""
    alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], params)
    visible = jax.tree.map(np.logical_not, mask)
    update = jax.tree.map(lambda u, v: np.where(v, u, 0)[None], client.update, visible)
    known = Knowledge(
        labels=client.label[None],  # pyright: ignore
        visible=jax.tree.map(lambda v: v[None], visible),
    )
    return Observation(alone, update, known, 1, target.spec)


def closed_forms(target, params, clients, images: int) -> list[dict[str, Any]]:
    """Rows of the closed form, pixel by pixel, and whether one plain unit sufficed."""
    attack = jax.jit(linear_layer(target))

    @jax.jit
    def units(seen):
        """Those whose column and bias are all plain, and that an example reaches."""
        dense = dense_layers(seen.round(0)[1])["linear0"]
        shown = dense_layers(seen.shown(0))["linear0"]
        assert dense.bias is not None and shown.bias is not None
        bias = jnp.where(shown.bias, jnp.abs(dense.bias), 0)
        return (shown.kernel.all(0) & (bias > 1e-6 * bias.max())).sum()

    rows = []
    for image in range(images):
        client = clients.one(image)
        truth = clients.pixels[image][None]
        for strategy in (*STRATEGIES, "layer"):
            for ratio in (0.0, *RATIOS):
                mask = mask_of(clients, strategy, image, ratio)
                seen = jax.tree.map(jnp.asarray, seen_of(target, params, client, mask))
                found = attack(jax.random.key(0), seen)
                plain = int(units(seen))
                pixels = target.spec.denormalise(found.batch.inputs)
                psnr = float(metrics.psnr(truth, pixels)[0])
                rows.append(
                    {
                        "image": image,
                        "strategy": strategy,
                        "ratio": ratio,
                        "units": plain,
                        "unit_exact": plain > 0 and psnr > EXACT,
                        "pixels_known": float(found.stats["known"][0]),
                        "pixel_psnr": psnr,
                        "pixel_exact": psnr > EXACT,
                        "encrypted": float(
                            np.mean(np.concatenate([x.ravel() for x in _leaves(mask)]))
                        ),
                    }
                )
    return rows


def labels_read(target, params, clients, number: int) -> list[dict[str, Any]]:
    """How often the label is right, by what the rule reads."""
    rules = {
        "bias": bias_corrected(),
        "rows": idlg(),
        "mask": masked_rows(),
    }

    @jax.jit
    def read(keys, params, update, visible):
        def one(key, update, visible):
            known = Knowledge(visible=jax.tree.map(lambda v: v[None], visible))
            seen = Observation(
                jax.tree.map(lambda p: p[None], params),
                jax.tree.map(lambda u: u[None], update),
                known,
                1,
                target.spec,
            )
            found = {name: rule(key, seen)[0] for name, rule in rules.items()}
            found["bias, zeros"] = rules["bias"](key, read_as(seen, "zero"))[0]
            return found

        return jax.vmap(one)(keys, update, visible)

    keys = jax.random.split(jax.random.key(1), number)
    truth = np.asarray(clients.labels[:number])
    rows = []
    for strategy in (*STRATEGIES, "layer"):
        for ratio in (0.0, *RATIOS):
            masks = [mask_of(clients, strategy, i, ratio) for i in range(number)]
            visible = jax.tree.map(lambda *m: ~np.stack(m), *masks)
            update = jax.tree.map(
                lambda u, v: np.where(v, u[:number], 0), clients.updates, visible
            )
            found = read(keys, params, update, visible)
            right = {
                k: float(np.mean(np.asarray(v) == truth)) for k, v in found.items()
            }
            rows.append({"strategy": strategy, "ratio": ratio, **right})
    return rows


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
