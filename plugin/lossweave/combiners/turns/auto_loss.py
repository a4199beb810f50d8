"""A learned schedule: a controller picks the term that each update trains."""

import math
import zlib
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from lossweave.combiners._numerics import tainted
from lossweave.combiners._preference import refused
from lossweave.combiners._random import generator_for
from lossweave.combiners.adaptive._adam import LARGEST_RATE, BufferAdam
from lossweave.combiners.base import Combined, Combiner
from lossweave.combiners.registry import register_combiner
from lossweave.progress import Progress

__all__ = ["AutoLoss", "Choice", "choose", "controller_features", "gain"]

#: How fast the running means of the log losses forget, and the baseline learns.
_RECENT, _SLOW, _BASELINE = 0.1, 0.01, 0.5
#: Rewards are cut here, so that a jump of a loss does not fill the moments for long.
_LARGEST = 2.0


class Choice(NamedTuple):
    """What the controller does in one update.

    Args:
        chosen: the action taken, one-hot, shape ``(A,)``; all 0 where none is possible.
        score: the gradient of the log probability of that action in the policy, ``(A, F)``.
    """

    chosen: Tensor
    score: Tensor


def choose(
    policy: Tensor, features: Tensor, noise: Tensor, possible: Tensor, limit: float
) -> Choice:
    r"""Draw an action from :math:`\pi = \mathrm{softmax}(c \tanh(W \phi / c))`.

    The draw is the Gumbel-max trick: the largest of logit plus noise, so that the same noise
    gives the same action on every rank, and an action that is not possible costs no new draw.

    Args:
        policy: W, shape ``(A, F)``.
        features: :math:`\phi`, shape ``(F,)``.
        noise: standard Gumbel draws, shape ``(A,)``.
        possible: the actions there are to choose from, boolean ``(A,)``.
        limit: c, which keeps every action's probability above about :math:`e^{-2c} / A`.

    Example:
        >>> choice = choose(torch.zeros(2, 1), torch.ones(1), torch.tensor([0.3, 0.1]),
        ...                 torch.tensor([True, True]), limit=2.0)
        >>> choice.chosen.tolist(), choice.score.tolist()
        ([1.0, 0.0], [[0.5], [-0.5]])
    """
    squashed = torch.tanh(policy @ features / limit)
    logits = (limit * squashed).masked_fill(~possible, -torch.inf)
    best = (logits + noise).argmax()
    chosen = (torch.ones_like(logits).cumsum(0) - 1 == best) & possible
    one_hot = chosen.to(policy.dtype)
    probabilities = torch.softmax(logits, dim=0).masked_fill(~possible, 0)
    slope = (one_hot - probabilities) * (1 - squashed.square())
    return Choice(one_hot, torch.outer(slope, features))


def controller_features(
    fraction: Tensor, first: Tensor, recent: Tensor, slow: Tensor, held: Tensor, norms: Tensor
) -> Tensor:
    r"""What the controller sees: 2 + 5 K numbers in [-1, 1], none of which has a unit.

    A constant 1, the fraction of the training that is done, and for each term (0 where it is
    not known): its loss relative to its first one, its trend, its loss relative to the other
    terms', its held-out loss relative to its training loss, and its gradient's norm relative
    to the other terms'. Ratios enter as the tanh of their logarithm.

    Args:
        fraction: share of the training that is done, from 0 to 1, shape ``(1,)``.
        first: logarithm of each term's first loss, shape ``(K,)``; nan where not known.
        recent: mean of the logarithm of its losses over about 10 updates.
        slow: the same over about 100.
        held: logarithm of its latest held-out loss.
        norms: logarithm of its gradient's norm.
    """
    ratios = (recent - first, 10 * (recent - slow), _centred(recent), held - recent,
              _centred(norms))  # fmt: skip
    parts = [torch.tanh(ratio / 2).nan_to_num(0.0) for ratio in ratios]
    return torch.cat([torch.ones_like(fraction), fraction, *parts])


