/* Rotary positions (RoPE) as pure functions: the page's twin of apply_rope in the package.

   A head of width d is d/2 pairs of numbers. At position m, pair j is turned by the angle
   m * base ** (-2j/d), in radians. A dot product of a turned query and a turned key then depends on
   the difference of their positions only. */

(function () {
  "use strict";

  /* The places of each pair among the d numbers: (j, j + d/2) or (2j, 2j + 1). */
  function pair_places(d, layout) {
    if (d % 2 !== 0) throw new Error(`a width of ${d} can't be cut into pairs`);
    const half = d / 2;
    const places = { "split-half": (j) => [j, j + half], interleaved: (j) => [2 * j, 2 * j + 1] };
    if (!Object.hasOwn(places, layout)) {
      throw new Error(`layout '${layout}' is neither 'split-half' nor 'interleaved'`);
    }
    return Array.from({ length: half }, (_, j) => places[layout](j));
  }

  /* How far each pair turns in one position. */
  function speeds(d, base) {
    return Array.from({ length: d / 2 }, (_, j) => base ** ((-2 * j) / d));
  }

  /* `x` with each of its pairs turned to `position`. */
  function turn(x, position, base, layout) {
    const turned = [...x];
    const rates = speeds(x.length, base);
    for (const [j, [first, second]] of pair_places(x.length, layout).entries()) {
      const [cos, sin] = [Math.cos(position * rates[j]), Math.sin(position * rates[j])];
      turned[first] = x[first] * cos - x[second] * sin;
      turned[second] = x[second] * cos + x[first] * sin;
    }
    return turned;
  }

  /* What each pair adds to the dot product of `q` and `k`. */
  function pair_terms(q, k, layout) {
    return pair_places(q.length, layout).map(([first, second]) =>
      q[first] * k[first] + q[second] * k[second]);
  }

  /* Numbers written for split-half pairs, in the order in which interleaved pairs are the same. */
  function interleave(x) {
    return pair_places(x.length, "split-half").flatMap(([first, second]) => [x[first], x[second]]);
  }

  /* The score of a query that is `distance` positions after its key. */
  function score(q, k, distance, base, layout) {
    const terms = pair_terms(turn(q, distance, base, layout), k, layout);
    return terms.reduce((sum, term) => sum + term, 0);
  }

  (window.TransformerLessons ??= {}).rope = {
    pair_places, speeds, turn, pair_terms, interleave, score,
  };
})();
