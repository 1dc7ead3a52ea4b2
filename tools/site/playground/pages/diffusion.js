// DDIM, step by step, as minigen.ddim and minigen.guidance do it (chapters 6 and 7).

export const NONE = 5;                 // the label that stands for no hair colour in particular
const SIZE = 64;                       // numbers of one latent, 4×4×4

// Which of T time steps are visited: `steps` of them, falling.
export function timesteps(T, steps) {
  return Array.from({ length: steps }, (_, i) => Math.floor((T * (steps - i)) / steps + 0.5) - 1);
}

// The network's answer to a label, guided: v_u + scale (v_c − v_u), both asked for at once.
async function guided(denoiser, x, t, hair, scale) {
  const labels = Array(x.length / SIZE).fill(scale === 0 ? NONE : hair);
  const once = hair === NONE || scale === 0 || scale === 1;
  if (once) return (await denoiser({ z: x, t: [t], y: labels })).v;
  const twice = new Float32Array(2 * x.length);
  twice.set(x);
  twice.set(x, x.length);
  const y = [...labels, ...labels.map(() => NONE)], { v } = await denoiser({ z: twice, t: [t], y });
  return v.slice(x.length).map((u, i) => u + scale * (v[i] - u));
}

// Yields { t, x, x0 } a step: the state after it, and the guess of the clean latents behind it.
export async function* sample(denoiser, alphaBar, random, options) {
  const { count = 1, steps, eta = 0, hair = NONE, scale = 1 } = options;
  const visited = timesteps(alphaBar.length, steps);
  let x = random.normal(count * SIZE);
  yield { t: alphaBar.length, x, x0: null };
  for (const [i, t] of visited.entries()) {
    const now = alphaBar[t], before = i + 1 < steps ? alphaBar[visited[i + 1]] : 1;
    const signal = Math.sqrt(now), noise = Math.sqrt(1 - now);
    const v = await guided(denoiser, x, t, hair, scale);
    const x0 = v.map((value, k) => signal * x[k] - noise * value);
    const sigma = eta * Math.sqrt(((1 - before) / (1 - now)) * (1 - now / before));
    const towards = Math.sqrt(Math.max(0, 1 - before - sigma ** 2));
    const fresh = eta > 0 && i + 1 < steps ? random.normal(x.length) : null;
    x = v.map((value, k) => {
      const eps = noise * x[k] + signal * value;
      return Math.sqrt(before) * x0[k] + towards * eps + (fresh ? sigma * fresh[k] : 0);
    });
    yield { t, x, x0 };
  }
}
