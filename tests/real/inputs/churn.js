// Objects, strings, maps, buffers, compression, hashing, workers. Usage: churn.js ROUNDS; prints digests.
'use strict';
const crypto = require('crypto');
const zlib = require('zlib');
const { Worker, isMainThread, workerData, parentPort } = require('worker_threads');

function generator(seed) {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * limit);
  };
}

function word(draw) {
  let text = '';
  for (let i = 2 + draw(10); i > 0; i--) text += String.fromCharCode(97 + draw(26));
  return text;
}

function tree(draw, depth) {
  const node = { key: draw(1000) };
  return depth === 0 ? node : { ...node, left: tree(draw, depth - 1), right: tree(draw, depth - 1) };
}

const total = (node) => (node ? node.key + total(node.left) + total(node.right) : 0);

function oneRound(seed) {
  const draw = generator(seed);
  const words = Array.from({ length: 6000 }, () => word(draw));
  const index = new Map();
  words.forEach((w, place) => {
    const key = w.slice(0, 2);
    if (!index.has(key)) index.set(key, []);
    index.get(key).push({ word: w, place });
  });
  const document = [...index.entries()].sort((a, b) => (a[0] < b[0] ? -1 : 1));
  const encoded = JSON.stringify(document);
  const again = JSON.parse(encoded);
  const page = words.join(' ').replace(/\b(\w)(\w*)(\w)\b/g, '$3$2$1');
  const hash = crypto.createHash('sha256');
  hash.update(encoded).update(page).update(String(total(tree(draw, 13)))).update(String(again.length));
  const buffers = [];
  for (let i = 0; i < 1500; i++) {
    const buffer = Buffer.alloc(1 + draw(20000), i & 255);
    buffer.writeUInt8(draw(256), draw(buffer.length));
    buffers[draw(200)] = buffer;
  }
  for (const buffer of buffers) if (buffer) hash.update(buffer);
  const packed = zlib.deflateSync(Buffer.from(encoded));
  hash.update(packed).update(zlib.inflateSync(packed)).update(zlib.brotliCompressSync(Buffer.from(page), {
    params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } }));
  return hash.digest('hex');
}

if (isMainThread) {
  const rounds = Number(process.argv[2]);
  for (let round = 1; round <= rounds; round++) console.log(oneRound(round));
  const results = [];
  let left = 2;
  for (let i = 0; i < 2; i++) {
    const worker = new Worker(__filename, { workerData: { seed: 1000 + i, rounds: Math.ceil(rounds / 4) } });
    worker.on('message', (digest) => { results[i] = digest; });
    worker.on('exit', (code) => {
      results[i] += ` exit ${code}`;
      if (--left === 0) console.log(results.join('\n'));
    });
  }
} else {
  const digests = [];
  for (let i = 0; i < workerData.rounds; i++) digests.push(oneRound(workerData.seed + i));
  parentPort.postMessage(digests.join(' '));
}
