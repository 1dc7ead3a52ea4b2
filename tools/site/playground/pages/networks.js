// Files of this folder, fetched with their progress told, and the networks in them.

import * as ort from "./runtime/ort.js";

const RUNTIME = "runtime/ort.wasm";
ort.env.wasm.numThreads = 1;           // more need headers that a plain host of files does not send

// of one input's values, by network and input
const SHAPES = {
  vae: { z: [32] }, vqvae: { tokens: [4, 4] }, ivqvae: { z: [4, 4, 4] },
  fftd: { z: [4, 4, 4], t: [], y: [] }, classifier: { image: [3, 32, 32] }, words: { ids: [48] },
  text_fftd: { z: [4, 4, 4], t: [], y: [], words: [48, 64], ids: [48] },
};

async function fetched(path, told) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} is not there: ${answer.status}`);
  const reader = answer.body.getReader(), parts = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    told(value.length);
  }
}

// The tables and the named networks, each made ready while the others still come.
// told(bytes so far, all bytes) is called with each piece.
export async function load(names, told) {
  const tables = await (await fetch("tables.json")).json();
  const paths = [RUNTIME, ...names.map((name) => `models/${name}.onnx`)];
  const all = paths.reduce((sum, path) => sum + tables.bytes[path], 0);
  let sofar = 0;
  const coming = paths.map((path) => fetched(path, (bytes) => told((sofar += bytes), all)));
  ort.env.wasm.wasmBinary = await coming[0];
  const networks = {};
  for (const [i, name] of names.entries()) {
    networks[name] = await network(await coming[i + 1], name);
  }
  return { tables, networks };
}

// A network as a function: await run({ z: numbers, … }) → { image: numbers, … }.
// The first input says how many there are in a batch.
async function network(bytes, name) {
  const shapes = SHAPES[name];
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return async (inputs) => {
    const feeds = {};
    for (const [name, values] of Object.entries(inputs)) {
      const shape = shapes[name], size = shape.reduce((a, b) => a * b, 1);
      const whole = !(values instanceof Float32Array);
      const data = whole ? BigInt64Array.from(values, BigInt) : values;
      feeds[name] = new ort.Tensor(whole ? "int64" : "float32", data,
                                   [values.length / size, ...shape]);
    }
    const answers = Object.entries(await session.run(feeds));
    return Object.fromEntries(answers.map(([name, { type, data }]) =>
      [name, type === "int64" ? Array.from(data, Number) : data]));
  };
}
