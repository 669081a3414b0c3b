"""A user's function with its slow operations replaced; the model stays as it is."""

from jaxinv_kernels.rewrite.interpreter import contains_slow as contains_slow
from jaxinv_kernels.rewrite.interpreter import rewrite as rewrite
