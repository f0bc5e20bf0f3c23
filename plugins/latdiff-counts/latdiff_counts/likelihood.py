"""Negative binomial arithmetic that holds in float32, shared by the count distributions.

With m = log mu, l = log theta and u = x / theta::

    log NB(0) = -theta softplus(m - l)
    log NB(x) - log NB(0) = lgamma(x + theta) - lgamma(theta) - lgamma(x + 1) - x softplus(l - m)
                          = x (m - softplus(m - l)) - lgamma(x + 1) + D(x, theta)
    D(x, theta) = lgamma(x + theta) - lgamma(theta) - x l

The two forms of the second line are equal; the first loses its digits where theta is large, where lgamma(x + theta) -
lgamma(theta) cancels x l, and the second where theta is small. Nothing here is clamped with an added epsilon: that
would floor log-probabilities and kill gradients. Derivatives are written out, and only the first ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import logsigmoid, softplus

STIRLING_FROM = 8.0
"""Above this theta D is taken from Stirling's series, which is exact to float64 from here on."""
STEPS = 8
"""How many times the recurrence of digamma is taken to reach it from any theta below."""
SERIES_BELOW = 0.02
"""Below this u, log1p(u)/u - 1 is taken from its power series."""
DIRECT_TO = 18.0
"""log theta up to which float64 holds lgamma(x + theta) - lgamma(theta) to 1e-7; what stands for it beyond is right to
float32's last digit for counts up to 100,000."""
LOG_THETA_RANGE = (-40.0, 24.0)
"""Where the arithmetic is exact to float32."""


