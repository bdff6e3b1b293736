/* The smallest model in integers only, as transformer_lessons/weights/fixed_point.py computes it,
   equal to the bit. Every number is a BigInt that stands for x * 2 ** bits; BigInts have no largest
   value, and `>>` rounds down, as in Python.

   Shapes: T tokens, D d_model, H heads, d numbers per head, V vocabulary. */

(function () {
  "use strict";

  const TABLE_BITS = 10n;

  const absolute = (x) => (x < 0n ? -x : x);
  const product = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0n);
  const round_shift = (x, bits) => (x + ((1n << bits) >> 1n)) >> bits;
  const largest_of = (numbers) => numbers.reduce((a, b) => (a > b ? a : b));

  /* A sum of products, taken back to the model's bits of fraction; the largest is remembered. */
  function shifted(model, sum) {
    watch(model, sum);
    return round_shift(sum, model.bits);
  }

  function watch(model, sum) {
    if (absolute(sum) > model.largest) model.largest = absolute(sum);
  }

  /* a / b rounded down, for b > 0: BigInts are divided towards zero. */
  const floor_divided = (a, b) => (a < 0n && a % b !== 0n ? a / b - 1n : a / b);

  /* What read_model (model_file.js) has found, rounded to `bits` bits of fraction. */
  function to_fixed({ config, weights }, bits) {
    if (config.d_model > 4 || !config.adaptive_norm || config.rope_v_scale !== 0) {
      throw new Error("its norms or its values need more than integers");
    }
    const rounded = (x) => BigInt(Math.floor(x * 2 ** bits + 0.5));
    const each = (x) => (Array.isArray(x) ? x.map(each) : rounded(x));
    const width = config.d_model / config.n_heads;
    const to_powers = Math.LOG2E / Math.sqrt(width);
    const positions = Array.from({ length: config.context_length }, (_, position) => position);
    const pairs = Array.from({ length: width / 2 }, (_, j) => config.rope_theta ** ((-2 * j) / width));
    const tensors = {};
    for (const [name, tensor] of Object.entries(weights)) {
      const is_query = (row) => name.includes(".qkv.") && row < config.d_model;
      const scaled = (x, row) => (is_query(row) ? x * to_powers : x);
      tensors[name] = tensor.map((x, row) =>
        each(Array.isArray(x) ? x.map((number) => scaled(number, row)) : scaled(x, row)));
    }
    return {
      bits: BigInt(bits), n_layers: config.n_layers, n_heads: config.n_heads, tensors,
      cos: positions.map((t) => pairs.map((f) => rounded(Math.cos(t * f)))),
      sin: positions.map((t) => pairs.map((f) => rounded(Math.sin(t * f)))),
      powers: Array.from({ length: 1024 }, (_, i) => rounded(2 ** (-i / 1024))),
      ln2: rounded(Math.LN2), largest: 0n,
    };
  }

  /* 2 ** (score - the largest), with `bits` bits of fraction. */
  function powers_of_two(model, scores) {
    const { bits, powers, ln2 } = model;
    const mask = (1n << bits) - 1n;
    const largest = largest_of(scores);
    return scores.map((score) => {
      const below = largest - score;
      const scaled = (below & mask) << TABLE_BITS;
      const rest = round_shift((scaled & mask) * ln2, bits);
      const found = powers[Number(scaled >> bits)];
      const power = found - round_shift(found * rest, bits + TABLE_BITS);
      const whole = below >> bits;
      return round_shift(power, whole < bits + 2n ? whole : bits + 2n);
    });
  }

  function linear(model, name, x) {
    const bias = model.tensors[`${name}.bias`];
    return model.tensors[`${name}.weight`].map((row, i) =>
      shifted(model, product(row, x)) + bias[i]);
  }

  function turned(model, x, t) {
    const half = x.length / 2;
    const cos = model.cos[t];
    const sin = model.sin[t];
    const first = x.slice(0, half);
    const second = x.slice(half);
    return [
      ...first.map((_, j) => first[j] * cos[j] - second[j] * sin[j]),
      ...first.map((_, j) => second[j] * cos[j] + first[j] * sin[j]),
    ].map((sum) => shifted(model, sum));
  }

  /* What all heads hand over at each position: averages of the values, (T, D). */
  function attend(model, qkv) {
    const D = qkv[0].length / 3;
    const d = D / model.n_heads;
    const mixed = qkv.map(() => []);
    for (let first = 0; first < D; first += d) {
      const [q, k, v] = [0, D, 2 * D].map((part) =>
        qkv.map((row) => row.slice(part + first, part + first + d)));
      const keys = k.map((key, s) => turned(model, key, s));
      q.forEach((query, t) => {
        const looking = turned(model, query, t);
        const scores = keys.slice(0, t + 1).map((key) =>
          shifted(model, product(looking, key)));
        const powers = powers_of_two(model, scores);
        const total = powers.reduce((a, b) => a + b);
        for (let i = 0; i < d; i += 1) {
          const sum = powers.reduce((before, power, s) => before + power * v[s][i], 0n);
          watch(model, 2n * sum + total);
          mixed[t].push(floor_divided(2n * sum + total, 2n * total));
        }
      });
    }
    return mixed;
  }

  const add = (a, b) => a.map((x, i) => x + b[i]);

  /* The logits (T, V) of `tokens`; model.largest is then the largest sum, in absolute value. */
  function fixed_forward(model, tokens) {
    model.largest = 0n;
    let x = tokens.map((token) => model.tensors["embedding.weight"][token]);
    for (let layer = 0; layer < model.n_layers; layer += 1) {
      const name = `blocks.${layer}`;
      const mixed = attend(model, x.map((row) => linear(model, `${name}.attention.qkv`, row)));
      x = x.map((row, t) => add(row, linear(model, `${name}.attention.out`, mixed[t])));
      x = x.map((row) => {
        const hidden = linear(model, `${name}.feedforward.up`, row);
        const bent = hidden.map((number) => (number > 0n ? number : 0n));
        return add(row, linear(model, `${name}.feedforward.down`, bent));
      });
    }
    return x.map((row) => linear(model, "head", row));
  }

  Object.assign((window.TransformerLessons ??= {}), { to_fixed, fixed_forward });
})();
