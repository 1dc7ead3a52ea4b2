"""Chapter 5: a second loss for details, the perceptual distance of the guess of x_0.

The squared error counts every pixel alike, and a mouth has six of a thousand. Chapter 4's distance
counts what a trained eye looks at. It is asked only where the noise leaves a picture to be seen:
elsewhere the best guess is a blur, and a distance that dislikes blur would draw it away from the
mean that a sampler needs.
Source: the course's; IVQ-VAE's L_P (Liu, Chen, Gao 2026, Eq. 12) on a denoiser's guess.
"""

from collections.abc import Callable

from torch import Tensor, nn

from minigen.ddpm import Denoiser, ask, prediction_of
from minigen.diffusion import Diffusion
from minigen.inputs import number


def detail_loss(perceptual: nn.Module, weight: float = 1.0,
                most_noise: float = 1.0) -> Callable[..., Tensor]:
    """The loss ‖target − output‖² + weight · d(x̂_0, x_0), for `ddpm.train_ddpm`.

    The second term is of the images whose noise √((1 − ᾱ_t) / ᾱ_t) is below `most_noise`, over the
    number of all. x̂_0, as the output implies it, is cut to [-1, 1] on the way to the distance d;
    its gradient is not.
    perceptual: d, as `minigen.perceptual.ToyPerceptual`; (B, …) twice → (B,).
    Returns: a function (model, diffusion, x0, t, eps, y) → scalar, like `ddpm.simple_loss`, which
    it equals for weight 0.
    Raises: ValueError for a weight or a noise below 0.
    """
    number(weight, "weight", 0)
    number(most_noise, "most_noise", 0)

    def loss(model: Denoiser, diffusion: Diffusion, x0: Tensor, t: Tensor, eps: Tensor,
             y: Tensor | None = None) -> Tensor:
        prediction = prediction_of(model)
        xt = diffusion.add_noise(x0, t, eps)
        output = ask(model, xt, t, y)
        target = diffusion.target(x0, eps, t, prediction)
        squared = (output - target).square().mean()
        noise = (1 / diffusion.snr[t.cpu()]).sqrt()                       # of an image, (B,)
        seen = (noise < most_noise).to(x0.device)
        if not weight or not bool(seen.any()):
            return squared
        guess = diffusion.views(output, xt, t, prediction)[0][seen]
        cut = guess + (guess.clamp(-1, 1) - guess).detach()
        return squared + weight * perceptual(cut, x0[seen]).sum() / len(x0)

    return loss
