/* Two distributions, what they have in common, and passes of speculative decoding with them.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/speculative.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/speculative.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="speculative"></div> */

(function () {
  "use strict";

  const {
    element, svg_element, button, written, mount, value_slider, show_value,
  } = window.TransformerLessons;

  const NAMES = ["a", "b", "c", "d"];
  const P = [0.45, 0.3, 0.15, 0.1];
  const STARTS = {
    "a fair draft": [0.25, 0.2, 0.4, 0.15],
    "p itself": P,
    "all alike": [0.25, 0.25, 0.25, 0.25],
    "one certain guess": [1, 0, 0, 0],
  };
  const N_SHOWN = 5, N_COUNTED = 2000; // passes
  const WIDTH = 360, HEIGHT = 230, TOP = 8, BOTTOM = 22; // of the chart
  const PART = WIDTH / NAMES.length, BAR = 30;

  // ---- The rule ----------------------------------------------------------------------------------

  const sum = (numbers) => numbers.reduce((total, x) => total + x, 0);
  const overlap = (p, q) => p.map((x, i) => Math.min(x, q[i]));

  function residual(p, q) {
    const excess = p.map((x, i) => Math.max(x - q[i], 0));
    const total = sum(excess);
    return total > 1e-12 ? excess.map((x) => x / total) : p;
  }

  const expected_tokens = (alpha, k) => sum(Array.from({ length: k + 1 }, (_, i) => alpha ** i));

  function best_k(alpha, cost) {
    const rates = Array.from({ length: 9 }, (_, k) => expected_tokens(alpha, k) / (1 + cost * k));
    return rates.indexOf(Math.max(...rates));
  }

  /* Random numbers from 0 to 1, the same for the same seed ("mulberry32"). */
  function random_numbers(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let x = Math.imul(state ^ (state >>> 15), 1 | state);
      x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
      return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
    };
  }

  function draw(shares, random) {
    let left = random() * sum(shares);
    return Math.max(shares.findIndex((share) => (left -= share) < 0), 0);
  }

  /* One pass: the guesses, how many of them are kept, and the token that follows these. */
  function play_pass(p, q, k, random) {
    const guesses = Array.from({ length: k }, () => draw(q, random));
    const refused = guesses.findIndex((token) => random() * q[token] >= p[token]);
    if (refused < 0) return { guesses, n_kept: k, own: draw(p, random) };
    return { guesses, n_kept: refused, own: draw(residual(p, q), random) };
  }

  /* q with number i set to `value`; the others share the rest as they did before. */
  function with_share(q, i, value) {
    const others = 1 - q[i];
    return q.map((x, j) => {
      if (j === i) return value;
      return (1 - value) * (others > 1e-9 ? x / others : 1 / (q.length - 1));
    });
  }

  class Speculative {
    constructor(root, id) {
      this.q = STARTS["a fair draft"];
      this.seed = 1;
      this.build(root, id);
      this.update();
    }

    // ---- What the reader sees -------------------------------------------------------------------

    update() {
      const k = this.k.input.valueAsNumber, cost = this.cost.input.valueAsNumber;
      const kept = overlap(P, this.q), alpha = sum(kept);
      this.draw_bars(kept);
      show_value(this.k, `${k}`);
      show_value(this.cost, `${written(cost)} passes`);
      const tokens = expected_tokens(alpha, k);
      const best = best_k(alpha, cost);
      this.summary.textContent = `A guess is kept with probability ${written(alpha)}. A pass makes `
        + `${written(tokens)} tokens on average, and the text is written `
        + `${written(tokens / (1 + cost * k))} times as fast. `
        + (best === 0 ? "Without guesses it would be fastest." : `The best k is ${best}.`);
      this.play(k);
    }

    draw_bars(kept) {
      NAMES.forEach((name, i) => {
        const { p_bar, q_bar, p_kept, q_kept, input, readout } = this.tokens[i];
        for (const [bar, height] of [[p_bar, P[i]], [q_bar, this.q[i]], [p_kept, kept[i]],
          [q_kept, kept[i]]]) {
          bar.setAttribute("y", y_of(height));
          bar.setAttribute("height", y_of(0) - y_of(height));
        }
        input.value = this.q[i];
        input.setAttribute("aria-valuetext", written(this.q[i]));
        readout.textContent = `p ${written(P[i])}\nq ${written(this.q[i])}`;
      });
      const said = NAMES.map((name, i) => `${name} ${written(P[i])} and ${written(this.q[i])}`);
      this.chart.setAttribute("aria-label",
        `p and q of each token: ${said.join(", ")}. Their overlap is ${written(sum(kept))}.`);
    }

    play(k) {
      const random = random_numbers(this.seed);
      const passes = Array.from({ length: N_COUNTED }, () => play_pass(P, this.q, k, random));
      const counts = NAMES.map(() => 0);
      for (const { guesses, n_kept, own } of passes) {
        for (const token of [...guesses.slice(0, n_kept), own]) counts[token] += 1;
      }
      this.timeline.replaceChildren(...passes.slice(0, N_SHOWN).map(row_of));
      const shares = counts.map((n, i) => `${NAMES[i]} ${written(n / sum(counts))}`);
      this.counted.textContent = `In ${N_COUNTED.toLocaleString("en")} passes: `
        + `${written(sum(counts) / N_COUNTED)} tokens a pass, of which ${shares.join(", ")}.`;
    }

    // ---- What the reader does -------------------------------------------------------------------

    set_share(i, value) {
      this.q = with_share(this.q, i, Math.min(Math.max(value, 0), 1));
      this.update();
    }

    drag(event) {
      if (event.buttons === 0) return;
      const box = this.chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      const y = ((event.clientY - box.top) / box.height) * HEIGHT;
      if (event.type === "pointerdown") {
        this.dragged = Math.min(Math.max(Math.floor(x / PART), 0), NAMES.length - 1);
        this.chart.setPointerCapture(event.pointerId);
      }
      this.set_share(this.dragged, (y_of(0) - y) / (y_of(0) - y_of(1)));
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      const line = (p, kind) => svg_element("line", { class: kind, x1: 0, x2: WIDTH, y1: y_of(p),
        y2: y_of(p) });
      this.tokens = NAMES.map((name, i) => this.build_token(name, i, id));
      this.chart = svg_element("svg", { class: "tl-bars", role: "img",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}` },
      ...[1, 0.5].flatMap((p) => [line(p, "tl-level"), svg_element("text", { class: "tl-level",
        x: WIDTH, y: y_of(p) + 12, "text-anchor": "end" }, p.toFixed(1))]),
      line(0, "tl-axis"),
      ...this.tokens.flatMap(({ shapes }) => shapes));
      for (const type of ["pointerdown", "pointermove"]) {
        this.chart.addEventListener(type, (event) => this.drag(event));
      }
      const starts = Object.entries(STARTS).map(([name, q]) => button(name, () => {
        this.q = q;
        this.update();
      }));
      this.k = this.build_slider({ id: `${id}-k`, label: "Guesses per pass, k", min: 1, max: 8,
        step: 1 }, 4);
      this.cost = this.build_slider({ id: `${id}-cost`, label: "One guess costs", min: 0, max: 1,
        step: 0.05 }, 0.1);
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      this.counted = element("p", { class: "tl-note" });
      this.timeline = element("ol", { class: "tl-passes" });
      const again = button("Draw again", () => {
        this.seed += 1;
        this.update();
      });
      root.replaceChildren(
        element("div", { class: "tl-header" },
          element("p", { class: "tl-title" }, "Guess, and keep what overlaps"),
          element("p", { class: "tl-note" }, swatch("p"), "the model's p ", swatch("q"),
            "the draft's q (drag it); full colour: their overlap")),
        element("div", { class: "tl-speculative" },
          element("div", {}, this.chart, element("div", { class: "tl-shares" },
            ...this.tokens.map(({ column }) => column)),
          element("div", { class: "tl-starts", role: "group", "aria-label": "Set q to" },
            ...starts)),
          element("div", {}, this.k.row, this.cost.row, this.summary,
            element("figure", {}, element("figcaption", {}, `The first ${N_SHOWN} passes`),
              element("p", { class: "tl-note" }, "guesses kept, the pass's own token, guesses "
                + "refused (struck out)"), this.timeline),
            this.counted, again)));
    }

    build_slider(options, value) {
      const made = value_slider(options);
      made.input.value = value;
      made.input.addEventListener("input", () => this.update());
      return made;
    }

    build_token(name, i, id) {
      const left = i * PART + PART / 2;
      const bar = (kind, x) => svg_element("rect", { class: kind, x, width: BAR });
      const p_bar = bar("tl-p", left - BAR - 1), q_bar = bar("tl-q", left + 1);
      const p_kept = bar("tl-p tl-kept", left - BAR - 1), q_kept = bar("tl-q tl-kept", left + 1);
      const label = svg_element("text", { x: left, y: HEIGHT - 6, "text-anchor": "middle" }, name);
      const input = element("input", { type: "range", id: `${id}-q-${name}`, min: 0, max: 1,
        step: 0.01, "aria-label": `q of token ${name}` });
      input.addEventListener("input", () => this.set_share(i, input.valueAsNumber));
      const readout = element("span", { class: "tl-note", "aria-hidden": "true" });
      return { p_bar, q_bar, p_kept, q_kept, input, readout,
        shapes: [p_bar, q_bar, p_kept, q_kept, label],
        column: element("div", {}, input, readout) };
    }
  }

  const y_of = (share) => TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);

  const swatch = (name) => element("span", { class: `tl-swatch tl-${name}`, "aria-hidden": "true" });

  /* A pass as boxes: guesses that were kept, the token of the model's own, guesses refused. */
  function row_of({ guesses, n_kept, own }) {
    const box = (token, kind) => element("span", { class: `tl-box tl-${kind}` }, NAMES[token]);
    const kept = guesses.slice(0, n_kept).map((token) => NAMES[token]);
    const refused = guesses.slice(n_kept).map((token) => NAMES[token]);
    const words = `kept: ${kept.join(" ") || "none"}; own token: ${NAMES[own]}; `
      + `refused: ${refused.join(" ") || "none"}`;
    return element("li", {},
      element("span", { class: "tl-row", "aria-hidden": "true" },
        ...guesses.slice(0, n_kept).map((token) => box(token, "was-kept")), box(own, "own"),
        ...guesses.slice(n_kept).map((token) => box(token, "refused"))),
      element("span", { class: "tl-spoken" }, words));
  }

  window.TransformerLessons.speculative = { residual, overlap, expected_tokens, best_k, with_share };
  mount("speculative", (root, id) => new Speculative(root, id));
})();
