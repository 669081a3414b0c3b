"""What encrypting a part of an update costs in CKKS, by counting.

Nothing is encrypted here: to measure privacy it is enough that encrypted numbers are
unknown. Cheon, Kim, Kim, Song, "Homomorphic Encryption for Arithmetic of Approximate
Numbers", ASIACRYPT 2017. A ciphertext holds N / 2 numbers in its slots and is two
polynomials of N coefficients modulo a product of primes; the last prime serves
key switching alone and is not in it. Default parameters are those of MaskCrypt's
released code (the plato framework): N = 8192, primes of 60, 40, 40, 60 bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxinv.errors import InputError
from jaxinv.options import check_positive


class CkksParameters(NamedTuple):
    """Of the scheme."""

    poly_modulus: int = 8192
    """N, coefficients of a polynomial; a power of two."""
    coefficient_bits: tuple[int, ...] = (60, 40, 40, 60)
    """Bits of each prime of the modulus, the key-switching prime last."""

    @property
    def slots(self) -> int:
        """Numbers in one ciphertext."""
        return self.poly_modulus // 2

    @property
    def ciphertext_bytes(self) -> int:
        """Of a fresh ciphertext as libraries hold it, a word of 64 bits for each prime.

        Serialised forms may be compressed; `packed_bytes` is their lower bound.
        """
        return 2 * self.poly_modulus * 8 * max(len(self.coefficient_bits) - 1, 1)

    @property
    def packed_bytes(self) -> int:
        """Of a fresh ciphertext without unused bits."""
        primes = self.coefficient_bits[:-1] or self.coefficient_bits
        return 2 * self.poly_modulus * sum(primes) // 8


class Overhead(NamedTuple):
    """What one update costs to send, in numbers and bytes."""

    num_encrypted: int
    """Coordinates."""
    num_total: int
    """Coordinates of the update."""
    gathered: int
    """Ciphertexts where encrypted numbers are brought together first."""
    scattered: int
    """Ciphertexts where the update is cut into blocks of as many numbers as there are
    slots, and every block with an encrypted number is encrypted whole."""
    slots_used: float
    """Share of the slots of the gathered ciphertexts that hold a number; 1 for none."""
    gathered_bytes: int
    """Ciphertexts, plain rest, and the mask as one bit for each coordinate."""
    scattered_bytes: int
    """Ciphertexts and the blocks that stay plain; which ones is a bit for each."""
    plain_bytes: int
    """Of the update unencrypted."""
    full_bytes: int
    """Of the update encrypted whole."""


def overhead(
    mask: Any, *, parameters: CkksParameters | None = None, number_bytes: int = 4
) -> Overhead:
    """The cost of a mask; on the host.

    Args:
      mask: bools, True where encrypted, of one client.
      parameters: of the scheme.
      number_bytes: of a plain number.

    Raises:
      InputError: the mask holds no bools, or a parameter is out of range.
    """
    parameters = parameters or CkksParameters()
    size = parameters.poly_modulus
    if not isinstance(size, int) or size < 2 or size & (size - 1):
        raise InputError(f"poly_modulus is {size!r}; expected a power of two above 1")
    bits = parameters.coefficient_bits
    if not bits or any(not isinstance(b, int) or not 1 <= b <= 64 for b in bits):
        raise InputError(f"coefficient_bits is {bits!r}; expected numbers from 1 to 64")
    check_positive("number_bytes", number_bytes)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mask)]
    if not leaves or any(leaf.dtype != bool for leaf in leaves):
        found = ", ".join(sorted({str(leaf.dtype) for leaf in leaves})) or "empty"
        raise InputError(f"mask is {found}; expected bools")
    flat = np.concatenate([leaf.reshape(-1) for leaf in leaves])
    slots, one = parameters.slots, parameters.ciphertext_bytes
    count, total = int(flat.sum()), flat.size
    gathered = -(-count // slots)
    blocks = -(-total // slots)
    hit = np.unique(np.flatnonzero(flat) // slots)
    covered = sum(min(slots, total - int(block) * slots) for block in hit)
    return Overhead(
        num_encrypted=count,
        num_total=total,
        gathered=gathered,
        scattered=len(hit),
        slots_used=count / (gathered * slots) if gathered else 1.0,
        gathered_bytes=gathered * one
        + (total - count) * number_bytes
        + (-(-total // 8) if count else 0),
        scattered_bytes=len(hit) * one
        + (total - covered) * number_bytes
        + (-(-blocks // 8) if count else 0),
        plain_bytes=total * number_bytes,
        full_bytes=blocks * one,
    )
