/* A language model of 64 texts, and what an update does to it: the small world of lesson 23. */

(function () {
  "use strict";

  const TOKENS = ["x", "+", "(", ")"];
  // The base: logits of the next token after nothing, after one token, and after two.
  const BASE = [
    [-1.5, -0.8, -0.7, -1.6], [-0.1, -0.6, -1.0, -1.6], [-0.7, 0.3, -0.8, -0.3],
    [-0.2, 1.7, 0.2, 0.5], [-0.7, -1.2, 0.7, 0.2], [0.9, 0.2, -0.7, 0.8],
    [1.1, -0.2, -2.2, -1.4], [0.1, -0.6, -0.8, -0.1], [1.9, -0.1, 0.2, -0.8],
    [0.2, 0.0, 0.2, -0.5], [-0.1, 0.3, -0.2, 0.0], [2.4, -1.0, 1.6, -0.6],
    [-0.9, 0.5, 0.1, -0.4], [0.8, 0.4, 1.2, 2.0], [0.1, 0.9, -0.2, -0.6],
    [1.5, -0.9, -3.3, -0.7], [0.0, -1.0, -0.6, -1.0], [-1.4, -0.5, 0.2, -0.2],
    [-0.5, -1.5, -0.3, -0.3], [-1.0, -0.5, 0.3, 2.0], [-0.9, -0.9, 1.4, 0.4],
  ];

  const digits = (y) => [y >> 4, (y >> 2) & 3, y & 3];
  const rows_of = ([a, b]) => [0, 1 + a, 5 + 4 * a + b];
  const text_of = (y) => digits(y).map((id) => TOKENS[id]).join(" ");
  const every_text = Array.from({ length: 64 }, (_, y) => y);

  function softmax(logits) {
    const highest = Math.max(...logits);
    const shares = logits.map((logit) => Math.exp(logit - highest));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.map((share) => share / total);
  }

  /* The probabilities of all 64 texts. */
  function distribution(logits) {
    const next = logits.map(softmax);
    return every_text.map((y) => {
      const ids = digits(y);
      return rows_of(ids).reduce((p, row, place) => p * next[row][ids[place]], 1);
    });
  }

  /* What each text earns: its reward, less beta for each nat that it is more probable than before. */
  function earned({ p, base, rewards, beta }) {
    return p.map((share, y) => rewards[y] - (beta === 0 ? 0 : beta * Math.log(share / base[y])));
  }

  /* How strongly each text is pushed: on average over all texts, or as `n_samples` of them say. */
  function pushes(p, earnings, n_samples, random) {
    if (n_samples === 0) {
      const mean = p.reduce((sum, share, y) => sum + share * earnings[y], 0);
      return p.map((share, y) => share * (earnings[y] - mean));
    }
    const drawn = Array.from({ length: n_samples }, () => draw(p, random()));
    const mean = drawn.reduce((sum, y) => sum + earnings[y], 0) / n_samples;
    const found = p.map(() => 0);
    for (const y of drawn) found[y] += (earnings[y] - mean) / n_samples;
    return found;
  }

  function draw(p, u) {
    let y = 0;
    for (let below = p[0]; below < u && y < 63; below += p[y]) y += 1;
    return y;
  }

  /* The logits after one step of policy gradient. */
  function updated(logits, settings) {
    const { base, rewards, beta, rate, n_samples, random } = settings;
    const p = distribution(logits), next = logits.map(softmax);
    const push = pushes(p, earned({ p, base, rewards, beta }), n_samples, random);
    const after = logits.map((row) => [...row]);
    for (const y of every_text) {
      const ids = digits(y);
      rows_of(ids).forEach((row, place) => {
        for (let k = 0; k < 4; k += 1) {
          after[row][k] += rate * push[y] * ((k === ids[place] ? 1 : 0) - next[row][k]);
        }
      });
    }
    return after;
  }

  /* The best distribution with a leash: p0 e^(r / beta), made to add up to 1. */
  const best = (base, rewards, beta) =>
    softmax(base.map((share, y) => Math.log(share) + rewards[y] / beta));

  /* Expected reward, KL to the base, and the first less beta times the second. */
  function measures(p, base, rewards, beta) {
    let reward = 0, kl = 0;
    p.forEach((share, y) => {
      reward += share * rewards[y];
      if (share > 0) kl += share * Math.log(share / base[y]);
    });
    return { reward, kl, objective: reward - beta * kl };
  }

  (window.TransformerLessons ??= {}).reward_world = {
    BASE, text_of, distribution, updated, best, measures,
  };
})();
