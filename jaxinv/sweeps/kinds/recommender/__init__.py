"""Sweeps of federated recommenders: each job is one user."""

from jaxinv.sweeps.kinds.recommender.kind import RECOMMENDER as RECOMMENDER
