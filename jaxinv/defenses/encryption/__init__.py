"""Selective encryption of updates: what to encrypt, what it costs, what it removes."""

from jaxinv.defenses.encryption.ckks import CkksParameters as CkksParameters
from jaxinv.defenses.encryption.ckks import Overhead as Overhead
from jaxinv.defenses.encryption.ckks import overhead as overhead
from jaxinv.defenses.encryption.distance import DISTANCES as DISTANCES
from jaxinv.defenses.encryption.distance import distance_parts as distance_parts
from jaxinv.defenses.encryption.distance import distance_shares as distance_shares
from jaxinv.defenses.encryption.distance import removed as removed
from jaxinv.defenses.encryption.masks import GRANULARITIES as GRANULARITIES
from jaxinv.defenses.encryption.masks import encryption_mask as encryption_mask
from jaxinv.defenses.encryption.masks import positions as positions
from jaxinv.defenses.encryption.masks import taken as taken
from jaxinv.defenses.encryption.release import Encryption as Encryption
from jaxinv.defenses.encryption.release import encryption as encryption
from jaxinv.defenses.encryption.significance import METRICS as METRICS
from jaxinv.defenses.encryption.significance import MetricEntry as MetricEntry
from jaxinv.defenses.encryption.significance import MetricFn as MetricFn
from jaxinv.defenses.encryption.significance import averaged as averaged
from jaxinv.defenses.encryption.significance import metric as metric
