/* A ball in the ravine of lesson 12, f(x, y) = (x² + 100 y²) / 2: momentum, and gradients with noise.

   Each axis has its own curvature c, and a step with the rate η is
     velocity ← 0.9 velocity + c · place + noise,   place ← place − η · velocity.
   Above the rate 2 (1 + 0.9) / 100 = 0.038 each bounce off the walls is larger than the last. */

(function () {
  "use strict";

  const CURVATURES = [1, 100];
  const START = [4, 1];
  const MOMENTUM = 0.9;
  const NOISE = 2; // standard deviation of the gradient's noise
  const LIMIT = (2 * (1 + MOMENTUM)) / CURVATURES[1];
  const LOST = 1e6; // a ball this high isn't followed any farther

  const height = (place) =>
    CURVATURES.reduce((sum, curvature, axis) => sum + (curvature * place[axis] ** 2) / 2, 0);

  /* Random numbers from 0 to below 1, the same in every browser (mulberry32). */
  function uniform_numbers(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  /* The noise of `n` steps: pairs of independent normal numbers (Box and Muller). */
  function noise(n, seed = 1) {
    const uniform = uniform_numbers(seed);
    return Array.from({ length: n }, () => {
      const [length, angle] = [Math.sqrt(-2 * Math.log(1 - uniform())), 2 * Math.PI * uniform()];
      return [NOISE * length * Math.cos(angle), NOISE * length * Math.sin(angle)];
    });
  }

  /* Where one ball is before the first step and after each. It ends early if the ball is lost. */
  function path(rates) {
    const pushes = noise(rates.length);
    const places = [START];
    let velocity = [0, 0];
    for (const [step, rate] of rates.entries()) {
      const place = places[step];
      velocity = velocity.map((old, axis) =>
        MOMENTUM * old + CURVATURES[axis] * place[axis] + pushes[step][axis]);
      const next = place.map((old, axis) => old - rate * velocity[axis]);
      if (height(next) >= LOST) break;
      places.push(next);
    }
    return places;
  }

  /* The mean height of all balls, over every noise that could be, at the same moments as `path`.
     No sampling: the means of p², p·v and v² after a step follow from those before it. */
  function mean_heights(rates) {
    const heights = [height(START), ...rates.map(() => 0)];
    for (const [axis, c] of CURVATURES.entries()) {
      let [pp, pv, vv] = [START[axis] ** 2, 0, 0];
      for (const [step, rate] of rates.entries()) {
        vv = MOMENTUM ** 2 * vv + 2 * MOMENTUM * c * pv + c ** 2 * pp + NOISE ** 2;
        const crossed = MOMENTUM * pv + c * pp; // the mean of the old place times the new velocity
        pv = crossed - rate * vv;
        pp += -2 * rate * crossed + rate ** 2 * vv;
        heights[step + 1] += (c * pp) / 2;
      }
    }
    return heights;
  }

  (window.TransformerLessons ??= {}).ravine = {
    START, CURVATURES, LIMIT, LOST, height, noise, path, mean_heights,
  };
})();
