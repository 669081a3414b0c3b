"""Sweeps of images: each job is one batch under one attacker."""

from jaxinv.sweeps.kinds.images.kind import IMAGES as IMAGES
