"""Metrics: judges of a reconstruction, the only part that knows the truth."""

from jaxinv.isomorphism import isomorphic as isomorphic
from jaxinv.metrics.align import align as align
from jaxinv.metrics.graph_similarity import full as full
from jaxinv.metrics.graph_similarity import gsm as gsm
from jaxinv.metrics.graphs import GraphScores as GraphScores
from jaxinv.metrics.graphs import judge_graph as judge_graph
from jaxinv.metrics.identifiability import identifiability as identifiability
from jaxinv.metrics.images import mse as mse
from jaxinv.metrics.images import psnr as psnr
from jaxinv.metrics.images import ssim as ssim
from jaxinv.metrics.labels import label_existence_accuracy as label_existence_accuracy
from jaxinv.metrics.labels import label_number_accuracy as label_number_accuracy
from jaxinv.metrics.labels import label_recall as label_recall
from jaxinv.metrics.lpips import LPIPSWeights as LPIPSWeights
from jaxinv.metrics.lpips import load_lpips as load_lpips
from jaxinv.metrics.lpips import lpips as lpips
from jaxinv.metrics.pairwise import (
    pairwise_correlation_distance as pairwise_correlation_distance,
)
from jaxinv.metrics.pairwise import pairwise_mse as pairwise_mse
from jaxinv.metrics.ratings import embedding_error as embedding_error
from jaxinv.metrics.ratings import exact_ratings as exact_ratings
from jaxinv.metrics.ratings import interaction_auc as interaction_auc
from jaxinv.metrics.ratings import interaction_f1 as interaction_f1
from jaxinv.metrics.ratings import rating_mae as rating_mae
