"""Chapter 8: the loss scale of float16, whose smallest numbers are too large for many gradients.

The loss is multiplied before the backward pass and the gradient divided after it. Where a gradient
overflows, the step is left out and the scale halved; after many good steps it is doubled. bf16 has
float32's range and needs none of this. Source: Micikevicius et al. 2018, §3.2.
"""

from typing import Any

import torch
from torch import Tensor

FIRST, MOST = 2.0**16, 2.0**24
EVERY = 2000                                      # good steps after which the scale is doubled


class LossScale:
    """A factor of the loss that follows the gradients; without `enabled` it is 1 and stays so."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.value, self.good = (FIRST if enabled else 1.0), 0

    def __call__(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        return loss * self.value if self.enabled else loss

    def unscale(self, optimiser: torch.optim.Optimizer) -> None:
        """Gradients as they are without the scale."""
        parameters = (p for group in optimiser.param_groups for p in group["params"])
        if self.enabled and (gradients := [p.grad for p in parameters if p.grad is not None]):
            torch._foreach_mul_(gradients, 1 / self.value)

    def update(self, stepped: bool) -> None:
        """Half the scale after an overflow, twice as much after many good steps."""
        if not self.enabled:
            return
        self.good = self.good + 1 if stepped else 0
        if not stepped:
            self.value = max(1.0, self.value / 2)
        elif self.good == EVERY:
            self.value, self.good = min(MOST, 2 * self.value), 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return dict(value=self.value, good=self.good)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.value, self.good = float(state["value"]), int(state["good"])
