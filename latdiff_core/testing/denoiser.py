"""What every denoiser promises."""

from __future__ import annotations

import torch
from torch import Tensor

from latdiff_core.interfaces import Conditioner, Denoiser, DenoiserConfig, Unconditional
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import AddCondition, JoinTime, nudge, unused_or_broken

WIDTH, ATTRIBUTES = 6, 2


class DenoiserContract(ComponentContract):
    """The contract of ``Denoiser``.

    Attributes
    ----------
    dims
        Sizes of the diffused vector to try; odd ones belong among them.
    """

    config: DenoiserConfig
    dims: tuple[int, ...] = (9, 16, 33)

    def build(self, dim: int, conditioner: type[Conditioner] = AddCondition) -> Denoiser:
        """Make the denoiser with weights that are not at their zero initialisation."""

        def make_conditioner(width: int) -> Conditioner:
            sizes = {} if conditioner is Unconditional else {"width": width, "condition_width": WIDTH}
            return conditioner(**sizes)

        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nudge(self.config.build(dim=dim, make_conditioner=make_conditioner))

    def inputs(self, dim: int, batch: int = 4, attributes: int = ATTRIBUTES) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, times and conditions, the same at every call."""
        generator = torch.Generator().manual_seed(1)
        z_t = torch.randn(batch, dim, generator=generator)
        t = 1 - torch.rand(batch, generator=generator)
        return z_t, t, torch.randn(batch, attributes, WIDTH, generator=generator)

    def test_the_prediction_has_the_shape_of_the_latent(self) -> None:
        """Every size of the latent, even or odd, comes back as (batch, dim), for one cell and for several."""
        for dim in self.dims:
            for batch in (1, 4):
                assert self.build(dim)(*self.inputs(dim, batch)).shape == (batch, dim)

    def test_it_works_without_condition_attributes(self) -> None:
        """A model without conditions has attributes = 0, and every block has the conditioner ``Unconditional``."""
        dim = self.dims[0]
        output = self.build(dim, Unconditional)(*self.inputs(dim, attributes=0))
        assert output.shape == (4, dim)
        assert output.isfinite().all()

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """No cell sees another cell."""
        dim = self.dims[-1]
        denoiser, (z_t, t, condition) = self.build(dim), self.inputs(dim)
        together = denoiser(z_t, t, condition)
        for i in range(len(z_t)):
            alone = denoiser(z_t[i : i + 1], t[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)

    def test_permuting_the_batch_permutes_the_prediction(self) -> None:
        """The place of a cell in the batch means nothing."""
        dim = self.dims[-1]
        denoiser, inputs, order = self.build(dim), self.inputs(dim), torch.tensor([2, 0, 3, 1])
        permuted = denoiser(*(x[order] for x in inputs))
        torch.testing.assert_close(permuted, denoiser(*inputs)[order], rtol=1e-4, atol=1e-5)

    def test_the_prediction_depends_on_latent_time_and_condition(self) -> None:
        """Every value of the noisy latent, the time and every condition token reaches the prediction."""
        for dim in self.dims:
            z_t, t, condition = (x.requires_grad_() for x in self.inputs(dim))
            self.build(dim)(z_t, t, condition).square().sum().backward()
            for name, tensor in {"z_t": z_t, "t": t, "condition": condition}.items():
                assert tensor.grad is not None, name
                reached = tensor.grad if tensor.ndim < 3 else tensor.grad.abs().sum(-1)
                assert (reached != 0).all(), f"{name} does not reach the prediction everywhere (dim {dim})"

    def test_a_condition_that_joins_the_time_reaches_the_prediction(self) -> None:
        """A conditioner that leaves the activations alone, and changes the time embedding, has its effect too."""
        dim = self.dims[-1]
        z_t, t, condition = self.inputs(dim)
        denoiser = self.build(dim, JoinTime)
        other = condition.clone()
        other[1] += 1.0
        change = (denoiser(z_t, t, other) - denoiser(z_t, t, condition)).abs().amax(-1)  # (batch,)
        assert change[1] > 1e-4
        assert change[[0, 2, 3]].max() < 1e-5

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """No weight is left unused, and no gradient is infinite or nan."""
        dim = self.dims[-1]
        denoiser = self.build(dim).train()
        denoiser(*self.inputs(dim)).square().mean().backward()
        assert unused_or_broken(denoiser) == []

    def test_half_and_double_precision_weights_work(self) -> None:
        """A module cast to bfloat16 or float64 takes and gives that dtype, and says the same as in float32."""
        dim = self.dims[-1]
        inputs, reference = self.inputs(dim), self.build(dim)(*self.inputs(dim))
        for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1)):
            z_t, t, condition = inputs
            output = self.build(dim).to(dtype)(z_t.to(dtype), t, condition.to(dtype))
            assert output.dtype == dtype
            error = (output.float() - reference).square().mean().sqrt() / reference.square().mean().sqrt()
            assert error < tolerance, f"{dtype}: relative error {error:.2g}"

    def test_eval_mode_is_deterministic(self) -> None:
        """In eval mode the same inputs give the same prediction: no dropout is left on."""
        dim = self.dims[0]
        denoiser = self.build(dim)
        assert torch.equal(denoiser(*self.inputs(dim)), denoiser(*self.inputs(dim)))
