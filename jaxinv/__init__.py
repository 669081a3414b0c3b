"""jaxinv: find out what a federated client's update gives away.

For models, data and systems one is entitled to test.
"""

from jaxinv import attacks as attacks
from jaxinv import defenses as defenses
from jaxinv import matching as matching
from jaxinv import metrics as metrics
from jaxinv import models as models
from jaxinv import priors as priors
from jaxinv import space as space
from jaxinv.adapters import from_linen as from_linen
from jaxinv.adapters import from_nnx as from_nnx
from jaxinv.attacks.base import Attack as Attack
from jaxinv.attacks.base import Reconstruction as Reconstruction
from jaxinv.attacks.base import Status as Status
from jaxinv.attacks.base import iterate as iterate
from jaxinv.attacks.base import restarts as restarts
from jaxinv.errors import InputError as InputError
from jaxinv.errors import KnowledgeError as KnowledgeError
from jaxinv.exchange import read_tensors as read_tensors
from jaxinv.exchange import read_update as read_update
from jaxinv.fedavg import aggregated as aggregated
from jaxinv.fedavg import fedavg as fedavg
from jaxinv.halving import Halving as Halving
from jaxinv.local_training import LocalTraining as LocalTraining
from jaxinv.objective import objective as objective
from jaxinv.observation import Observation as Observation
from jaxinv.observation import observe as observe
from jaxinv.release import gradient as gradient
from jaxinv.run import Runner as Runner
from jaxinv.target import Batch as Batch
from jaxinv.target import Spec as Spec
from jaxinv.target import Target as Target
from jaxinv.target import Variables as Variables
from jaxinv.target import cross_entropy as cross_entropy
from jaxinv.target import from_function as from_function


def __getattr__(name: str) -> object:
    # What a sweep needs is slow to import, and an attack does without it.
    if name in ("Sweep", "sweep"):
        from jaxinv import sweeps

        return getattr(sweeps, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
