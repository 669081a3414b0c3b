"""What can be swept, by the name of its audit. A new kind is a file and a row here."""

from jaxinv.sweeps.kinds.base import Job as Job
from jaxinv.sweeps.kinds.base import Kind as Kind
from jaxinv.sweeps.kinds.base import Point as Point
from jaxinv.sweeps.kinds.base import Searched as Searched
from jaxinv.sweeps.kinds.base import Solved as Solved
from jaxinv.sweeps.kinds.graphs import CITATIONS, MOLECULES
from jaxinv.sweeps.kinds.images import IMAGES
from jaxinv.sweeps.kinds.recommender import RECOMMENDER

KINDS: dict[str, Kind] = {
    "images": IMAGES,
    "recommender": RECOMMENDER,
    "molecules": MOLECULES,
    "citations": CITATIONS,
}
"""As `jaxinv audit` names them."""
