"""What every conditioner promises."""

from __future__ import annotations

import torch
from torch import Tensor

from latdiff_core.interfaces import Conditioner, ConditionerConfig
from latdiff_core.testing.component import ComponentContract
from latdiff_core.testing.toys import nudge, unused_or_broken


class ConditionerContract(ComponentContract):
    """The contract of ``Conditioner``.

    Attributes
    ----------
    width
        Width of the activations.
    condition_width
        Width of the condition tokens.
    """

    config: ConditionerConfig
    width: int = 32
    condition_width: int = 16

    def build(self, attributes: int) -> Conditioner:
        """Make the conditioner with weights that are not at their zero initialisation."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            built = self.config.build(width=self.width, attributes=attributes, condition_width=self.condition_width)
            return nudge(built)

    def inputs(self, attributes: int, tokens: int = 5, batch: int = 4) -> tuple[Tensor, Tensor]:
        """Activations and conditions, the same at every call."""
        generator = torch.Generator().manual_seed(1)
        hidden = torch.randn(batch, tokens, self.width, generator=generator)
        return hidden, torch.randn(batch, attributes, self.condition_width, generator=generator)

    def test_the_shape_of_the_activations_is_kept(self) -> None:
        """Any number of tokens, attributes and cells comes back in the shape it came in."""
        for attributes in (1, 3):
            for tokens, batch in ((1, 4), (5, 4), (5, 1)):
                hidden, condition = self.inputs(attributes, tokens, batch)
                conditioner = self.build(attributes)
                output = conditioner(hidden, condition)
                assert output.shape == hidden.shape
                assert output.isfinite().all()
                assert conditioner.join_time(hidden[:, 0], condition).shape == (batch, self.width)

    def test_a_cell_alone_gives_the_same_as_in_a_batch(self) -> None:
        """No cell sees the activations or the condition of another cell."""
        conditioner, (hidden, condition) = self.build(3), self.inputs(3)
        together = self.both(conditioner, hidden, condition)
        for i in range(len(hidden)):
            alone = self.both(conditioner, hidden[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-4, atol=1e-5)

    def both(self, conditioner: Conditioner, hidden: Tensor, condition: Tensor) -> Tensor:
        """The two effects side by side, (batch, tokens + 1, width): on activations, and on a time embedding."""
        time = conditioner.join_time(hidden[:, 0], condition)
        return torch.cat([conditioner(hidden, condition), time.unsqueeze(1)], dim=1)

    def test_every_attribute_has_an_effect(self) -> None:
        """Each attribute of a cell's condition changes its activations or time embedding, and no other cell's."""
        conditioner, (hidden, condition) = self.build(3), self.inputs(3)
        before = self.both(conditioner, hidden, condition)
        for attribute in range(3):
            other = condition.clone()
            other[1, attribute] += 1.0
            change = (self.both(conditioner, hidden, other) - before).abs().amax(dim=(1, 2))  # (batch,)
            assert change[1] > 1e-3
            assert change[[0, 2, 3]].max() < 1e-5

    def test_the_activations_still_matter(self) -> None:
        """The condition acts on the activations and does not replace them."""
        conditioner, (hidden, condition) = self.build(2), self.inputs(2)
        hidden.requires_grad_()
        torch.autograd.backward(conditioner(hidden, condition).square().sum())
        assert hidden.grad is not None
        assert (hidden.grad != 0).all()

    def test_every_weight_gets_a_finite_gradient(self) -> None:
        """No weight is left unused, and no gradient is infinite or nan."""
        conditioner = self.build(3).train()
        torch.autograd.backward(self.both(conditioner, *self.inputs(3)).square().mean())
        assert unused_or_broken(conditioner) == []

    def test_half_and_double_precision_weights_work(self) -> None:
        """A module cast to bfloat16 or float64 takes and gives that dtype."""
        for dtype in (torch.bfloat16, torch.float64):
            hidden, condition = (x.to(dtype) for x in self.inputs(2))
            conditioner = self.build(2).to(dtype)
            assert conditioner(hidden, condition).dtype == dtype
            assert conditioner.join_time(hidden[:, 0], condition).dtype == dtype

    def test_eval_mode_is_deterministic(self) -> None:
        """In eval mode the same inputs give the same activations: no dropout is left on."""
        conditioner = self.build(2)
        first, again = (self.both(conditioner, *self.inputs(2)) for _ in range(2))
        assert torch.equal(first, again)
