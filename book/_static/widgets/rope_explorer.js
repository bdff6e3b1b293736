/* Rotary positions, live: move a query and a key, and see that q·k depends on their distance only.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/rope_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/plane.js"></script>
     <script defer src="../_static/widgets/rope.js"></script>
     <script defer src="../_static/widgets/rope_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="rope-explorer"></div> */

(function () {
  "use strict";

  const { element, header, choices, svg_element, written, grouped, slider, Dial, Plane, mount,
    rope } =
    window.TransformerLessons;

  // One query and one key of width 8, in the order of split-half pairs.
  const QUERY = [0.8, 0.0, -0.6, 0.8, 0.6, 1.0, 0.8, -0.6];
  const KEY = [0.9, 0.6, -0.8, 0.3, 0.0, 0.6, 0.2, -0.9];
  const START = { query: 12, key: 5, base: 10_000 };
  const FARTHEST = 200;
  const TICK = 50;
  const LAYOUTS = [
    { name: "split-half", layout: "split-half", order: (x) => x,
      text: "split-half: j and j + 4" },
    { name: "interleaved", layout: "interleaved", order: (x) => x,
      text: "interleaved: 2j and 2j + 1" },
    { name: "reordered", layout: "interleaved", order: rope.interleave,
      text: "interleaved, numbers reordered to fit" },
  ];

  const total = (terms) => terms.reduce((sum, term) => sum + term, 0);
  const short = (number) => String(Number(number.toPrecision(3))); // 0.031622 -> "0.0316"
  const words = (first, second) => `${first} and ${second}`;

  class RopeExplorer {
    constructor(root, id) {
      this.id = id;
      this.build(root);
      this.query_dial.set(START.query);
      this.key_dial.set(START.key);
      this.base_dial.set(START.base);
      [this.query, this.key] = [QUERY, KEY];
      this.pair_up(LAYOUTS[0]);
    }

    // ---- The state: two positions, theta, a way to pair the numbers --------------------------

    pair_up({ name, layout, order }) {
      this.name = name;
      this.layout = layout;
      [this.q, this.k] = [order(this.query), order(this.key)];
      this.order = order;
      this.show_pairs();
      this.show();
    }

    /* The turned arrow of a pair was dragged: what it was before turning is turned back. */
    drag(name, j, [x, y]) {
      const dial = name === "query" ? this.query_dial : this.key_dial;
      const places = rope.pair_places(QUERY.length, this.layout)[j];
      const turned = Array(QUERY.length).fill(0);
      [turned[places[0]], turned[places[1]]] = [x, y];
      const back = rope.turn(turned, -dial.value, this.base_dial.value, this.layout);
      const given = this.order === rope.interleave ? rope.pair_places(QUERY.length, "split-half")[j]
        : places;
      this[name] = [...this[name]];
      for (const i of [0, 1]) this[name][given[i]] = back[places[i]];
      this.pair_up({ name: this.name, layout: this.layout, order: this.order });
    }

    /* Move both tokens, the earlier one to `first`: what is between them stays. */
    move_both(first) {
      const shift = first - Math.min(this.query_dial.value, this.key_dial.value);
      for (const dial of [this.query_dial, this.key_dial]) dial.set(dial.value + shift);
      this.show();
    }

    get distance() {
      return this.query_dial.value - this.key_dial.value;
    }

    show() {
      const { q, k, layout } = this;
      const base = this.base_dial.value;
      const turned_q = rope.turn(q, this.query_dial.value, base, layout);
      const turned_k = rope.turn(k, this.key_dial.value, base, layout);
      this.terms = rope.pair_terms(turned_q, turned_k, layout);
      this.show_both();
      this.show_planes(turned_q, turned_k);
      this.show_sum();
      this.show_curve();
    }

    // ---- What the reader sees -----------------------------------------------------------------

    show_both() {
      const [query, key] = [this.query_dial.value, this.key_dial.value];
      this.both.max = FARTHEST - Math.abs(this.distance);
      this.both.value = Math.min(query, key);
      this.both.setAttribute("aria-valuetext", `query ${query}, key ${key}`);
      this.both_readout.textContent = words(query, key);
      this.note_distance.textContent = this.distance < 0
        ? `Distance ${signed(this.distance)}: a causal mask would hide it.`
        : `Distance, query − key: ${this.distance}.`;
    }

    /* The table of the numbers: which pair each belongs to, and a bracket over each pair. */
    show_pairs() {
      const places = rope.pair_places(this.q.length, this.layout);
      const pair_of = (place) => places.findIndex((pair) => pair.includes(place));
      for (const [place, cells] of this.number_cells.entries()) {
        cells.pair.textContent = pair_of(place);
        cells.q.textContent = written(this.q[place], 1);
        cells.k.textContent = written(this.k[place], 1);
      }
      this.brackets.replaceChildren(...places.map(([first, second], j) => {
        const top = this.layout === "interleaved" ? 1.5 : 3 - j; // overlapping brackets need steps
        return svg_element("path", { d: `M${first + 0.5} 4V${top}H${second + 0.5}V4` });
      }));
    }

    show_planes(turned_q, turned_k) {
      const places = rope.pair_places(this.q.length, this.layout);
      const rates = rope.speeds(this.q.length, this.base_dial.value);
      for (const [j, pair] of places.entries()) {
        const at = (x) => pair.map((place) => x[place]);
        const [q, k] = [at(turned_q), at(turned_k)];
        const { plane, lines } = this.planes[j];
        plane.draw({
          low: -1,
          high: 1,
          title: `Pair ${j} after turning: the query points to ${point(q)}, the key to ${point(k)}`,
          triangle: [q, k],
          arrows: [
            { to: q, kind: "tl-query", label: "q" }, { to: k, kind: "tl-key", label: "k" },
            { to: at(this.q), kind: "tl-query tl-before" },
            { to: at(this.k), kind: "tl-key tl-before" },
          ],
        });
        lines.name.textContent = `Pair ${j} (${words(...pair)})`;
        lines.speed.textContent = `${short(rates[j])} rad a position`;
        lines.angles.textContent = `q by ${short(rates[j] * this.query_dial.value)}, `
          + `k by ${short(rates[j] * this.key_dial.value)}`;
        lines.term.textContent = `adds ${written(this.terms[j], 3)}`;
      }
    }

    show_sum() {
      const parts = this.terms.map((term, j) =>
        (j === 0 ? written(term, 3) : `${term < 0 ? "−" : "+"} ${written(Math.abs(term), 3)}`));
      this.sum.replaceChildren(`q · k = ${parts.join(" ")} = `,
        element("strong", { class: "tl-total" }, written(total(this.terms), 3)));
      this.note_layout.textContent = `${LAYOUT_NOTES[this.name]} q · k = `
        + `${written(total(this.terms), 3)} at distance ${signed(this.distance)}.`;
    }

    /* q · k against the distance, on the side where the query is. */
    show_curve() {
      const { q, k, layout, distance } = this;
      const base = this.base_dial.value;
      const first = distance < 0 ? -FARTHEST : 0;
      // The farthest that turning could get: every pair's arrows in one direction.
      const most = total(rope.pair_places(q.length, layout).map(([a, b]) =>
        Math.hypot(q[a], q[b]) * Math.hypot(k[a], k[b])));
      const height = (value) => 50 * (1 - value / most); // 0 to 100, downwards
      const steps = Array.from({ length: 2 * FARTHEST + 1 }, (_, i) => first + i / 2);
      const points = steps.map((d) => `${d - first},${height(rope.score(q, k, d, base, layout))}`);
      this.curve.setAttribute("points", points.join(" "));
      const now = total(this.terms);
      this.marker.style.left = `${(100 * (distance - first)) / FARTHEST}%`;
      this.marker.style.top = `${height(now)}%`;
      for (const [i, tick] of this.ticks.entries()) tick.textContent = signed(first + TICK * i);
      this.edges[0].textContent = written(most, 1);
      this.edges[2].textContent = written(-most, 1);
      this.chart.setAttribute("aria-label", `q · k against distance for theta ${grouped(base)}: `
        + `${written(rope.score(q, k, 0, base, layout), 3)} at distance 0, `
        + `${written(now, 3)} at distance ${signed(distance)}, where the marker is`);
    }

    announce() {
      this.live.textContent = `Query at ${this.query_dial.value}, key at ${this.key_dial.value}, `
        + `distance ${signed(this.distance)}: q · k is ${written(total(this.terms), 3)}.`;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root) {
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      this.sum = element("p", { class: "tl-sum" });
      const heading = header("Turn positions into angles",
        "one head of width 8: 4 pairs, each at its own speed");
      root.replaceChildren(heading, this.build_controls(), this.build_planes(), this.sum,
        element("div", { class: "tl-columns" }, this.build_chart(), this.build_layouts()),
        this.live);
      root.addEventListener("change", () => this.announce());
    }

    build_controls() {
      const dial = (name, options) =>
        new Dial({ id: `${this.id}-${name}`, ...options }, () => this.show());
      const places = { min: 0, max: FARTHEST };
      this.query_dial = dial("query", { label: "Query position", ...places });
      this.key_dial = dial("key", { label: "Key position", ...places });
      this.base_dial = dial("base", { label: "Theta", min: 10, max: 1_000_000,
        slide: { min: 1, max: 6, step: 0.1, to: Math.log10, from: (s) => Math.round(10 ** s) } });
      this.both_readout = element("span", { class: "tl-degrees", "aria-hidden": "true" });
      const both = slider({ id: `${this.id}-both`, label: "Move both together", min: 0, step: 1 },
        this.both_readout);
      this.both = both.input;
      this.both.addEventListener("input", () => this.move_both(this.both.valueAsNumber));
      this.note_distance = element("p", { class: "tl-note" });
      return element("div", { class: "tl-columns" },
        this.query_dial.element, this.key_dial.element,
        element("div", {}, both.row, this.note_distance), this.base_dial.element);
    }

    build_planes() {
      this.planes = Array.from({ length: QUERY.length / 2 }, (_, j) => ({
        plane: new Plane(["query", "key"].map((name) => ({ name: `${name} of pair ${j}, turned`,
          kind: `tl-${name}`, move: (to) => this.drag(name, j, to) }))),
        lines: { name: element("strong"), speed: element("span", { class: "tl-note" }),
          angles: element("span", { class: "tl-note" }),
          term: element("strong", { class: "tl-term" }) },
      }));
      const figures = this.planes.map(({ plane, lines }) => element("figure", {}, plane.svg,
        element("figcaption", {}, ...Object.values(lines))));
      const legend = element("p", { class: "tl-note" },
        "Dashed: before turning. Solid: after; drag them. Move both: the triangle keeps its "
        + "shape.");
      return element("div", {}, element("div", { class: "tl-planes" }, ...figures), legend);
    }

    build_chart() {
      this.curve = svg_element("polyline");
      const zero = svg_element("line", { class: "tl-axis", x1: 0, x2: FARTHEST, y1: 50, y2: 50 });
      this.marker = element("span", { class: "tl-marker" });
      const svg = svg_element("svg", { viewBox: `0 0 ${FARTHEST} 100`,
        preserveAspectRatio: "none" }, zero, this.curve);
      this.chart = element("div", { class: "tl-chart tl-framed", role: "img" }, svg, this.marker);
      this.edges = ["", "0", ""].map((text) => element("span", {}, text));
      this.ticks = Array.from({ length: FARTHEST / TICK + 1 }, (_, i) =>
        element("span", { style: `left: ${(100 * TICK * i) / FARTHEST}%` }));
      return element("figure", { class: "tl-edged" },
        element("figcaption", {}, "q · k against the distance"),
        element("div", { class: "tl-edges", "aria-hidden": "true" }, ...this.edges), this.chart,
        element("div", { class: "tl-ticks", "aria-hidden": "true" }, ...this.ticks));
    }

    build_layouts() {
      this.note_layout = element("p", { class: "tl-note" });
      return element("div", {}, choices(`${this.id}-layout`, "Which numbers form a pair",
        LAYOUTS.map((layout) => [layout, layout.text]), (layout) => this.pair_up(layout)),
      this.build_numbers(), this.note_layout);
    }

    build_numbers() {
      this.number_cells = QUERY.map(() =>
        ({ pair: element("td"), q: element("td"), k: element("td") }));
      this.brackets = svg_element("svg", { viewBox: `0 -0.5 ${QUERY.length} 4.5`,
        preserveAspectRatio: "none" });
      const row = (name, key) => element("tr", {}, element("th", { scope: "row" }, name),
        ...this.number_cells.map((cells) => cells[key]));
      const numbers = QUERY.map((_, place) => element("th", { scope: "col" }, String(place)));
      return element("table", { class: "tl-numbers" },
        element("caption", { class: "tl-spoken" }, "The 8 numbers of the head"),
        element("thead", {},
          element("tr", { "aria-hidden": "true" }, element("td"),
            element("td", { colspan: QUERY.length }, this.brackets)),
          element("tr", {}, element("th", { scope: "row" }, "number"), ...numbers)),
        element("tbody", {}, row("pair", "pair"), row("q", "q"), row("k", "k")));
    }
  }

  const LAYOUT_NOTES = {
    "split-half": "Each number is paired with the one half a head further on.",
    interleaved: "Neighbours are turned together: other pairs, so another q · k.",
    reordered: "The pairs of split-half again: weights are converted by this reordering.",
  };

  const point = ([x, y]) => `(${written(x)}, ${written(y)})`;
  const signed = (number) => written(number, 0);

  mount("rope-explorer", (root, id) => new RopeExplorer(root, id));
})();
