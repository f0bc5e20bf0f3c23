"""Log-probabilities of every count distribution against scipy.stats and scvi-tools, in float64 and float32.

What is given in float32 is compared at its rounded parameters, with references in float64. Run pytest with ``-s`` to
see the errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import logsigmoid

from latdiff_counts import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial

NAMES = ("poisson", "nb", "zinb", "mixture")


@dataclass(frozen=True)
class Case:
    """Parameters of 40 cells x 9 genes, of one precision, and counts around twice their mean, many of them zero.

    Attributes
    ----------
    log_mu, logits, x
        (40, 9); the logits are those of zero inflation or of the tail.
    log_theta
        From 0.01 to a million, (9,).
    log_burst
        The other way, from 100 to 0.01, (9,).
    """

    log_mu: Tensor
    log_theta: Tensor
    log_burst: Tensor
    logits: Tensor
    x: Tensor

    def ours(self, name: str) -> Tensor:
        if name == "poisson":
            return Poisson(self.log_mu).log_prob(self.x)
        if name == "nb":
            return NegativeBinomial(self.log_mu, self.log_theta).log_prob(self.x)
        if name == "zinb":
            return ZeroInflatedNegativeBinomial(self.log_mu, self.log_theta, self.logits).log_prob(self.x)
        return NegativeBinomialMixture(self.log_mu, self.log_theta, self.log_burst, self.logits).log_prob(self.x)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def case(request) -> Case:
    generator = torch.Generator().manual_seed(0)
    log_mu, logits = (k * torch.randn(40, 9, generator=generator, dtype=torch.float64) for k in (2, 3))
    log_theta = torch.logspace(-2, 6, 9, dtype=torch.float64).log()
    log_burst = torch.logspace(2, -2, 9, dtype=torch.float64).log()
    x = torch.poisson(2 * log_mu.exp(), generator=generator)
    return Case(*(p.to(request.param) for p in (log_mu, log_theta, log_burst, logits, x)))


def _scipys(name: str, case: Case) -> Tensor:
    """From scipy's logpmf; the mixtures by hand."""
    log_mu, log_theta, log_burst, logits, x = (p.double() for p in vars(case).values())
    mu, theta, theta_tail = log_mu.exp(), log_theta.exp(), (log_mu - log_burst).exp()
    if name == "poisson":
        return torch.from_numpy(stats.poisson.logpmf(x, mu))
    nb, tail = (torch.from_numpy(stats.nbinom.logpmf(x, t, t / (t + mu))) for t in (theta, theta_tail))
    if name == "nb":
        return nb
    other = torch.where(x == 0, 0.0, -torch.inf) if name == "zinb" else tail
    return torch.logaddexp(logsigmoid(-logits) + nb, logsigmoid(logits) + other)


def _scvis(name: str, case: Case, scvi) -> Tensor:
    """From scvi-tools' distributions; the mixture from two of its NBs."""
    log_mu, log_theta, log_burst, logits, x = (p.double() for p in vars(case).values())
    mu, theta, theta_tail = log_mu.exp(), log_theta.exp(), (log_mu - log_burst).exp()
    if name == "poisson":
        return scvi.Poisson(mu).log_prob(x)
    if name == "zinb":
        return scvi.ZeroInflatedNegativeBinomial(mu=mu, theta=theta, zi_logits=logits).log_prob(x)
    nb, tail = (scvi.NegativeBinomial(mu=mu, theta=t).log_prob(x) for t in (theta, theta_tail))
    return nb if name == "nb" else torch.logaddexp(logsigmoid(-logits) + nb, logsigmoid(logits) + tail)


def _largest_error(what: str, case: Case, name: str, reference: Tensor) -> float:
    ours = case.ours(name)
    error = (ours.double() - reference).abs().max().item()
    print(f"{name} vs {what}, {ours.dtype}: {error:.3g}")
    return error


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_scipys(name, case):
    bound = 2e-8 if case.x.dtype == torch.float64 else 3e-4
    assert _largest_error("scipy", case, name, _scipys(name, case)) < bound


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_scvi_tools(name, case, scvi_distributions):
    """Parameters mean what they mean there; scvi-tools adds 1e-8 inside its logs."""
    bound = 1e-6 if case.x.dtype == torch.float64 else 3e-4
    assert _largest_error("scvi", case, name, _scvis(name, case, scvi_distributions)) < bound