def gain(before: Tensor, after: Tensor, objective: Tensor) -> tuple[Tensor, Tensor]:
    r"""The weighted mean of :math:`\log L_k^{before} - \log L_k^{after}`, and whether there is one.

    Args:
        before: logarithms of the losses, shape ``(K,)``; nan where not known.
        after: the same, later.
        objective: the terms' weights, not negative, shape ``(K,)``.

    Example:
        >>> gain(torch.tensor([2.0, torch.nan]), torch.tensor([1.5, 1.0]), torch.ones(2))
        (tensor(0.5000), tensor(True))
    """
    fell = before - after
    weights = objective.masked_fill(fell.isnan(), 0)
    total = weights.sum()
    mean = (weights * fell.nan_to_num(0.0)).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)
    return mean, total > 0


@register_combiner
class AutoLoss(Combiner):
    r"""A controller that learns which term to train next (Xu et al., AutoLoss, 2019).

    In each optimizer update one term is drawn from the policy
    :math:`\pi = \mathrm{softmax}(c \tanh(W \phi / c))` and that term alone is trained:
    :math:`L_a, a \sim \pi`. The features :math:`\phi` are those of
    :func:`controller_features`: progress, recent losses, gradient norms. W is trained by
    REINFORCE, one step of the combiner's own Adam per episode along
    :math:`\sum_t \nabla_W \log \pi(a_t) (G_t - v^\top \phi_t)`: :math:`G_t` are the rewards
    from t to the episode's end, and the baseline v is learned by least squares. Policy,
    moments, running means, traces and baseline are in the checkpoint; draws follow from
    (seed, update, the term's name).

    The reward is how far the logarithm of the losses falls:

    - 'next': from one update's batch to the next one's, each measured before it is trained
      on. That costs nothing, but is held-out gain in the FIRST pass over the data only;
      later it is gain in training loss, and blind to overfitting.
    - 'held_out': on data that is not trained on, which the framework's hook measures every
      ``reward_interval`` updates (its option ``held_out``), for one forward each.

    What differs from the paper: its controllers learn over hundreds of whole trainings and
    then guide new ones; here it learns within the one training there is (:meth:`restart`
    begins another with the same controller), the policy has no hidden layer, and a term's
    gradient norm is that of the update that last trained it alone, which needs no extra
    backward but may be some updates old.

    Edge cases: linear in the chosen term, so one at 0 or below contributes as it is; it
    teaches nothing then. An absent term is not drawn. A term that is not drawn contributes
    neither value nor gradient, but with ``inactive='zero'`` it stays attached with weight 0,
    so one that is not finite makes the value nan.

    Args:
        lr: learning rate of the policy; 0 keeps it as it is.
        episode: updates in an episode.
        reward: 'next' or 'held_out', as above.
        reward_interval: updates between two measurements of held-out losses.
        objective: weight of each term in the reward, by name or in order; None means 1.
        joint: whether training all terms at once is one more action.
        limit: c, which bounds the logits.
        inactive: 'zero': parameters that only the other terms reach get a gradient of 0, so
            momentum and weight decay go on. 'hold': they are left alone, as in
            :class:`~lossweave.combiners.Alternating`, and the step brings the choice to the
            host, for which it waits.
        seed: seed of the draws.

    Raises:
        LossweaveError: an argument out of range; weights that are negative or all 0; an
            episode that does not end with a measurement.

    Example:
        >>> combiner = AutoLoss(seed=0)
        >>> combiner.bind(("cls", "loc"))
        >>> present = torch.tensor([True, True])
        >>> sorted(combiner.combine(torch.tensor([1.0, 2.0]), present).weights.tolist())
        [0.0, 1.0]
    """

    preference = refused("a controller picks the terms; give its objective")

    linear: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    scheduled: ClassVar[bool] = True
    reads_grad_norm: ClassVar[bool] = True
    sets: Tensor  # the terms that each action trains
    wanted: Tensor
    policy: Tensor
    slope: Tensor  # the policy's gradient in this episode
    trace: Tensor  # sum of its scores
    first: Tensor  # logarithms of the losses
    recent: Tensor
    slow: Tensor
    known: Tensor
    previous: Tensor  # those that the next reward is measured from
    norms: Tensor
    baseline: Tensor
    seen: Tensor  # sum of the features in this episode
    misses: Tensor  # of the features times what the baseline missed
    energy: Tensor  # of their squares

    def __init__(
        self,
        lr: float = 0.02,
        episode: int = 50,
        reward: Literal["next", "held_out"] = "next",
        reward_interval: int = 10,
        objective: dict[str, float] | Sequence[float] | None = None,
        joint: bool = False,
        limit: float = 2.0,
        inactive: Literal["hold", "zero"] = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.require("lr", lr, 0 <= lr < math.inf, "finite and not negative")
        self.require("lr", lr, lr <= LARGEST_RATE, f"at most {LARGEST_RATE}")
        self.require("episode", episode, episode >= 1, "at least 1")
        self.require("reward", reward, reward in ("next", "held_out"), "'next' or 'held_out'")
        self.require("reward_interval", reward_interval, reward_interval >= 1, "at least 1")
        aligned = reward == "next" or episode % reward_interval == 0
        self.require("episode", episode, aligned, f"a multiple of {reward_interval=}")
        self.require("limit", limit, 0 < limit < math.inf, "finite and positive")
        self.require("inactive", inactive, inactive in ("hold", "zero"), "'hold' or 'zero'")
        self.lr, self.episode, self.limit, self.seed = lr, episode, limit, seed
        self.reward, self.reward_interval = reward, reward_interval
        self.held_out_interval = reward_interval if reward == "held_out" else 0
        self.objective, self.joint, self.inactive = objective, joint, inactive
        self._keys: list[int] = []
        self._situation: tuple[Tensor, Tensor] | None = None
        self._active: tuple[bool, ...] | None = None
        self._picked: Tensor | None = None

    @property
    def needs_hook(self) -> bool:
        return True

    def bind(self, terms: Sequence[str]) -> None:
        super().bind(terms)
        wanted = self.per_term(1.0 if self.objective is None else self.objective, "objective")
        fine = min(wanted) >= 0 and max(wanted) > 0
        self.require("objective", self.objective, fine, "weights of 0 or more, not all 0")
        self.constant("wanted", wanted)
        self.constant("sets", self._sets())
        # By name, so that neither the order of the terms nor an absent one changes the draws.
        self._keys = [zlib.crc32(term.encode()) for term in self.terms] + [2**32]

    def _sets(self) -> list[list[float]]:
        count = len(self.terms)
        sets = [[float(a == k) for k in range(count)] for a in range(count)]
        return [*sets, [1.0] * count] if self.joint and count > 1 else sets

    def init_state(self, count: int) -> None:
        shape = (len(self._sets()), 2 + 5 * count)
        for name in ("policy", "slope", "trace"):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("first", "recent", "slow", "known", "norms"):
            self.register_buffer(name, torch.zeros(count))
        self.register_buffer("previous", torch.full((count,), torch.nan))
        for name in ("baseline", "seen", "misses"):
            self.register_buffer(name, torch.zeros(shape[1]))
        self.register_buffer("energy", torch.zeros(1))
        self.adam = BufferAdam(shape[0] * shape[1], self.lr)

    def restart(self) -> None:
        """Begin another training with the controller as it is: only the policy, its moments
        and the baseline of the rewards are kept."""
        for name in ("first", "recent", "slow", "known", "norms"):
            self.get_buffer(name).zero_()
        self.previous.fill_(torch.nan)
        self._end_episode()

    # ------------------------------------------------------------------------- the choice

    def begin(self, progress: Progress) -> None:
        super().begin(progress)
        self._situation = None

    def features(self) -> Tensor:
        """What the controller sees now, shape ``(2 + 5 K,)``; see :func:`controller_features`."""
        done, length = self.progress.iteration, self.progress.max_iterations
        fraction = torch.full_like(self.first[:1], min(1.0, done / length) if length else 0.0)
        unknown = self.known == 0
        first, recent, slow = (
            x.masked_fill(unknown, torch.nan) for x in (self.first, self.recent, self.slow)
        )
        held = self.previous if self.reward == "held_out" else torch.full_like(first, torch.nan)
        norms = self.norms.masked_fill(self.norms == 0, torch.nan).log()
        return controller_features(fraction, first, recent, slow, held, norms)

    def combine(self, losses: Tensor, present: Tensor) -> Combined:
        choice = self._choose(present)
        weights = (choice.chosen @ self.sets).to(losses.dtype).masked_fill(~present, 0)
        value = losses.masked_fill(weights == 0, 0).sum()
        if self.inactive == "hold":
            self._active = tuple(weight > 0 for weight in weights.tolist())
            return Combined(value, weights)
        return Combined(tainted(value, losses, present), weights)

    def active(self) -> tuple[bool, ...] | None:
        return self._active

    def _choose(self, present: Tensor) -> Choice:
        features, noise = self._here()
        possible = (self.sets * present).sum(1) > 0
        return choose(self.policy, features, noise, possible, self.limit)

    def _here(self) -> tuple[Tensor, Tensor]:
        """Features and draws, which are the same in all iterations of an update."""
        if self._situation is None:
            noise = self._draw().to(self.policy, non_blocking=True)
            self._situation = self.features(), noise
        return self._situation

    def _draw(self) -> Tensor:
        keys = self._keys[: len(self.terms)] + self._keys[-1:] * (len(self.sets) > len(self.terms))
        drawn = [
            torch.rand(1, generator=generator_for(self.seed, self.progress.update, key))
            for key in keys
        ]
        return -(-torch.cat(drawn).clamp(min=1e-12).log()).clamp(min=1e-12).log()

    # ----------------------------------------------------------------------- the learning

    def update(self, losses: Tensor, present: Tensor) -> None:
        choice = self._choose(present)
        self._picked = choice.chosen @ self.sets > 0
        logs = _logarithms(losses, present)
        if self.reward == "next":
            self._learn(logs, done=self.progress.update)
        # The baseline is that of the state in which the action was taken.
        features = self._here()[0] * (choice.chosen.sum() > 0)
        expected = self.baseline @ features
        self.trace += choice.score
        self.slope -= expected * choice.score
        self.seen += features
        self.misses -= expected * features
        self.energy += features @ features
        seen, new = logs.isfinite(), self.known == 0
        for mean, rate in ((self.recent, _RECENT), (self.slow, _SLOW), (self.first, 0.0)):
            moved = torch.where(new, logs, torch.lerp(mean, logs, rate))
            mean.copy_(torch.where(seen, moved, mean))
        self.known.copy_(torch.where(seen, torch.ones_like(self.known), self.known))

    @torch.no_grad()
    def held_out(self, losses: Tensor, present: Tensor) -> None:
        if self.reward == "held_out":
            self._learn(_logarithms(losses, present), done=self.progress.update + 1)

    @torch.no_grad()
    def grad_norm(self, norm: Tensor) -> None:
        if self._picked is None:
            return
        norm = norm.to(self.norms)
        alone = self._picked & (self._picked.sum() == 1) & norm.isfinite() & (norm > 0)
        self.norms.copy_(torch.where(alone, norm, self.norms))

    def _learn(self, logs: Tensor, done: int) -> None:
        """Reward the episode's actions so far; where it ends after ``done`` updates, step."""
        reward, there = gain(self.previous, logs, self.wanted)
        self.previous.copy_(torch.where(logs.isfinite(), logs, self.previous))
        reward = reward.masked_fill(~there, 0).clamp(-_LARGEST, _LARGEST)
        # What a reward adds to the returns of all actions before it.
        self.slope += reward * self.trace
        self.misses += reward * self.seen
        if done % self.episode == 0:
            self._step()

    def _step(self) -> None:
        uphill, policy = self.slope.flatten(), self.policy.flatten()
        # An entry that nothing was learned about, an absent term's say, keeps its moments.
        stepped = self.adam.step(policy, -uphill, uphill != 0)
        self.policy.copy_(stepped.view_as(self.policy).clamp(-self.limit, self.limit))
        self.baseline += _BASELINE * self.misses / self.energy.clamp(min=1)
        self._end_episode()

    def _end_episode(self) -> None:
        for name in ("slope", "trace", "seen", "misses", "energy"):
            self.get_buffer(name).zero_()


def _logarithms(losses: Tensor, present: Tensor) -> Tensor:
    """The logarithms in float32; nan where there is none that is finite."""
    known = present & (losses > 0) & losses.isfinite()
    return torch.where(known, losses, torch.full_like(losses, torch.nan)).log().float()


def _centred(values: Tensor) -> Tensor:
    return values - values.nanmean()
