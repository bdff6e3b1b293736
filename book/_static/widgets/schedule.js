/* Learning rates over a run as pure functions: the page's twin of training/schedule.py in the
   package, with the same names.

   A plan is { shape, max_lr, min_lr, warmup_steps, steps }. Steps count from 0. */

(function () {
  "use strict";

  /* A straight climb, then half a cosine that ends at `min_lr` in the last step. */
  function cosine_schedule(step, max_lr, min_lr, warmup_steps, total_steps) {
    if (step < warmup_steps) return (max_lr * (step + 1)) / (warmup_steps + 1);
    const n_falling = Math.max(total_steps - 1 - warmup_steps, 1);
    const progress = Math.min((step - warmup_steps) / n_falling, 1);
    return min_lr + ((max_lr - min_lr) * (1 + Math.cos(Math.PI * progress))) / 2;
  }

  /* A straight climb, and `max_lr` from then on. */
  function constant_schedule(step, max_lr, min_lr, warmup_steps, total_steps) {
    return max_lr * Math.min((step + 1) / (warmup_steps + 1), 1);
  }

  /* Warm-up, stable, decay: a straight climb, `max_lr`, and a fall in the last fifth. */
  function wsd_schedule(step, max_lr, min_lr, warmup_steps, total_steps) {
    if (step < warmup_steps) return (max_lr * (step + 1)) / (warmup_steps + 1);
    const n_falling = Math.max(Math.round(total_steps / 5), 1);
    const fallen = (step - (total_steps - 1 - n_falling)) / n_falling;
    const progress = Math.min(Math.max(fallen, 0), 1);
    return min_lr + (max_lr - min_lr) * (1 - Math.sqrt(progress));
  }

  const SHAPES = { cosine: cosine_schedule, constant: constant_schedule, wsd: wsd_schedule };

  /* The rate of every step of `plan`. */
  function rates_of({ shape, max_lr, min_lr, warmup_steps, steps }) {
    if (!Object.hasOwn(SHAPES, shape)) {
      throw new Error(`shape '${shape}' is none of ${Object.keys(SHAPES).join(", ")}`);
    }
    return Array.from({ length: steps }, (_, step) =>
      SHAPES[shape](step, max_lr, min_lr, warmup_steps, steps));
  }

  const sum_of = (rates) => rates.reduce((sum, rate) => sum + rate, 0);

  /* The first step at which two runs have different rates; the end of the shorter if there is
     none. A checkpoint from before it belongs to both runs. */
  function first_difference(rates, others) {
    const shared = Math.min(rates.length, others.length);
    const found = rates.slice(0, shared).findIndex((rate, step) => rate !== others[step]);
    return found === -1 ? shared : found;
  }

  (window.TransformerLessons ??= {}).schedule = {
    cosine_schedule, rates_of, sum_of, first_difference,
  };
})();
