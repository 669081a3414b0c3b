"""What jaxinv raises when it is asked for something it must refuse.

The command line prints these as one line and exits with 2; anything else that is
raised is a defect of jaxinv and keeps its traceback. Bad luck at run time (a restart
that diverges) is never raised: it is a `jaxinv.Status` in the result.
"""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """An argument or a file is wrong; the message names it, its value and the cure."""


class SlowPathWarning(UserWarning):
    """Something works, by a slower way than the usual one."""


class KnowledgeError(InputError):
    """An attack needs something that the observation does not grant the attacker."""


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: those it may have meant."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"expected one of {', '.join(names)}" if names else "there are none"


def tamed(message: object, most: int = 600) -> str:
    """A message that repeats what a file holds, which may be long or steer a terminal.

    Args:
      message: such as an `InputError`.
      most: characters that are kept.
    """
    text = str(message)
    text = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else "?" for c in text)
