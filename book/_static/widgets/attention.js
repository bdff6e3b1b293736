/* One head's attention as pure functions: the page's twin of `attend` in the package.

   q, k and v are arrays of T rows; mask[t][s] is true where query t may see key s. */

(function () {
  "use strict";

  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
  const dot = (a, b) => sum(a.map((number, i) => number * b[i]));

  function causal_mask(n_tokens) {
    const steps = Array.from({ length: n_tokens }, (_, t) => t);
    return steps.map((t) => steps.map((s) => s <= t));
  }

  /* softmax(scores), and what it is made of. The largest score is taken off before exp where exp
     would give numbers too long to read; the shares are the same. */
  function softmax_steps(scores) {
    const largest = Math.max(...scores);
    const taken_off = Math.abs(largest) > 7 ? largest : 0; // e^7 is about a thousand
    const exponentials = scores.map((score) => Math.exp(score - taken_off));
    const total = sum(exponentials);
    return { taken_off, exponentials, total, shares: exponentials.map((x) => x / total) };
  }

  /* softmax(q @ k.T / divisor, hidden where the mask is false) @ v, step by step. */
  function attend({ q, k, v, mask, divisor }) {
    if (!(divisor > 0)) throw new Error(`the divisor is ${divisor}, but has to be above 0`);
    const row_without_keys = mask.findIndex((row) => !row.includes(true));
    if (row_without_keys >= 0) throw new Error(`query ${row_without_keys} may not see any key`);
    const scores = q.map((query, t) =>
      k.map((key, s) => (mask[t][s] ? dot(query, key) / divisor : -Infinity)));
    const steps = scores.map(softmax_steps);
    const shares = steps.map((step) => step.shares);
    const outputs = shares.map((row) => v[0].map((_, i) => dot(row, v.map((value) => value[i]))));
    return { scores, steps, shares, outputs };
  }

  (window.TransformerLessons ??= {}).attention = { attend, causal_mask, softmax_steps };
})();
