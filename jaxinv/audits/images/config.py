"""What an audit of images can be asked: one dataclass, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from jaxinv import attacks, defenses
from jaxinv.audits.settings import check_whole, command
from jaxinv.errors import InputError, nearest
from jaxinv.local_training import LocalTraining
from jaxinv.precision import check_precision

GRANTABLE = ("labels", "batch_stats")
"""Names in `jaxinv.observation.Knowledge` of what an attacker may be told or not."""

LOCAL = ("local_lr", "local_steps", "local_epochs", "local_batch", "local_optimizer")
"""Fields that say how the client trains by itself."""


@dataclass(frozen=True)
class AuditConfig:
    """What to audit. Every field is a setting of the command line.

    Attributes:
      target: a name in `jaxinv.models.MODELS`; None takes one that suits the attack.
      attack: a name in `jaxinv.attacks.ATTACKS`.
      restarts: starts of the attack for every batch; closed forms take one.
      iterations: steps of every start; None takes the attack's own number.
      batch_size: examples in the client's batch.
      num_examples: examples audited in all, the first ones of the data.
      data: a file or folder of images; None takes the embedded photographs.
      seed: of the parameters and of the attack.
      withhold: what the attacker is not told though it is by default ("labels").
      local_lr: step size of the client's own training, after which it sends its new
        weights; None is a client that sends one gradient.
      local_steps: steps of that training; None takes whole epochs.
      local_epochs: passes over the client's batch, where `local_steps` is None.
      local_batch: examples of a local step; None takes the client's whole batch.
      local_optimizer: a name in `jaxinv.local_training.OPTIMIZERS`.
      grant: what the attacker is told though it is not by default ("batch_stats").
      size: side to which images are resized; None keeps them.
      normalise: whether pixels are standardised with the mean and deviation of the
        data before they meet the model; the attacker knows both.
      halving: whether starts that lag behind are dropped on the way
        (`jaxinv.halving.Halving`).
      precision: of the matrix products, or of everything; a name in
        `jaxinv.precision.PRECISIONS`, None leaves JAX's default.
      defense: what the client does to its update before it sends it, in this order;
        each as `jaxinv.defenses.asked` reads it.
      draws: over how many draws an attacker averages who knows a defence that draws.
      sampling_rate: share of all examples that one round of DP-SGD takes, for epsilon.
      dp_rounds: of that training, likewise.
      delta: of (epsilon, delta)-privacy.
      lpips: file with the weights of LPIPS (see `jaxinv.metrics.load_lpips`); None
        leaves that metric out.
      target_options: of the model's builder.
      attack_options: of the attack.
    """

    target: str | None = None
    attack: str = "dlg"
    restarts: int = 4
    iterations: int | None = None
    batch_size: int = 1
    num_examples: int = 4
    data: str | None = None
    seed: int = 0
    withhold: tuple[str, ...] = ()
    grant: tuple[str, ...] = ()
    size: int | None = None
    normalise: bool = False
    halving: bool = False
    precision: str | None = None
    defense: tuple[str, ...] = ()
    draws: int = 4
    sampling_rate: float | None = None
    dp_rounds: int | None = None
    delta: float = 1e-5
    lpips: str | None = None
    local_lr: float | None = None
    local_steps: int | None = None
    local_epochs: int = 1
    local_batch: int | None = None
    local_optimizer: str = "sgd"
    target_options: dict[str, Any] = field(default_factory=dict)
    attack_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.attack not in attacks.ATTACKS:
            known = attacks.ATTACKS
            raise InputError(
                f"attack is {self.attack!r}; {nearest(self.attack, known)}"
            )
        if self.target is None:
            suited = attacks.ATTACKS[self.attack].target
            object.__setattr__(self, "target", suited)
        lowest = {"restarts": 1, "batch_size": 1, "num_examples": 1, "seed": 0}
        check_whole(self, {**lowest, "draws": 1})
        if self.iterations is not None:
            check_whole(self, {"iterations": 1})
        for name in ("normalise", "halving"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; expected true or false"
                )
        check_precision(self.precision)
        self.chain()
        self.epsilon()
        self._check_local()
        for name in (*self.withhold, *self.grant):
            if name not in GRANTABLE:
                raise InputError(f"knowledge is {name!r}; {nearest(name, GRANTABLE)}")
        both = set(self.withhold) & set(self.grant)
        if both:
            raise InputError(f"{min(both)} is both granted and withheld; choose one")

    def _check_local(self) -> None:
        if self.local_lr is None:
            for f in fields(self):
                value = getattr(self, f.name)
                if f.name in LOCAL and value != f.default:
                    raise InputError(
                        f"{f.name} is {value!r} and local_lr None; expected local_lr "
                        "too, the step size of the local training"
                    )
            return
        # Every client's share is checked here, not after an hour of work.
        whole, rest = divmod(self.num_examples, self.batch_size)
        try:
            local = self.local_training()
            for share in ([self.batch_size] if whole else []) + (
                [rest] if rest else []
            ):
                assert local is not None
                local.shape(share)
        except InputError as error:
            raise InputError(f"local training: {error}") from None

    def local_training(self) -> LocalTraining | None:
        """How the client trains; None where it sends one gradient."""
        if self.local_lr is None:
            return None
        return LocalTraining(
            self.local_lr,
            self.local_steps,
            self.local_epochs,
            self.local_batch,
            self.local_optimizer,
        )

    def chain(self) -> tuple[defenses.Asked, ...]:
        """What the client does to its update, in order."""
        return tuple(defenses.asked(words) for words in self.defense)

    def epsilon(self) -> float | None:
        """What the training spends in privacy; None where that was not asked for."""
        asked_for = self.sampling_rate is not None or self.dp_rounds is not None
        options = [o for name, o in self.chain() if name == "dp_sgd"]
        if not asked_for:
            return None
        if not options:
            raise InputError(
                f"defense is {' '.join(self.defense) or 'none'}; an epsilon is stated "
                "of dp_sgd alone, whose noise covers what one example adds"
            )
        if self.dp_rounds is None:
            raise InputError(
                "dp_rounds is None; epsilon expects the rounds of the training"
            )
        return defenses.epsilon(
            options[-1].get("noise_multiplier", defenses.NOISE_MULTIPLIER),
            sampling_rate=self.sampling_rate,
            rounds=self.dp_rounds,
            delta=self.delta,
        )

    def granted(self) -> tuple[str, ...]:
        """What the attacker is told, labels being told unless withheld.

        Local training always: every attack trains as the client did, or divides by
        its step size.
        """
        names = {"labels", *self.grant} - set(self.withhold)
        told = tuple(name for name in GRANTABLE if name in names)
        return told if self.local_lr is None else (*told, "local_training")

    def command(self) -> str:
        """The shell command that repeats this audit."""
        return command("images", self, always=("target", "attack", "seed"))
