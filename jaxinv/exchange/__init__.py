"""Updates as other systems send them: files of tensors, and what is said of the client.

Files of tensors are untrusted: nothing in them is run, and names, types and sizes are
checked before memory is asked for. The model is the person's own code.
"""

from jaxinv.exchange.client_file import ClientFile as ClientFile
from jaxinv.exchange.client_file import read_client as read_client
from jaxinv.exchange.files import read_tensors as read_tensors
from jaxinv.exchange.finding import Finding as Finding
from jaxinv.exchange.layout import Layout as Layout
from jaxinv.exchange.layout import Pair as Pair
from jaxinv.exchange.model_file import load_model as load_model
from jaxinv.exchange.pairing import pair_up as pair_up
from jaxinv.exchange.plausible import plausible as plausible
from jaxinv.exchange.received_update import ReceivedUpdate as ReceivedUpdate
from jaxinv.exchange.update import read_update as read_update
