/* The first model and its training: the twins of model/, training/optimizer.py and
   data/batches.py, on the tape of autograd.js. Names and shapes come from model_file.js, the
   learning rates from schedule.js.

   The norms of a model that is four numbers wide are switched off (lesson 1 says why), so they are
   left out here: their parameters stay as they start. */

(function () {
  "use strict";

  const { Tape, matrix, random_generator, expected_shapes, schedule } = window.TransformerLessons;

  const FLUCTLIGHT = {
    vocab_size: 256, context_length: 16, d_model: 4, n_layers: 2, n_heads: 2, d_ff: 8,
    rope_theta: 10000, adaptive_norm: true,
  };
  const TRAINING = {
    steps: 400, batch_size: 16, learning_rate: 0.005, min_learning_rate: 0.0005,
    betas: [0.9, 0.999], eps: 1e-8, max_grad_norm: 1, is_causal: true,
  };

  /* Small random weights, zero biases; what adds to the residual stream starts smaller. */
  function initial_weights(config, seed) {
    const random = random_generator(seed);
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const smaller = 0.02 / Math.sqrt(2 * config.n_layers);
    const weights = {};
    for (const [name, shape] of expected_shapes(config)) {
      const std = /\.(out|down)\.weight$/.test(name) ? smaller : 0.02;
      const data = Array.from({ length: shape.reduce((a, b) => a * b) }, () => {
        if (name.includes("norm.weight")) return 1;
        return name.endsWith("bias") || name.includes("norm") ? 0 : std * normal();
      });
      weights[name] = { shape, data };
    }
    return weights;
  }

  class TrainableDecoder {
    /* `weights` as in an exported model: {name: {shape, data}}, rounded to the float32 they stand
       for. */
    constructor(config, weights) {
      this.config = config;
      this.parameters = new Map([...expected_shapes(config)].map(([name, [rows, columns = 1]]) =>
        [name, matrix(rows, columns, Float64Array.from(weights[name].data, Math.fround))]));
    }

    /* Logits (B * T, V) for sequences of equal length, and the attention weights of each layer. */
    forward(tape, sequences, is_causal = true) {
      const { n_layers, n_heads, d_model, rope_theta: theta } = this.config;
      const [n_tokens, head_dim] = [sequences[0].length, d_model / n_heads];
      const linear = (x, name) => tape.linear(
        x, this.parameters.get(`${name}.weight`), this.parameters.get(`${name}.bias`));
      let x = tape.gather_rows(this.parameters.get("embedding.weight"), sequences.flat());
      const attention = [];
      for (let layer = 0; layer < n_layers; layer += 1) {
        const name = `blocks.${layer}`;
        const qkv = tape.rotate(linear(x, `${name}.attention.qkv`), { n_tokens, head_dim, theta });
        const attended = tape.attend(qkv, { n_tokens, head_dim, n_heads, is_causal });
        attention.push(attended.weights);
        x = tape.add(x, linear(attended, `${name}.attention.out`));
        const hidden = tape.relu(linear(x, `${name}.feedforward.up`));
        x = tape.add(x, linear(hidden, `${name}.feedforward.down`));
      }
      return { logits: linear(x, "head"), attention };
    }

    /* What export_json writes, and load_json and the first model's page read. */
    to_json() {
      const shapes = [...expected_shapes(this.config)];
      const weights = Object.fromEntries(shapes.map(([name, shape]) =>
        [name, { shape, data: Array.from(this.parameters.get(name).data, Math.fround) }]));
      return { format: "transformer_lessons/1", config: this.config, weights };
    }
  }

  class PageTrainer {
    constructor(model, settings = {}) {
      this.model = model;
      this.settings = { ...TRAINING, ...settings };
      this.averages = [...model.parameters.values()].map(({ data }) =>
        ({ mean: new Float64Array(data.length), square: new Float64Array(data.length) }));
      this.n_steps = 0;
    }

    /* One update from inputs and targets (B, T); returns the loss before it. */
    step(inputs, targets) {
      const parameters = [...this.model.parameters.values()];
      for (const { grad } of parameters) grad.fill(0);
      const tape = new Tape();
      const { logits } = this.model.forward(tape, inputs, this.settings.is_causal);
      const loss = tape.cross_entropy(logits, targets.flat());
      tape.backward(loss);
      this.clip(parameters);
      this.update(parameters);
      return loss.data[0];
    }

    /* Shorten all gradients together to the length max_grad_norm. */
    clip(parameters) {
      let sum = 0;
      for (const { grad } of parameters) for (const g of grad) sum += g * g;
      const factor = Math.min(1, this.settings.max_grad_norm / (Math.sqrt(sum) + 1e-6));
      for (const { grad } of parameters) grad.forEach((g, i) => { grad[i] = g * factor; });
    }

    /* AdamW without weight decay. */
    update(parameters) {
      const { betas: [b1, b2], eps, steps, learning_rate, min_learning_rate } = this.settings;
      const lr = schedule.cosine_schedule(
        this.n_steps, learning_rate, min_learning_rate, 0, steps);
      this.n_steps += 1;
      const [small1, small2] = [1 - b1 ** this.n_steps, Math.sqrt(1 - b2 ** this.n_steps)];
      parameters.forEach(({ data, grad }, n) => {
        const { mean, square } = this.averages[n];
        for (let i = 0; i < data.length; i += 1) {
          mean[i] += (1 - b1) * (grad[i] - mean[i]);
          square[i] = b2 * square[i] + (1 - b2) * grad[i] * grad[i];
          data[i] -= ((lr / small1) * mean[i]) / (Math.sqrt(square[i]) / small2 + eps);
        }
      });
    }
  }

  /* Endless batches [inputs, targets] from random places in `tokens`. */
  function* random_windows(tokens, context_length, batch_size, seed) {
    const random = random_generator(seed);
    while (true) {
      const windows = Array.from({ length: batch_size }, () => {
        const start = Math.floor(random() * (tokens.length - context_length));
        return tokens.slice(start, start + context_length + 1);
      });
      yield [windows.map((row) => row.slice(0, -1)), windows.map((row) => row.slice(1))];
    }
  }

  Object.assign((window.TransformerLessons ??= {}), {
    FLUCTLIGHT, TRAINING, TrainableDecoder, PageTrainer, initial_weights, random_windows,
  });
})();
