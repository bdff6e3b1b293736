/* The book's Decoder in JavaScript: the same forward pass as the package, under the same names.

   Read it beside transformer_lessons/model/ and generation/sampling.py. A tensor (T, D) is an
   array of T rows of D numbers; there is no batch, and nothing here is trained. Numbers are float64
   where PyTorch's are float32, so the results differ in the seventh digit.

   Shapes: T tokens, D d_model, H heads, d numbers per head, F d_ff, V vocabulary. */

(function () {
  "use strict";

  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
    return sum;
  }

  const add = (x, y) => x.map((row, t) => row.map((number, i) => number + y[t][i]));
  const columns = (x, start, end) => x.map((row) => row.slice(start, end));

  // x + s * (y - x), as torch.lerp does it: exactly x at s = 0 and exactly y at s = 1.
  const lerp = (a, b, s) => (s < 0.5 ? a + s * (b - a) : b - (b - a) * (1 - s));
  const mix = (x, y, s) => x.map((row, t) => row.map((number, i) => lerp(number, y[t][i], s)));

  // ---- model/norm.py ------------------------------------------------------------------------

  function layer_norm(x, weight, bias, eps) {
    return x.map((row) => {
      const mean = row.reduce((sum, number) => sum + number, 0) / row.length;
      const centred = row.map((number) => number - mean);
      const variance = dot(centred, centred) / row.length;
      return centred.map((c, i) => (c / Math.sqrt(variance + eps)) * weight[i] + bias[i]);
    });
  }

  class LayerNorm {
    constructor(config, weights, name) {
      this.eps = config.norm_eps;
      this.scale = config.adaptive_norm ? size_scale(config) : 1;
      this.weight = weights[`${name}.weight`];
      this.bias = weights[`${name}.bias`];
    }

    forward(x) {
      return mix(x, layer_norm(x, this.weight, this.bias, this.eps), this.scale);
    }
  }

  function size_scale(config) {
    return Math.min(Math.max((config.d_model - 4) / 28, 0), 1);
  }

  // ---- model/position.py --------------------------------------------------------------------

  function rope_table(positions, head_dim, theta) {
    const angles = positions.map((position) =>
      Array.from({ length: head_dim / 2 }, (_, j) => position * theta ** ((-2 * j) / head_dim)));
    return [angles.map((row) => row.map(Math.cos)), angles.map((row) => row.map(Math.sin))];
  }

  function rotate(x, cos, sin) {
    const half = x[0].length / 2;
    return x.map((row, t) => {
      const x1 = row.slice(0, half);
      const x2 = row.slice(half);
      return [
        ...x1.map((_, j) => x1[j] * cos[t][j] - x2[j] * sin[t][j]),
        ...x1.map((_, j) => x2[j] * cos[t][j] + x1[j] * sin[t][j]),
      ];
    });
  }

  // ---- model/attention.py -------------------------------------------------------------------

  function attention_weights(q, k) {
    return q.map((query, t) => {
      const scores = k.map((key) => dot(query, key) / Math.sqrt(key.length));
      return softmax(scores.map((score, s) => (s <= t ? score : -Infinity))); // the causal mask
    });
  }

  function attend(weights, v) {
    return weights.map((row) =>
      v[0].map((_, i) => row.reduce((sum, weight, s) => sum + weight * v[s][i], 0)));
  }

  class CausalAttention {
    constructor(config, weights, name) {
      this.n_heads = config.n_heads;
      this.rope_v_scale = config.rope_v_scale;
      this.qkv = new Linear(weights, `${name}.qkv`);
      this.out = new Linear(weights, `${name}.out`);
    }

    project(x, cos, sin) {
      const D = x[0].length;
      const d = D / this.n_heads;
      const qkv = this.qkv.forward(x); // (T, 3D): all q heads, all k heads, all v heads
      return Array.from({ length: this.n_heads }, (_, head) => {
        let [q, k, v] = [0, D, 2 * D].map((part) =>
          columns(qkv, part + head * d, part + (head + 1) * d)); // (T, d) each
        [q, k] = [rotate(q, cos, sin), rotate(k, cos, sin)];
        v = mix(v, rotate(v, cos, sin), this.rope_v_scale);
        return [q, k, v];
      });
    }

    forward(x, cos, sin) {
      const heads = this.project(x, cos, sin);
      const weights = heads.map(([q, k]) => attention_weights(q, k)); // (H, T, T)
      const attended = heads.map(([, , v], head) => attend(weights[head], v)); // (H, T, d)
      const merged = x.map((_, t) => attended.flatMap((rows) => rows[t])); // (T, D)
      return [this.out.forward(merged), weights];
    }
  }

  // ---- model/feedforward.py, model/block.py, model/decoder.py ---------------------------------

  class Linear {
    constructor(weights, name) {
      this.weight = weights[`${name}.weight`]; // (out, in)
      this.bias = weights[`${name}.bias`];
    }

    forward(x) {
      return x.map((row) => this.weight.map((w, i) => dot(w, row) + this.bias[i]));
    }
  }

  class FeedForward {
    constructor(weights, name) {
      this.up = new Linear(weights, `${name}.up`);
      this.down = new Linear(weights, `${name}.down`);
    }

    forward(x) {
      const hidden = this.up.forward(x); // (T, F)
      return this.down.forward(hidden.map((row) => row.map((number) => Math.max(number, 0))));
    }
  }

  class Block {
    constructor(config, weights, name) {
      this.attention_norm = new LayerNorm(config, weights, `${name}.attention_norm`);
      this.attention = new CausalAttention(config, weights, `${name}.attention`);
      this.feedforward_norm = new LayerNorm(config, weights, `${name}.feedforward_norm`);
      this.feedforward = new FeedForward(weights, `${name}.feedforward`);
    }

    forward(x, cos, sin) {
      const [attended, pattern] = this.attention.forward(this.attention_norm.forward(x), cos, sin);
      x = add(x, attended);
      x = add(x, this.feedforward.forward(this.feedforward_norm.forward(x)));
      return [x, pattern];
    }
  }

  class Decoder {
    /* `config` and `weights` are what read_model (model_file.js) finds in an exported model. */
    constructor({ config, weights }) {
      this.config = config;
      this.embedding = weights["embedding.weight"];
      this.blocks = Array.from(
        { length: config.n_layers }, (_, i) => new Block(config, weights, `blocks.${i}`));
      this.final_norm = new LayerNorm(config, weights, "final_norm");
      this.head = new Linear(weights, "head");
    }

    /* The logits (T, V), and attention[layer][head][query][key]. */
    forward(tokens) {
      this.check_tokens(tokens);
      let x = tokens.map((token) => this.embedding[token]); // (T, D)
      const head_dim = this.config.d_model / this.config.n_heads;
      const [cos, sin] = rope_table(tokens.map((_, t) => t), head_dim, this.config.rope_theta);
      const attention = [];
      for (const block of this.blocks) {
        let pattern;
        [x, pattern] = block.forward(x, cos, sin);
        attention.push(pattern);
      }
      return { logits: this.head.forward(this.final_norm.forward(x)), attention };
    }

    check_tokens(tokens) {
      const { context_length, vocab_size } = this.config;
      if (tokens.length < 1 || tokens.length > context_length) {
        throw new Error(`${tokens.length} tokens, but this model looks at 1 to ${context_length}`);
      }
      for (const token of tokens) {
        if (!Number.isInteger(token) || token < 0 || token >= vocab_size) {
          throw new Error(`token ${token} is not in the vocabulary of ${vocab_size}`);
        }
      }
    }
  }

  // ---- generation/sampling.py ---------------------------------------------------------------

  /* softmax(scores / temperature); the largest is subtracted first, so that exp can't overflow. */
  function softmax(scores, temperature = 1) {
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const exps = scores.map((score) => Math.exp((score - largest) / temperature));
    const total = exps.reduce((sum, number) => sum + number, 0);
    return exps.map((number) => number / total);
  }

  /* The most likely token; the first one of equals. */
  function argmax(logits) {
    return logits.reduce((best, logit, i) => (logit > logits[best] ? i : best), 0);
  }

  /* Draw a token: walk along the probabilities until `random()`, from 0 to 1, is used up. */
  function sample(logits, temperature, random) {
    const probabilities = softmax(logits, temperature);
    let left = random();
    for (const [token, probability] of probabilities.entries()) {
      left -= probability;
      if (left < 0) return token;
    }
    return argmax(logits); // the probabilities add up to a hair below 1
  }

  /* A seeded source of random numbers from 0 to below 1 (mulberry32, by Tommy Ettinger). */
  function random_generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  const TransformerLessons = (window.TransformerLessons ??= {});
  TransformerLessons.weights ??= {}; // filled by the scripts that export_page_script writes
  Object.assign(TransformerLessons, { Decoder, softmax, argmax, sample, random_generator });
})();
