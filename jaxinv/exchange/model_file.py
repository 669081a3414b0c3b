"""A model by name: one of the zoo, or `FILE.py:NAME`, the user's own code.

The file is run. It is the person's own, unlike what came from a client.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from flax import linen as nn
from flax import nnx

from jaxinv import models
from jaxinv.adapters import from_linen, from_nnx
from jaxinv.errors import InputError, nearest
from jaxinv.options import check_options
from jaxinv.target import Spec, Target, from_function

_NORMS = {"frozen": "batch_inference", "batch": "batch_training"}
_FLAGS = {
    "train": {"frozen": False, "batch": True},
    "training": {"frozen": False, "batch": True},
    "is_training": {"frozen": False, "batch": True},
    "use_running_average": {"frozen": True, "batch": False},
}
"""Arguments by which linen modules are told the mode of their batch norm."""


def load_model(
    name: str,
    spec: Spec,
    *,
    batch_norm: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Target:
    """The model under attack.

    Args:
      name: a name of `jaxinv.models.MODELS`, or `FILE.py:NAME`, where NAME is a loss
        `(params, batch)`, a `Target`, a flax module, or a function that makes one
        (given the `Spec` if it takes an argument). Beside a loss the file may have
        `init(key)`, which says how its parameters are laid out.
      spec: what an example looks like.
      batch_norm: of `jaxinv.exchange.client_file.BATCH_NORMS`; None where the model
        has none.
      options: of a model of the zoo, or of the function.

    Raises:
      InputError: there is no such model, the file cannot be run, or what it holds is
        none of these.
    """
    options = dict(options or {})
    path, colon, attribute = name.rpartition(":")
    if not colon:
        if name not in models.MODELS:
            known = nearest(name, models.MODELS).removeprefix("expected ")
            raise InputError(f"model is {name!r}; expected FILE.py:NAME, or {known}")
        takes = inspect.signature(models.MODELS[name].builder).parameters
        if batch_norm is not None and "norm" in takes:
            options.setdefault("norm", _NORMS[batch_norm])
        return models.build(name, spec, **options)
    module = run_file(path, "model")
    found = named_in(module, attribute, path)
    target = _as_target(found, module, spec, batch_norm, options, name)
    return target


def run_file(path: str, what: str) -> ModuleType:
    """Runs a Python file as a module.

    Args:
      path: of the file.
      what: names it in messages.

    Raises:
      InputError: it is not there, or raised; the message says where.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise InputError(f"{what} is {path!r}: no such file; expected FILE.py:NAME")
    name = f"_{what}_{file.stem}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    # So that it finds the files beside it, and its dataclasses themselves.
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"{what} {path!r} cannot be run: {said(error, path)}"
        ) from None
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def named_in(module: ModuleType, attribute: str, path: str) -> Any:
    """What a file calls so.

    Raises:
      InputError: it has nothing of that name.
    """
    if not hasattr(module, attribute):
        known = [n for n in vars(module) if not n.startswith("_")]
        raise InputError(f"{path} has no {attribute!r}; {nearest(attribute, known)}")
    return getattr(module, attribute)


def said(error: Exception, path: str) -> str:
    """What someone's code raised and in which of its lines, in one line."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).name == Path(path).name
    ]
    line = getattr(error, "lineno", None) or (own[-1].lineno if own else None)
    where = f" (line {line})" if line else ""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return f"{type(error).__name__}: {text}{where}"


def _as_target(
    found: Any,
    module: ModuleType,
    spec: Spec,
    batch_norm: str | None,
    options: dict[str, Any],
    name: str,
) -> Target:
    if isinstance(found, type) and issubclass(found, (nn.Module, nnx.Module)):
        found = _made(found, _own_fields(found, spec, options), name)
        options = {}
    elif callable(found) and not isinstance(found, (Target, nn.Module, nnx.Module)):
        takes = _positional(found)
        if len(takes) == 2:
            if options:
                raise InputError(f"--set model.{min(options)}: a loss takes no options")
            init = getattr(module, "init", None)
            loss: Any = found
            return from_function(loss, spec, init=init if callable(init) else None)
        if len(takes) > 2:
            raise InputError(
                f"{name} takes {', '.join(takes)}; expected a loss (params, batch), a "
                "model, or a function of at most the Spec that makes one"
            )
        check_options(name, found, options)
        found, options = _made(found, options, name, *([spec] if takes else [])), {}
    if options:
        raise InputError(f"--set model.{min(options)}: {name} takes no options")
    if isinstance(found, Target):
        return found
    if isinstance(found, nn.Module):
        return _from_linen(found, spec, batch_norm, name)
    if isinstance(found, nnx.Module):
        if batch_norm is not None:
            _made(found.eval if batch_norm == "frozen" else found.train, {}, name)
        return _checked(lambda: from_nnx(found, spec), name)
    raise InputError(
        f"{name} is a {type(found).__name__}; expected a loss (params, batch), a "
        "Target, a flax module, or a function that makes one"
    )


def _from_linen(
    module: nn.Module, spec: Spec, batch_norm: str | None, name: str
) -> Target:
    takes = inspect.signature(type(module).__call__).parameters
    flags = {}
    for flag, modes in _FLAGS.items():
        if flag in takes:
            if batch_norm is None:
                raise InputError(
                    f"client.batch_norm is missing and {name} takes {flag}; expected "
                    '"frozen" (running statistics) or "batch"'
                )
            flags[flag] = modes[batch_norm]
    if "deterministic" in takes:
        flags["deterministic"] = True
    return _checked(lambda: from_linen(module, spec, **flags), name)


def _own_fields(made: Any, spec: Spec, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a module's class; the number of classes is known."""
    known = {f.name for f in fields(made)} if issubclass(made, nn.Module) else set()
    known -= {"parent", "name"}
    for option in options:
        if issubclass(made, nn.Module) and option not in known:
            raise InputError(
                f"--set model.{option} is unknown to {made.__name__}; "
                f"{nearest(option, known)}"
            )
    if "num_classes" in known:
        return {"num_classes": spec.num_classes, **options}
    return options


def _positional(function: Callable) -> list[str]:
    """Names of the arguments that a call must give."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty]


def _made(make: Callable, options: dict[str, Any], name: str, *args: Any) -> Any:
    return _checked(lambda: make(*args, **options), name)


def _checked(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except InputError:
        raise
    except Exception as error:
        path = name.rpartition(":")[0]
        raise InputError(f"{name} cannot be made: {said(error, path)}") from None
