"""Convolution: the reference, forms made of matrix products, and the choice."""

from jaxinv_kernels.conv.dispatch import FORMS as FORMS
from jaxinv_kernels.conv.dispatch import choose as choose
from jaxinv_kernels.conv.dispatch import conv_general_dilated as conv_general_dilated
from jaxinv_kernels.conv.dispatch import using as using
