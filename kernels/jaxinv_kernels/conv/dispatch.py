"""Which form of the convolution runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from jaxinv_kernels.conv import layout, patches, reference, winograd
from jaxinv_kernels.windows import Padding

FORMS = ("patches", "winograd", "lax")
"""One matrix product of patches, Winograd's tiles, XLA's own."""

_asked: ContextVar[str | None] = ContextVar("form", default=None)


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    form: str | None = None,
) -> jax.Array:
    """A drop-in for `jax.lax.conv_general_dilated`, as in `flax.linen.Conv`.

    Args:
      lhs: inputs, laid out as `dimension_numbers` says.
      rhs: kernel, laid out as `dimension_numbers` says.
      window_strides: one for each spatial axis.
      padding: "SAME", "SAME_LOWER", "VALID" or (low, high) for each spatial axis.
      lhs_dilation: of the inputs.
      rhs_dilation: of the kernel.
      dimension_numbers: as in `jax.lax.conv_general_dilated`.
      feature_group_count: groups of channels.
      batch_group_count: groups of examples.
      precision: as in `jax.lax.dot_general`.
      preferred_element_type: as in `jax.lax.dot_general`.
      form: one of `FORMS`; if None what `using` says, else what `choose` says.

    Returns:
      What `jax.lax.conv_general_dilated` returns, up to rounding.

    Raises:
      ValueError: `form` is unknown or cannot do this convolution, or a stride or
        dilation is not positive.
      TypeError: as `jax.lax.conv_general_dilated`, whose checks of shapes and types
        run first; they raise ValueError as well.
    """
    lhs, rhs = jnp.asarray(lhs), jnp.asarray(rhs)
    for name, steps in (
        ("window_strides", window_strides),
        ("lhs_dilation", lhs_dilation),
        ("rhs_dilation", rhs_dilation),
    ):
        if any(step < 1 for step in steps or ()):
            raise ValueError(f"{name} is {tuple(steps or ())}; all must be positive")

    def xla(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return reference.conv(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            batch_group_count,
            precision,
            preferred_element_type,
        )

    # Abstract: nothing runs, but XLA's checks and its type of the result are ours.
    abstract = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (lhs, rhs)]
    result = jax.eval_shape(xla, *abstract)
    numbers = layout.numbers_of(lhs, rhs, dimension_numbers)
    inputs, kernel = layout.channels_last(lhs, rhs, numbers, batch_group_count)
    groups = feature_group_count * batch_group_count
    sizes = layout.geometry(
        inputs, kernel, window_strides, padding, lhs_dilation, rhs_dilation, groups
    )
    dtypes = (lhs.dtype, result.dtype)
    form = _settle(form, sizes, *dtypes)
    if form == "lax":
        return xla(lhs, rhs)
    if 0 in lhs.shape or 0 in rhs.shape or 0 in result.shape:
        return jnp.zeros(result.shape, result.dtype)
    kwargs = {
        "precision": precision,
        "preferred_element_type": preferred_element_type,
    }
    if form == "winograd":
        out = winograd.conv(inputs, kernel, sizes.pads, **kwargs)
    else:
        out = patches.conv(
            inputs,
            kernel,
            sizes.strides,
            sizes.pads,
            lhs_dilation=sizes.lhs_dilation,
            rhs_dilation=sizes.rhs_dilation,
            groups=groups,
            **kwargs,
        )
    return layout.as_asked(out, numbers)


def choose(sizes: layout.Geometry, dtype: Any, result: Any = None) -> str:
    """The form that should be fastest in second derivatives under vmap.

    - "lax" where nothing else can: integers, complex numbers, 8-bit floats.
    - "winograd" on CPU where it can and `winograd.suits` finds it worthwhile: there
      multiplications are the bottleneck, elsewhere the memory is.
    - "patches" for all else.

    Args:
      sizes: of the convolution with the channels last.
      dtype: of inputs and kernel.
      result: type of the result; `dtype` if None.

    Returns:
      One of `FORMS`.
    """
    if _cannot("patches", sizes, dtype, result or dtype):
        return "lax"
    if (
        jax.default_backend() == "cpu"
        and not _cannot("winograd", sizes, dtype, result or dtype)
        and winograd.suits(
            sizes.lhs_shape,
            sizes.rhs_shape,
            sizes.strides,
            sizes.pads,
            sizes.rhs_dilation,
            dtype,
        )
    ):
        return "winograd"
    return "patches"


@contextmanager
def using(form: str | None) -> Iterator[None]:
    """Convolutions traced inside take `form` wherever it can do them.

    What is compiled already keeps its form: enter this before the first call of a
    jitted function, or make a new one. A `form` given to a call goes first.

    Args:
      form: one of `FORMS`, or None for the automatic choice.

    Raises:
      ValueError: `form` is unknown.
    """
    _known(form)
    token = _asked.set(form)
    try:
        yield
    finally:
        _asked.reset(token)


def _settle(form: str | None, sizes: layout.Geometry, dtype: Any, result: Any) -> str:
    _known(form)
    if form is not None:
        reason = _cannot(form, sizes, dtype, result)
        if reason:
            raise ValueError(f"form is {form!r}, which needs {reason}")
        return form
    asked = _asked.get()
    if asked is not None and not _cannot(asked, sizes, dtype, result):
        return asked
    return choose(sizes, dtype, result)


def _known(form: str | None) -> None:
    if form is not None and form not in FORMS:
        raise ValueError(f"form is {form!r}; expected None or one of {FORMS}")


def _cannot(form: str, sizes: layout.Geometry, dtype: Any, result: Any) -> str:
    """What `form` needs and this convolution has not; empty if it can be done."""
    if form == "lax":
        return ""
    for kind in (dtype, result):
        if not jnp.issubdtype(kind, jnp.floating) or jnp.dtype(kind).itemsize < 2:
            return f"floating point of at least 16 bits, not {jnp.dtype(kind).name}"
    if form == "patches":
        return ""
    if sizes.rhs_shape[:-2] != (3, 3):
        return f"a 3 x 3 kernel, not {sizes.rhs_shape[:-2]}"
    for name in ("strides", "lhs_dilation", "rhs_dilation"):
        if getattr(sizes, name) != (1, 1):
            return f"{name} of 1, not {getattr(sizes, name)}"
    if sizes.groups != 1:
        return f"a single group, not {sizes.groups}"
    if min(min(pair) for pair in sizes.pads) < 0:
        return f"padding of at least 0, not {sizes.pads}"
    return ""
