"""What `bench.restarts` holds a rate against: products needed, the ceiling, memory."""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params
from jaxinv_kernels import conv

from jaxinv.target import Batch, Target

T = TypeVar("T")

PASSES = 7
"""Matrix-product passes of one iteration, each as costly as the forward pass: the value
(1), its error and kernel gradients (2), and the tangents of these products (4). Source
of the count: the derivative of a match through a gradient by `jax.linearize`. Reverse
over reverse, as PyTorch does it, needs nine and is held to the same seven."""


def forward_flops(target: Target, params: Any, batch: Batch) -> int:
    """Floating-point operations of the products in one forward pass on a batch.

    Two for each multiply-add of the dense layers and convolutions, as defined: the
    loss is traced with `lax.conv_general_dilated` whatever form runs in the attack. So
    a form that saves multiplications (Winograd), or one that never forms the kernel
    gradients, can do more of these a second than the device can multiply, and its
    share of the ceiling can exceed 1. All else (norms, activations, optimiser) counts
    as nothing.

    Args:
      target: of `jaxinv.models`.
      params: its parameters, arrays or shapes.
      batch: arrays or shapes.
    """
    with conv.using("lax"):
        # A new function, for traces of the attack's loss may be cached.
        jaxpr = jax.make_jaxpr(lambda p, b: target.loss(p, b))(params, batch)
    return _flops(jaxpr.jaxpr)


def _flops(jaxpr: Any) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            taps = math.prod(shape[axis] for axis in contracted)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps
        elif eqn.primitive.name == "conv_general_dilated":
            # All of a kernel's axes but that of the features meet in each output.
            kernel, spec = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"]
            taps = math.prod(kernel) // kernel[spec.rhs_spec[0]]
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps
        elif eqn.primitive.name in ("while", "cond"):
            name = eqn.primitive.name
            raise ValueError(f"operations inside a {name} cannot be counted")
        else:
            times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
            for inner in jaxprs_in_params(eqn.params):
                total += times * _flops(inner)
    return total


def matmul_gflops(device: str) -> float:
    """The best of several square matrix products, in GFLOP/s.

    In JAX, jitted, in the dtype and precision that are set: 1024 and 2048 rows on a
    CPU, 8192 on a GPU.
    """
    product, best = jax.jit(jnp.matmul), 0.0
    for size in (8192,) if device == "gpu" else (1024, 2048):
        a = jax.random.normal(jax.random.key(0), (size, size))
        jax.block_until_ready(product(a, a))
        for _ in range(6):
            began = time.perf_counter()
            jax.block_until_ready(product(a, a))
            best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return best


def peak_of(
    run: Callable[[], T], impl: str, device: str, floor: int
) -> tuple[T, float | None]:
    """What `run` returns, and the memory it peaked at, in MB of 10^6 bytes.

    On a CPU: the peak of the process's resident memory over what was resident before,
    once free memory was returned to the system. Weights, starts and compiled code were
    there before and are not counted. Linux alone tells; elsewhere None.

    On a GPU: all that the engine holds at its peak. PyTorch's counter is set back
    before; JAX's cannot be, so it is None where the process had held more before this
    row. Rows of growing size all have it.

    Args:
      run: one repetition, after another that warmed up.
      impl: which engine.
      device: "cpu" or "gpu".
      floor: `device_peak()` before the row began.
    """
    if device == "gpu" and impl != "jaxinv":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return run(), torch.cuda.max_memory_allocated() / 1e6
    if device == "gpu":
        result, peak = run(), device_peak()
        return result, peak / 1e6 if peak > floor else None
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        return run(), None
    result = run()
    return result, max(0, _resident("VmHWM") - before) / 1e6


def device_peak() -> int:
    """Most bytes that JAX has held on the device so far; 0 where it does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def _resident(field: str) -> int:
    """Bytes, by the name of the field in Linux's status of the process."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise OSError(f"no {field}")
