// DDIM, step by step, as minigen.ddim and minigen.guidance do it (chapters 6 and 7), and steps of
// second order, as minigen.ode.multistep_sample takes them.

export const NONE = 5;                 // the label that stands for no hair colour in particular
const SIZE = 64;                       // numbers of one latent, 4×4×4

// Which of T time steps are visited: `steps` of them, falling.
export function timesteps(T, steps) {
  return Array.from({ length: steps }, (_, i) => Math.floor((T * (steps - i)) / steps + 0.5) - 1);
}

// The network's answer to a label, guided: v_u + scale (v_c − v_u), both asked for at once, where
// v_u is its answer to the label `none`.
async function guided(denoiser, x, t, label, none, scale) {
  const labels = Array(x.length / SIZE).fill(scale === 0 ? none : label);
  const once = label === none || scale === 0 || scale === 1;
  if (once) return (await denoiser({ z: x, t: [t], y: labels })).v;
  const twice = new Float32Array(2 * x.length);
  twice.set(x);
  twice.set(x, x.length);
  const y = [...labels, ...labels.map(() => none)], { v } = await denoiser({ z: twice, t: [t], y });
  return v.slice(x.length).map((u, i) => u + scale * (v[i] - u));
}

// half the logarithm of the signal-to-noise ratio
const logKappa = (alphaBar) => 0.5 * Math.log(alphaBar / (1 - alphaBar));

// Yields { t, x, x0 } a step: the state after it, and the guess of the clean latents behind it.
// A step of order 2 goes where the last two guesses point to (without fresh noise: η = 0).
export async function* sample(denoiser, alphaBar, random, options) {
  const { count = 1, steps, eta = 0, label = NONE, none = NONE, scale = 1, order = 1 } = options;
  const visited = timesteps(alphaBar.length, steps);
  let x = random.normal(count * SIZE), past = null;
  yield { t: alphaBar.length, x, x0: null };
  for (const [i, t] of visited.entries()) {
    const now = alphaBar[t], before = i + 1 < steps ? alphaBar[visited[i + 1]] : 1;
    const signal = Math.sqrt(now), noise = Math.sqrt(1 - now);
    const v = await guided(denoiser, x, t, label, none, scale);
    const x0 = v.map((value, k) => signal * x[k] - noise * value), here = logKappa(now);
    const share = order === 2 && past && before < 1
      ? (logKappa(before) - here) / (here - past.here) / 2 : 0;
    const end = share ? x0.map((value, k) => value + share * (value - past.x0[k])) : x0;
    const sigma = eta * Math.sqrt(((1 - before) / (1 - now)) * (1 - now / before));
    const towards = Math.sqrt(Math.max(0, 1 - before - sigma ** 2));
    const fresh = eta > 0 && i + 1 < steps ? random.normal(x.length) : null;
    x = x.map((value, k) => {
      const eps = (value - signal * end[k]) / noise;
      return Math.sqrt(before) * end[k] + towards * eps + (fresh ? sigma * fresh[k] : 0);
    });
    past = { here, x0 };
    yield { t, x, x0 };
  }
}
