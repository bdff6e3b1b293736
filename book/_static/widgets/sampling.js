/* Sampling as pure functions, from the scores of all tokens to what is drawn: the page's twin of
   generation/{penalties,filters,sampling}.py in the package, under the same names.

   Scores and probabilities are arrays with one number for each of the V tokens. A sampler is an
   object with the fields of `Sampler`. A token with the score −∞ is dropped. */

(function () {
  "use strict";

  const { softmax, argmax } = window.TransformerLessons; // decoder.js

  const keep = (logits, is_kept) =>
    logits.map((logit, token) => (is_kept(token) ? logit : -Infinity));

  /* The tokens, from the largest number to the smallest; of equals, the lowest id first. */
  const by_size = (numbers) => [...numbers.keys()].sort((a, b) => numbers[b] - numbers[a]);

  // ---- generation/penalties.py --------------------------------------------------------------

  function count_tokens(history, vocab_size) {
    const counts = Array(vocab_size).fill(0);
    for (const token of history) counts[token] += 1;
    return counts;
  }

  function penalize_repetition(logits, history, penalty) {
    const seen = new Set(history);
    const lowered = (logit) => (logit > 0 ? logit / penalty : logit * penalty);
    return logits.map((logit, token) => (seen.has(token) ? lowered(logit) : logit));
  }

  function penalize_frequency(logits, history, penalty) {
    const counts = count_tokens(history, logits.length);
    return logits.map((logit, token) => logit - penalty * counts[token]);
  }

  // ---- generation/filters.py ----------------------------------------------------------------

  function keep_top_k(logits, k) {
    const kept = new Set(by_size(logits).slice(0, k));
    return keep(logits, (token) => kept.has(token));
  }

  function keep_top_p(logits, p) {
    const probabilities = softmax(logits);
    const kept = new Set();
    let sum_before = 0;
    for (const token of by_size(probabilities)) {
      if (sum_before >= p) break;
      kept.add(token);
      sum_before += probabilities[token];
    }
    return keep(logits, (token) => kept.has(token));
  }

  function keep_min_p(logits, p) {
    const least = logits[argmax(logits)] + Math.log(p);
    return keep(logits, (token) => logits[token] >= least);
  }

  // ---- generation/sampling.py ---------------------------------------------------------------

  const PLAIN = { temperature: 1, top_k: null, top_p: 1, min_p: 0,
    repetition_penalty: 1, frequency_penalty: 0 };

  const SAMPLERS = {
    greedy: { ...PLAIN, temperature: 0 },
    sure: { ...PLAIN, temperature: 0.2, top_p: 0.95 },
    balanced: { ...PLAIN, temperature: 0.7, top_p: 0.9 },
    varied: { ...PLAIN, min_p: 0.05 },
    plain: PLAIN,
  };

  /* The scores that are left: the softmax of these is what the token is drawn from. */
  function left_scores(sampler, logits, history) {
    const { temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty } = sampler;
    if (repetition_penalty !== 1) logits = penalize_repetition(logits, history, repetition_penalty);
    if (frequency_penalty) logits = penalize_frequency(logits, history, frequency_penalty);
    if (temperature === 0) return keep_top_k(logits, 1);
    logits = logits.map((logit) => logit / temperature);
    if (top_k !== null) logits = keep_top_k(logits, top_k);
    if (top_p < 1) logits = keep_top_p(logits, top_p);
    if (min_p) logits = keep_min_p(logits, min_p);
    return logits;
  }

  const probabilities = (sampler, logits, history) =>
    softmax(left_scores(sampler, logits, history));

  /* Walk along the probabilities until `random()`, from 0 to below 1, is used up. */
  function draw(probabilities, random) {
    let left = random();
    for (const [token, probability] of probabilities.entries()) {
      left -= probability;
      if (left < 0) return token;
    }
    return argmax(probabilities); // they add up to a hair below 1
  }

  /* Entropy in bits: log2 of how many equally likely tokens would be as uncertain. */
  const entropy = (probabilities) =>
    probabilities.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);

  /* The float32 numbers of a string in base64, least significant byte first. */
  function read_scores(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  window.TransformerLessons.sampling = {
    by_size, count_tokens, penalize_repetition, penalize_frequency, keep_top_k, keep_top_p,
    keep_min_p, PLAIN, SAMPLERS, left_scores, probabilities, draw, entropy, read_scores,
  };
})();
