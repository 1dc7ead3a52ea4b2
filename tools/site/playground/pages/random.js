// torch's random numbers: the Mersenne twister, and its normal numbers by Box and Muller's method.
// A seed gives here what torch.randn gives with torch.Generator().manual_seed(seed) on a processor.

const N = 624, M = 397;

export class Generator {
  constructor(seed) {
    this.state = new Uint32Array(N);
    this.state[0] = seed;
    for (let i = 1; i < N; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.place = N;
  }

  // the next 32 bits
  next() {
    if (this.place === N) this.turn();
    let bits = this.state[this.place++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  turn() {
    const s = this.state;
    for (let i = 0; i < N; i++) {
      const both = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
      s[i] = s[(i + M) % N] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }

  // count standard normal numbers, count a multiple of 16: the first eight of sixteen uniform ones
  // give the radius, the others the angle
  normal(count) {
    const x = Float32Array.from({ length: count }, () => (this.next() & 0xffffff) / 2 ** 24);
    for (let block = 0; block < count; block += 16) {
      for (let i = block; i < block + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - x[i])), angle = 2 * Math.PI * x[i + 8];
        x[i] = radius * Math.cos(angle);
        x[i + 8] = radius * Math.sin(angle);
      }
    }
    return x;
  }
}
