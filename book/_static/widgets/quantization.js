/* A row of the weights of python-small, rounded: bits, groups, and both kinds of grid.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/quantization.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/quantization_row.js"></script>
     <script defer src="../_static/widgets/quantization.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="quantization"></div> */

(function () {
  "use strict";

  const {
    element, header, choices, svg_element, written, mount, value_slider, show_value,
    quantization_row: row,
  } = window.TransformerLessons;

  const GROUPS = [192, 64, 32, 16];
  const LARGE = 70, TIMES = 20; // which weight becomes so many times as large as the largest
  const WIDTH = 640, HEIGHT = 250, LEFT = 42, RIGHT = 96, TOP = 8, BOTTOM = 26, N_BINS = 40;

  /* Scale and least number of the grid for some weights: the rule of the lesson's `grid`. */
  function grid(weights, bits, symmetric) {
    const most = Math.max(...weights), least = Math.min(...weights);
    const far = Math.max(most, -least);
    return symmetric ? { scale: (2 * far) / (2 ** bits - 2), least: -far }
      : { scale: (most - least) / (2 ** bits - 1), least };
  }

  /* For each group: where it begins, its grid, its weights and what they are rounded to. */
  function quantize(weights, bits, group, symmetric) {
    const found = [];
    for (let start = 0; start < weights.length; start += group) {
      const part = weights.slice(start, start + group);
      const { scale, least } = grid(part, bits, symmetric);
      const rounded = part.map((w) => least + scale * Math.round((w - least) / scale));
      found.push({ start, scale, least, part, rounded });
    }
    return found;
  }

  const rms = (numbers) => Math.sqrt(numbers.reduce((sum, x) => sum + x * x, 0) / numbers.length);

  class Quantization {
    constructor(root, id) {
      this.build(root, id);
      this.update();
    }

    update() {
      const bits = this.bits.input.valueAsNumber, group = Number(checked(this.group));
      const symmetric = checked(this.kind) === "symmetric", spoiled = this.spoil.checked;
      show_value(this.bits, `${bits}`);
      const weights = [...row];
      if (spoiled) weights[LARGE] = TIMES * Math.max(...row.map(Math.abs));
      const groups = quantize(weights, bits, group, symmetric);
      this.draw(groups, bits, group, symmetric);
      // The large weight itself is rounded well: the error is that of all others.
      const at = (name) => groups.flatMap((g) => g[name]).filter((_, i) => !spoiled || i !== LARGE);
      const [before, after] = [at("part"), at("rounded")];
      const error = rms(before.map((w, i) => after[i] - w)) / rms(before);
      const size = bits + (symmetric ? 16 : 32) / group;
      this.summary.textContent = `${written(size)} bits per weight, scales included. The ${
        before.length} ${spoiled ? "other " : ""}weights are rounded to ${
        new Set(after.map((w) => w.toFixed(6))).size} different numbers; their error is ${
        written(100 * error, 1)}% of their size.`;
      this.chart.setAttribute("aria-label", `${row.length} weights by their place in the row, with `
        + `the numbers of ${groups.length === 1 ? "one grid" : `${groups.length} grids`} as lines. `
        + this.summary.textContent);
    }

    /* The vertical axis keeps to the ordinary weights: a large one leaves the picture. */
    draw(groups, bits, group, symmetric) {
      const lines = groups.flatMap(({ start, scale, least }) => {
        const n = 2 ** bits - (symmetric ? 1 : 0);
        return Array.from({ length: n }, (_, q) => least + scale * q).filter(fits).map((number) =>
          `M${x_of(start).toFixed(1)} ${y_of(number).toFixed(1)}H${x_of(start + group).toFixed(1)}`);
      });
      const dots = groups.flatMap(({ start, part }) => part.map((w, i) => [start + i, w]))
        .filter(([, w]) => fits(w));
      this.lines.setAttribute("d", lines.join(""));
      this.dots.setAttribute("d", dots.map(([i, w]) =>
        `M${x_of(i + 0.5).toFixed(1)} ${y_of(w).toFixed(1)}h0`).join(""));
      const counts = new Array(N_BINS).fill(0);
      for (const [, w] of dots) counts[Math.min(N_BINS - 1, bin_of(w))] += 1;
      const tallest = Math.max(...counts), high = (HEIGHT - TOP - BOTTOM) / N_BINS;
      this.bars.setAttribute("d", counts.map((count, bin) => {
        const y = HEIGHT - BOTTOM - (bin + 1) * high, wide = (count / tallest) * (RIGHT - 14);
        return `M${WIDTH - RIGHT + 12} ${y.toFixed(1)}h${wide.toFixed(1)}v${(high - 0.8).toFixed(1)}`
          + `h${(-wide).toFixed(1)}z`;
      }).join(""));
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      this.bits = value_slider({ id: `${id}-bits`, label: "Bits", min: 2, max: 8, step: 1 });
      this.bits.input.value = 3;
      this.bits.input.addEventListener("input", () => this.update());
      this.group = choices(`${id}-group`, "Weights that share a grid",
        GROUPS.map((n) => [`${n}`, n === row.length ? "all 192" : `${n}`]), () => this.update());
      this.kind = choices(`${id}-kind`, "Grid",
        [["asymmetric", "asymmetric"], ["symmetric", "symmetric"]], () => this.update());
      this.spoil = element("input", { type: "checkbox", id: `${id}-spoil` });
      this.spoil.addEventListener("change", () => this.update());
      const spoil = element("label", { for: `${id}-spoil`, class: "tl-check" }, this.spoil,
        `Make one weight ${TIMES} times as large as all others`);
      const heading = header("Round a row of weights",
        "python-small, block 0, first row of the queries");
      root.replaceChildren(heading, element("div", { class: "tl-quantization" },
        element("div", { class: "tl-columns" }, element("div", {}, this.bits.row, spoil),
          element("div", {}, this.group, this.kind)),
        this.build_chart(), this.summary));
    }

    build_chart() {
      this.lines = svg_element("path", { class: "tl-lines" });
      this.dots = svg_element("path", { class: "tl-dots" });
      this.bars = svg_element("path", { class: "tl-bars" });
      const note = (text, x, y, anchor) =>
        svg_element("text", { x, y, "text-anchor": anchor, "dominant-baseline": "central" }, text);
      const ticks = [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3].map((w) =>
        note(written(w, 1), LEFT - 6, y_of(w), "end"));
      this.chart = svg_element("svg", { class: "tl-chart", role: "img",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}` }, this.lines, this.dots, this.bars, ...ticks,
      note("place in the row", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "middle"),
      note("how many", WIDTH - RIGHT / 2 + 4, HEIGHT - 10, "middle"));
      return element("figure", {}, element("figcaption", {}, "Dots: weights. Lines: the numbers "
        + "that can be stored"), this.chart);
    }
  }

  const edge = row ? 1.06 * Math.max(...row.map(Math.abs)) : 1;
  const fits = (w) => Math.abs(w) <= edge;
  const x_of = (place) => LEFT + (place / 192) * (WIDTH - LEFT - RIGHT);
  const y_of = (w) => TOP + ((edge - w) / (2 * edge)) * (HEIGHT - TOP - BOTTOM);
  const bin_of = (w) => Math.floor(((w + edge) / (2 * edge)) * N_BINS);
  const checked = (fieldset) => fieldset.querySelector(":checked").value;

  // Without the script of the weights there is nothing to show: the static picture stays.
  if (row) mount("quantization", (root, id) => new Quantization(root, id));
})();
