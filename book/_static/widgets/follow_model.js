/* A Decoder in JavaScript that keeps what it computes: the page's twin of
   transformer_lessons/model/ for any config that read_page_model accepts. Numbers are float32, as
   PyTorch's, in flat arrays; a matrix (V, D) lies row by row.

   `trace[t]` is all that was computed for the token at position t. Its keys and values are the KV
   cache: the next token needs only them, so `push` costs one row, however long the text is.

   Shapes: D d_model, H heads, K heads of keys and values, d numbers per head, F d_ff, V tokens. */

(function () {
  "use strict";

  /* x W^T + b for one row x: `weight` is (n_out, x.length), `bias` (n_out,) or undefined. */
  function linear(x, weight, bias) {
    const n_in = x.length;
    const y = new Float32Array(weight.length / n_in);
    for (let i = 0; i < y.length; i += 1) y[i] = dot(weight, i * n_in, x, 0, n_in);
    if (bias) for (let i = 0; i < y.length; i += 1) y[i] += bias[i];
    return y;
  }

  /* The dot product of n numbers of a, from i on, and of b, from j on. Four sums at a time don't
     wait for each other. */
  function dot(a, i, b, j, n) {
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    let p = 0;
    for (; p + 3 < n; p += 4) {
      s0 += a[i + p] * b[j + p];
      s1 += a[i + p + 1] * b[j + p + 1];
      s2 += a[i + p + 2] * b[j + p + 2];
      s3 += a[i + p + 3] * b[j + p + 3];
    }
    for (; p < n; p += 1) s0 += a[i + p] * b[j + p];
    return s0 + s1 + (s2 + s3);
  }

  const added = (x, y) => x.map((number, i) => number + y[i]);
  const mean_square = (x) => dot(x, 0, x, 0, x.length) / x.length;

  /* softmax of the first n scores, in place; the largest is subtracted first. */
  function softmax_in_place(scores) {
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    let total = 0;
    for (let i = 0; i < scores.length; i += 1) total += scores[i] = Math.exp(scores[i] - largest);
    for (let i = 0; i < scores.length; i += 1) scores[i] /= total;
    return scores;
  }

  const silu = (x) => x / (1 + Math.exp(-x));
  const gelu = (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  const ACTIVATIONS = { relu: (x) => Math.max(x, 0), gelu };

  class TracedModel {
    /* `tensors` maps the names of the state dict to flat Float32Arrays. */
    constructor({ config, tensors, shapes, n_parameters }) {
      Object.assign(this, { config, tensors, shapes, n_parameters, trace: [] });
      this.n_kv_heads = config.n_kv_heads ?? config.n_heads;
      this.head_dim = config.head_dim ?? config.d_model / config.n_heads;
      this.norm_scale = config.adaptive_norm
        ? Math.min(Math.max((config.d_model - 4) / 28, 0), 1) : 1;
      this.frequencies = Array.from({ length: this.head_dim / 2 },
        (_, j) => config.rope_theta ** ((-2 * j) / this.head_dim));
    }

    /* The same model, with what it has computed so far, whatever is pushed or cropped later. */
    snapshot() {
      return Object.assign(Object.create(TracedModel.prototype), this, { trace: [...this.trace] });
    }

    /* Keep what was computed for the first n tokens: as KVCache.crop. */
    crop(n) {
      this.trace.length = Math.min(n, this.trace.length);
    }

    /* Compute one more position. x[l] is what block l reads, x[n_layers] what the last leaves. */
    push(token) {
      const t = this.trace.length;
      const entry = { token, x: [this.embed(token, t)], attention: [], mlp: [], q: [], k: [], v: [],
        weights: [] };
      this.trace.push(entry);
      for (let layer = 0; layer < this.config.n_layers; layer += 1) this.block(entry, layer, t);
    }

    embed(token, t) {
      const { d_model: D, scale_embeddings, position } = this.config;
      const row = (name, i) => this.tensors[name].subarray(i * D, (i + 1) * D);
      let x = row("embedding.weight", token).slice();
      if (scale_embeddings) x = x.map((number) => number * Math.sqrt(D));
      if (position === "learned") x = added(x, row("position_embedding.weight", t));
      if (position === "sinusoidal") x = x.map((number, i) => number + wave(t, i, D));
      return x;
    }

    block(entry, layer, t) {
      const name = `blocks.${layer}`;
      const x = entry.x[layer];
      const attention = this.attend(entry, layer, t, this.norm(x, `${name}.attention_norm`));
      const between = added(x, attention);
      const mlp = this.feedforward(this.norm(between, `${name}.feedforward_norm`),
        `${name}.feedforward`);
      entry.attention.push(attention);
      entry.mlp.push(mlp);
      entry.x.push(added(between, mlp));
    }

    norm(x, name) {
      const { norm, norm_eps } = this.config;
      const [weight, bias] = [this.tensors[`${name}.weight`], this.tensors[`${name}.bias`]];
      const mean = norm === "layer" ? x.reduce((sum, number) => sum + number, 0) / x.length : 0;
      const centred = x.map((number) => number - mean);
      const size = 1 / Math.sqrt(mean_square(centred) + norm_eps);
      const scale = this.norm_scale;
      return x.map((number, i) =>
        number * (1 - scale) + (centred[i] * size * weight[i] + (bias ? bias[i] : 0)) * scale);
    }

    attend(entry, layer, t, x) {
      const { n_heads: H, rope_v_scale, qk_norm, position } = this.config;
      const { n_kv_heads: K, head_dim: d } = this;
      const name = `blocks.${layer}.attention`;
      const qkv = this.linear(x, `${name}.qkv`);
      const heads = (start, n) => Array.from({ length: n }, (_, h) =>
        qkv.slice((start + h) * d, (start + h + 1) * d));
      let [q, k, v] = [heads(0, H), heads(H, K), heads(H + K, K)];
      if (qk_norm) q = q.map((head) => this.norm(head, `${name}.q_norm`));
      if (qk_norm) k = k.map((head) => this.norm(head, `${name}.k_norm`));
      if (position === "rope") {
        [q, k] = [q, k].map((part) => part.map((head) => this.turn(head, t, 1)));
        v = v.map((head) => this.turn(head, t, rope_v_scale));
      }
      entry.q.push(q);
      entry.k.push(k);
      entry.v.push(v);
      const weights = q.map((_, h) => softmax_in_place(this.scores(t, layer, h)));
      entry.weights.push(weights);
      const mixed = new Float32Array(H * d);
      for (let h = 0; h < H; h += 1) {
        const kv = Math.floor(h / (H / K));
        for (const [s, weight] of weights[h].entries()) {
          if (weight === 0) continue; // outside of the window
          const value = this.trace[s].v[layer][kv];
          for (let i = 0; i < d; i += 1) mixed[h * d + i] += weight * value[i];
        }
      }
      return this.linear(mixed, `${name}.out`);
    }

    /* q · k / sqrt(d) of head h for the query at t and every key up to it: (t + 1,). */
    scores(t, layer, h) {
      const { head_dim: d, trace } = this;
      const kv = Math.floor(h / (this.config.n_heads / this.n_kv_heads));
      const first = t + 1 - (this.config.sliding_window ?? t + 1);
      const query = trace[t].q[layer][h];
      return Float32Array.from({ length: t + 1 }, (_, s) =>
        (s < first ? -Infinity : dot(query, 0, trace[s].k[layer][kv], 0, d) / Math.sqrt(d)));
    }

    /* RoPE: pair (j, j + d/2) turned by t times its frequency, `share` of the way. */
    turn(x, t, share) {
      if (share === 0) return x;
      const half = x.length / 2;
      const turned = x.slice();
      for (const [j, frequency] of this.frequencies.entries()) {
        const [cos, sin] = [Math.cos(t * frequency), Math.sin(t * frequency)];
        turned[j] += share * (x[j] * cos - x[j + half] * sin - x[j]);
        turned[j + half] += share * (x[j + half] * cos + x[j] * sin - x[j + half]);
      }
      return turned;
    }

    feedforward(x, name) {
      const up = this.linear(x, `${name}.up`); // (F,)
      if (this.config.ffn !== "swiglu") {
        return this.linear(up.map(ACTIVATIONS[this.config.ffn]), `${name}.down`);
      }
      const gate = this.linear(x, `${name}.gate`);
      return this.linear(up.map((number, i) => number * silu(gate[i])), `${name}.down`);
    }

    linear(x, name) {
      return linear(x, this.tensors[`${name}.weight`], this.tensors[`${name}.bias`]);
    }

    // ---- What is read out ----------------------------------------------------------------------

    /* What the head reads at position t if the model ended after `layer` blocks: (D,). */
    normed(t, layer = this.config.n_layers) {
      return this.norm(this.trace[t].x[layer], "final_norm");
    }

    /* The logits (V,) at position t: the logit lens after `layer` blocks, or the model's own. */
    logits(t, layer = this.config.n_layers) {
      const name = this.config.tie_embeddings ? "embedding" : "head";
      return linear(this.normed(t, layer), this.tensors[`${name}.weight`],
        this.tensors["head.bias"]);
    }
  }

  function wave(t, i, D) {
    const angle = t * 10000 ** (-(2 * Math.floor(i / 2)) / D);
    return i % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  }

  Object.assign((window.TransformerLessons ??= {}), { TracedModel, mean_square });
})();