def nb_log_zero(log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(0) = -theta softplus(log mu - log theta)."""
    value: Tensor = _NBLogZero.apply(log_mu, log_theta)
    return value


def nb_log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """log NB(x) - log NB(0): all that a non-zero count adds to the closed form of the zeros; 0 at x = 0."""
    x = x.to(torch.promote_types(x.dtype, log_mu.dtype))
    at_entries = torch.broadcast_tensors(x, log_mu, log_theta)
    value: Tensor = _NBLogExcess.apply(*(p.reshape(-1) for p in at_entries))
    return value.view(at_entries[0].shape)


def log_mix(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """log((1 - pi) exp(first) + pi exp(second)) with pi = sigmoid(logits)."""
    value: Tensor = _LogMix.apply(logits, first, second)
    return value


class _NBLogZero(Function):
    """log NB(0), which is computed for every gene of every cell: in place, with its derivatives at hand afterwards."""

    @staticmethod
    def forward(ctx: Any, log_mu: Tensor, log_theta: Tensor) -> Tensor:
        minus_theta, odds = log_theta.exp().neg_(), log_mu - log_theta
        value = softplus(odds).mul_(minus_theta)
        if not any(ctx.needs_input_grad):
            return value
        slope = odds.sigmoid_().mul_(minus_theta)
        ctx.save_for_backward(value, slope)
        ctx.shapes = log_mu.shape, log_theta.shape
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        value, slope = ctx.saved_tensors
        of_log_mu, of_log_theta = ctx.shapes
        by_log_theta = (value - slope).mul_(gradient).sum_to_size(of_log_theta) if ctx.needs_input_grad[1] else None
        return (gradient * slope).sum_to_size(of_log_mu), by_log_theta


class _LogMix(Function):
    """The logarithm of a mixture of two, whose derivatives are the shares of its parts."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
        one, other = first + logsigmoid(-logits), second + logsigmoid(logits)
        if not any(ctx.needs_input_grad):
            return torch.logaddexp(one, other)
        ctx.save_for_backward(torch.sigmoid(logits), (other - one).sigmoid_())
        ctx.shapes = logits.shape, first.shape, second.shape
        return torch.logaddexp(one, other)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        prior, share = ctx.saved_tensors
        of_logits, of_first, of_second = ctx.shapes
        by_second = gradient * share
        by_logits, by_first = None, (gradient - by_second).sum_to_size(of_first)
        if ctx.needs_input_grad[0]:
            by_logits = by_second.sum_to_size(of_logits) - prior * gradient.sum_to_size(of_logits)
        return by_logits, by_first, by_second.sum_to_size(of_second)


class _NBLogExcess(Function):
    """log NB(x) - log NB(0) and its derivatives.

    At x = 1, most of the stored counts, no gamma function is left: log mu - softplus(log mu - log theta). A CPU is
    spared those; on a GPU they are cheaper than to wait for how many there are, and a short form in float64 is cheaper
    than a long one, since each of its operations takes the time that it takes to ask for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
        odds = log_mu - log_theta
        share = odds.sigmoid()  # mu / (mu + theta)
        by_log_mu = x * (-odds).sigmoid()  # not x - x share, which cancels where the mean is large
        if x.device.type == "cpu":
            value, by_log_theta = log_mu - softplus(odds), share
            others = (x != 1).nonzero().squeeze(-1)
            of_others = _nb_log_excess(*(p.index_select(0, others) for p in (x, log_mu, log_theta)))
            value[others], by_log_theta[others] = of_others
        elif x.dtype == torch.float64:
            value, by_log_theta = _nb_log_excess(x, log_mu, log_theta)
        else:
            value, by_log_theta = nb_log_excess_in_float64(x, log_mu, log_theta)
        ctx.save_for_backward(by_log_mu, by_log_theta)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        by_log_mu, by_log_theta = ctx.saved_tensors
        return None, gradient * by_log_mu, gradient * by_log_theta


def _nb_log_excess(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> tuple[Tensor, Tensor]:
    """log NB(x) - log NB(0) and its derivative by log theta, by the form that keeps its digits."""
    theta, factorial = log_theta.exp(), torch.lgamma(x + 1)
    series = theta > STIRLING_FROM
    far = torch.where(series, theta, theta + STEPS)
    rising, rising_slope, digammas = _log_rising(x, far)
    # Each sum begins with two large terms of opposite sign: in another order float32 rounds more often at their size.
    small = theta.clamp(max=STIRLING_FROM)
    direct = torch.lgamma(x + small) - factorial - torch.lgamma(small) - x * softplus(log_theta - log_mu)
    slope = small * (_digamma_steps(x, small) + digammas) - x * torch.sigmoid(log_theta - log_mu)
    stirling = x * (log_mu - softplus(log_mu - log_theta)) - factorial + rising
    stirling_slope = rising_slope + x * torch.sigmoid(log_mu - log_theta)
    return torch.where(series, stirling, direct), torch.where(series, stirling_slope, slope)


def nb_log_excess_in_float64(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> tuple[Tensor, Tensor]:
    """The same in the first form alone, which float64 holds up to a theta of ``DIRECT_TO``; there D ~ 1 / theta."""
    dtype, x, log_mu, log_theta = log_mu.dtype, x.double(), log_mu.double(), log_theta.double()
    nearer = log_theta.clamp(max=DIRECT_TO)
    theta, factor = nearer.exp(), (nearer - log_theta).exp()
    total, odds = x + theta, log_mu - log_theta
    rising = (torch.lgamma(total) - torch.lgamma(theta) - x * nearer) * factor
    rising_slope = (theta * (torch.digamma(total) - torch.digamma(theta)) - x) * factor
    value = rising - torch.lgamma(x + 1) + x * (log_mu - softplus(odds))
    return value.to(dtype), (rising_slope + x * odds.sigmoid()).to(dtype)


def _log_rising(x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D(x, theta), its derivative by log theta, and digamma(x + theta) - digamma(theta), in u = x / theta.

    For theta >= ``STIRLING_FROM``. The derivative is theta times the third less x, which cancel where u is small.
    From Stirling's series of both lgamma, and of both digamma (NIST DLMF 5.11.1 and 5.11.2).
    """
    u, total = x / theta, x + theta
    common, log_ratio = x * _log1p_ratio(u), torch.log1p(u)
    value = common + (x - 0.5) * log_ratio + (_stirling_tail(total) - _stirling_tail(theta))
    rest = 0.5 * u / total + (_digamma_tail(total) - _digamma_tail(theta))
    return value, common + theta * rest, log_ratio + rest


def _digamma_steps(x: Tensor, theta: Tensor) -> Tensor:
    """digamma(x + theta) - digamma(theta) less the same at theta + ``STEPS`` (NIST DLMF 5.5.2).

    The function itself takes torch three to four times as long as all of these steps, and would be needed twice.
    """
    lower, upper, total = theta.clone(), x + theta, torch.zeros_like(x)
    for _ in range(STEPS):
        total.addcdiv_(x, lower * upper)
        lower.add_(1)
        upper.add_(1)
    return total


def _log1p_ratio(u: Tensor) -> Tensor:
    """log1p(u)/u - 1 for u >= 0; differences of near-equal numbers are avoided, for the gradient's sake too.

    The series is that of log1p(u) = 2 artanh(s) with s = u / (2 + u) (NIST DLMF 4.6.6).
    """
    small, large = u.clamp(max=SERIES_BELOW), u.clamp(min=SERIES_BELOW)
    s = small / (2 + small)
    w = s * s
    series = -s + 2 * w / (2 + small) * (1 / 3 + w * (1 / 5 + w * (1 / 7 + w / 9)))
    return torch.where(u < SERIES_BELOW, series, torch.log1p(large) / large - 1)


def _stirling_tail(z: Tensor) -> Tensor:
    """lgamma(z) - ((z - 1/2) log z - z + log(2 pi)/2) for large z (NIST DLMF 5.11.1)."""
    w = 1 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w * (1 / 1188 - w * 691 / 360360))))) / z


def _digamma_tail(z: Tensor) -> Tensor:
    """digamma(z) - (log z - 1 / (2 z)) for large z (NIST DLMF 5.11.2): the derivative of ``_stirling_tail``."""
    w = 1 / (z * z)
    return -w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132 - w * 691 / 32760)))))
