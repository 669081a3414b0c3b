"""The engines that `bench.restarts` times, given one and the same problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bench.problem import OPTIONS, Problem, attack_of, first_match, precision, starts_of
from jaxinv.run import Runner

MOST_PEER_STARTS = 64
"""In one repetition of the eager peer."""


class Contender(NamedTuple):
    """One engine, warmed up and ready to be timed."""

    impl: str
    run: Callable[[], float]
    """One repetition; returns restart-iterations a second."""
    facts: dict[str, Any]
    """What its row says besides."""


def contenders_of(
    problem: Problem,
    *,
    peer: bool,
    batched: bool,
    peer_seconds: float,
    peer_threads: int | None = None,
) -> tuple[list[Contender], tuple[float | None, float | None]]:
    """Every engine, warmed up, and the match at one start by jaxinv and PyTorch.

    Args:
      problem: what they work on.
      peer: whether to time PyTorch, and whether to compare with it at all.
      batched: whether to time PyTorch under vmap too.
      peer_seconds: least work of one repetition of the eager peer.
      peer_threads: of PyTorch on a CPU; None leaves its own choice, all cores.

    Raises:
      SystemExit: the matches differ.
    """
    if not peer:
        return [_jaxinv_contender(problem)], (None, None)
    if peer_threads is not None:
        import torch

        torch.set_num_threads(peer_threads)
    theirs, matches = _torch_contenders(problem, batched, peer_seconds)
    return [_jaxinv_contender(problem), *theirs], matches


def _jaxinv_contender(problem: Problem) -> Contender:
    case = problem.case
    attack = attack_of(problem)
    runner = Runner(attack, num_restarts=case.restarts, num_records=1)

    def run() -> float:
        result = runner(problem.key, problem.observation)
        if result.interrupted:
            raise KeyboardInterrupt
        return case.restarts * case.iterations / result.seconds

    run()  # compiles
    facts = {
        "compile_s": runner.compile_s,
        "threads": None,
        "chunk": runner.chunk,
        "measured_restarts": case.restarts,
    }
    return Contender("jaxinv", run, facts)


def _torch_contenders(
    problem: Problem, batched: bool, peer_seconds: float
) -> tuple[list[Contender], tuple[float, float]]:
    import torch

    from bench import torch_batched, torch_peer
    from bench.torch_models import build_twin, load_flax

    case, spec = problem.case, problem.target.spec
    device = "cuda" if case.device == "gpu" else "cpu"
    module = build_twin(case.target, spec, **case.options())
    if case.precision == "float64":
        module = module.double()
    inputs = np.asarray(problem.truth.inputs)
    low, high = (np.asarray(bound, inputs.dtype) for bound in spec.box())
    given: Any = {
        "module": load_flax(module, problem.params),
        "truth": inputs,
        "labels": np.asarray(problem.truth.labels),
        "box": (low, high),
        **OPTIONS,
    }

    exact = "float64" if case.precision == "float64" else "float32"
    key, start = starts_of(problem, 1)
    with precision(exact), torch_peer.precision(exact):
        ours = first_match(problem, key[0])
        eager = torch_peer.inverting_gradients(**given, start=start[0], num_steps=1)
        check_agreement("torch eager", ours, eager.first_match)
        if batched:
            run = torch_batched.inverting_gradients(**given, starts=start, num_steps=1)
            check_agreement("torch batched", ours, float(run.first_matches[0]))
    matches = ours, eager.first_match
    if device == "cuda" and not torch.cuda.is_available():
        print("this PyTorch has no CUDA: the rows of torch are left out")
        return [], matches

    def one_after_another(starts: np.ndarray, num_steps: int) -> float:
        with torch_peer.precision(case.precision):
            runs = [
                torch_peer.inverting_gradients(
                    **given, start=start, num_steps=num_steps, device=device
                )
                for start in starts
            ]
        return len(starts) * num_steps / sum(run.seconds for run in runs)

    one_after_another(start, 2)
    per_start = case.iterations / one_after_another(start, 2)
    num = min(max(2, math.ceil(peer_seconds / per_start)), MOST_PEER_STARTS)
    _, starts = starts_of(problem, num)
    threads = {"compile_s": None, "threads": torch.get_num_threads()}
    contenders = [
        Contender(
            "torch eager",
            lambda: one_after_another(starts, case.iterations),
            threads | {"chunk": 1, "measured_restarts": num},
        )
    ]
    if not batched:
        return contenders, matches
    _, every_start = starts_of(problem, case.restarts)

    def together(num_steps: int, chunk: int | None) -> torch_batched.BatchedRun:
        with torch_peer.precision(case.precision):
            return torch_batched.inverting_gradients(
                **given,
                starts=every_start,
                num_steps=num_steps,
                device=device,
                chunk=chunk,
            )

    # Beyond a few starts a CPU gains nothing, and its memory may run out.
    chunk = together(2, None if device == "cuda" else 8).chunk
    contenders.append(
        Contender(
            "torch batched",
            lambda: (
                case.restarts
                * case.iterations
                / together(case.iterations, chunk).seconds
            ),
            threads | {"chunk": chunk, "measured_restarts": case.restarts},
        )
    )
    return contenders, matches


def check_agreement(impl: str, ours: float, theirs: float) -> None:
    """Stops the bench where two engines do not work on the same problem.

    Relative 1e-3, and absolute 2e-6 for the rounding of a cosine near 1 in float32.
    """
    if not math.isclose(ours, theirs, rel_tol=1e-3, abs_tol=2e-6):
        raise SystemExit(
            f"the match at the first start is {ours:.6g} in jaxinv and {theirs:.6g} in "
            f"{impl}; expected the same to 1e-3, so nothing was timed"
        )
