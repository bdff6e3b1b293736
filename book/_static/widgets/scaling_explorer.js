/* The valley of a budget: the loss over the size of a model, and how the best size grows.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/scaling_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/scaling_runs.js"></script>
     <script defer src="../_static/widgets/scaling_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="scaling-explorer"></div> */

(function () {
  "use strict";

  const {
    element, svg_element, written, grouped, mount, value_slider, show_value, scaling,
  } = window.TransformerLessons;

  // The ladder of the lesson: bytes, two blocks, a context of 64. d is the width.
  const COUNTS = {
    matrices: { label: "without the embedding", of: (d) => 24 * d * d + 261 * d },
    all: { label: "all", of: (d) => 24 * d * d + 517 * d },
    blocks: { label: "only in the blocks", of: (d) => 24 * d * d },
  };
  const flops_of = (d) => 144 * d * d + 2304 * d; // to train on one byte
  const bytes_of = (d, C) => C / flops_of(d);

  function loss_of(d, C) {
    const { E, A, alpha, B, beta } = scaling.surface;
    return E + A / COUNTS.matrices.of(d) ** alpha + B / bytes_of(d, C) ** beta;
  }

  /* The width with the lowest loss: the valley has one minimum, so a third can always be cut off. */
  function best_width(C) {
    let low = Math.log(1), high = Math.log(5000);
    for (let i = 0; i < 80; i += 1) {
      const a = low + (high - low) / 3, b = high - (high - low) / 3;
      if (loss_of(Math.exp(a), C) < loss_of(Math.exp(b), C)) high = b;
      else low = a;
    }
    return Math.exp((low + high) / 2);
  }

  /* p of N ~ C^p near this budget. */
  function exponent_of(count, C) {
    const size = (budget) => Math.log(COUNTS[count].of(best_width(budget)));
    return (size(C * 2) - size(C / 2)) / Math.log(4);
  }

  // ---- Two pictures with logarithmic axes -------------------------------------------------------

  const VALLEY = { width: 460, height: 300, left: 40, bottom: 38, top: 8, right: 10,
    x: [1e3, 4e6], y: [0.8, 2.2] };
  const GROWTH = { width: 260, height: 300, left: 40, bottom: 38, top: 8, right: 14,
    x: [1e10, 1e15], y: [1e3, 1e8] };

  const part = (value, [low, high]) => Math.log(value / low) / Math.log(high / low);
  const x_of = (box, value) =>
    box.left + part(value, box.x) * (box.width - box.left - box.right);
  const loss_y = (loss) => VALLEY.top + (VALLEY.height - VALLEY.top - VALLEY.bottom)
    * (VALLEY.y[1] - loss) / (VALLEY.y[1] - VALLEY.y[0]);
  const size_y = (N) => GROWTH.top + (GROWTH.height - GROWTH.top - GROWTH.bottom)
    * (1 - part(N, GROWTH.y));

  const SMALL = { 3: "1,000", 4: "10,000", 5: "100,000", 6: "1 million", 7: "10 million" };
  const POWERS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (n) => `10${[...`${n}`].map((digit) => POWERS[digit]).join("")}`;

  /* 3.2e11 -> "3.2 · 10¹¹" */
  function budget_text(C) {
    let n = Math.floor(Math.log10(C) + 1e-9);
    let factor = (C / 10 ** n).toFixed(1);
    if (factor === "10.0") [n, factor] = [n + 1, "1.0"];
    return factor === "1.0" ? power(n) : `${factor} · ${power(n)}`;
  }

  /* 123456 -> "120,000"; 12345678 -> "12 million" */
  function size_text(value) {
    const unit = 10 ** Math.max(Math.floor(Math.log10(value)) - 1, 0);
    const rounded = Math.round(value / unit) * unit;
    if (rounded < 1e6) return grouped(rounded);
    const [scale, name] = rounded < 1e9 ? [1e6, "million"] : [1e9, "billion"];
    return `${Number((rounded / scale).toPrecision(2))} ${name}`;
  }

  class ScalingExplorer {
    constructor(root, id) {
      this.count = "matrices";
      this.build(root, id);
      this.set_budget(12);
      this.set_width(16);
    }

    // ---- What the reader does -------------------------------------------------------------------

    set_budget(exponent) {
      this.C = 10 ** exponent;
      this.budget.input.value = exponent;
      show_value(this.budget, `${budget_text(this.C)} operations`);
      this.best = best_width(this.C);
      if (this.d) this.show();
    }

    set_width(d) {
      this.d = Math.min(400, Math.max(6, d));
      this.size.input.value = Math.log2(this.d);
      this.show();
    }

    drag(event) {
      if (event.type === "pointerdown") this.valley.setPointerCapture(event.pointerId);
      else if (!this.valley.hasPointerCapture(event.pointerId)) return;
      const box = this.valley.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * VALLEY.width;
      const share = (x - VALLEY.left) / (VALLEY.width - VALLEY.left - VALLEY.right);
      const N = VALLEY.x[0] * (VALLEY.x[1] / VALLEY.x[0]) ** share;
      // N = 24 d² + b d, solved for d
      const b = COUNTS[this.count].of(1) - 24;
      this.set_width((Math.sqrt(b * b + 96 * N) - b) / 48);
    }

    // ---- What the reader sees -------------------------------------------------------------------

    show() {
      const { C, d, best, count } = this, N = COUNTS[count].of(d);
      const loss = loss_of(d, C), lowest = loss_of(best, C);
      this.curve.setAttribute("points", curve((w) => [x_of(VALLEY, COUNTS[count].of(w)),
        loss_y(loss_of(w, C))]));
      this.dots.forEach((dot, i) => {
        const run = scaling.runs[i];
        dot.setAttribute("cx", x_of(VALLEY, COUNTS[count].of(run.width)));
        dot.classList.toggle("tl-near", Math.abs(Math.log10(run.budget / C)) < 0.06);
      });
      place(this.chosen, x_of(VALLEY, N), Math.max(VALLEY.top, loss_y(loss)));
      place(this.lowest, x_of(VALLEY, COUNTS[count].of(best)), loss_y(lowest));
      this.line.setAttribute("points", growth(count));
      place(this.now, x_of(GROWTH, C), size_y(COUNTS[count].of(best)));
      show_value(this.size, `${size_text(N)} parameters`);
      this.say(N, loss, lowest);
    }

    say(N, loss, lowest) {
      const { C, d, best, count } = this, over = loss - lowest;
      const words = `With ${budget_text(C)} operations, ${size_text(N)} parameters read `
        + `${size_text(bytes_of(d, C))} bytes and come to a loss of ${written(loss, 3)}. `
        + `Best: ${size_text(COUNTS[count].of(best))} parameters, `
        + `${size_text(bytes_of(best, C))} bytes, loss ${written(lowest, 3)}`
        + `${over < 0.0005 ? "." : ` (${written(over, 3)} lower).`} `
        + `Near this budget, the best size grows with the budget to the power of `
        + `${written(exponent_of(count, C))}.`;
      this.summary.textContent = words;
      this.valley.setAttribute("aria-label", `The loss over the size of the model. ${words}`);
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      const header = element("div", { class: "tl-header" },
        element("p", { class: "tl-title" }, "How large, for this budget?"),
        element("p", { class: "tl-note" }, "dots: measured runs; curve: the fitted surface"));
      root.replaceChildren(header, element("div", { class: "tl-scaling" },
        element("div", { class: "tl-pictures" }, this.build_valley(), this.build_growth()),
        this.summary, this.build_controls(id)));
    }

    build_valley() {
      this.curve = svg_element("polyline", { class: "tl-curve" });
      this.dots = scaling.runs.map((run) =>
        svg_element("circle", { class: "tl-run", r: 3.5, cy: loss_y(run.loss) }));
      this.chosen = svg_element("circle", { class: "tl-chosen", r: 7 });
      this.lowest = svg_element("path", { class: "tl-lowest", d: "M0 6 5 14H-5z" });
      this.valley = svg_element("svg", { class: "tl-chart", role: "img",
        viewBox: `0 0 ${VALLEY.width} ${VALLEY.height}` }, ...valley_axes(), this.curve,
      ...this.dots, this.lowest, this.chosen);
      for (const kind of ["pointerdown", "pointermove"]) {
        this.valley.addEventListener(kind, (event) => this.drag(event));
      }
      return element("figure", {}, element("figcaption", {}, "Loss (nats per byte)"), this.valley);
    }

    build_growth() {
      this.line = svg_element("polyline", { class: "tl-curve" });
      this.now = svg_element("circle", { class: "tl-now", r: 5 });
      const chart = svg_element("svg", { class: "tl-chart tl-growth", "aria-hidden": "true",
        viewBox: `0 0 ${GROWTH.width} ${GROWTH.height}` }, ...growth_axes(), this.line, this.now);
      return element("figure", {}, element("figcaption", {}, "Best size"), chart);
    }

    build_controls(id) {
      this.budget = value_slider({ id: `${id}-budget`, label: "Budget", min: 10.5, max: 14,
        step: 0.1 });
      this.size = value_slider({ id: `${id}-size`, label: "Size of the model",
        min: Math.log2(6), max: Math.log2(400), step: "any" });
      this.budget.input.addEventListener("input", () =>
        this.set_budget(this.budget.input.valueAsNumber));
      this.size.input.addEventListener("input", () =>
        this.set_width(2 ** this.size.input.valueAsNumber));
      const radios = Object.entries(COUNTS).map(([name, { label }]) => {
        const input = element("input", { type: "radio", name: `${id}-count` });
        input.checked = name === this.count;
        input.addEventListener("change", () => {
          this.count = name;
          this.show();
        });
        return element("label", {}, input, label);
      });
      return element("div", {}, element("div", { class: "tl-columns" }, this.budget.row,
        this.size.row), element("fieldset", { class: "tl-choices" },
        element("legend", {}, "Which parameters count"), ...radios));
    }
  }

  // ---- Lines and axes -----------------------------------------------------------------------------

  function place(mark, x, y) {
    mark.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
  }

  /* Points of a line over all widths, those outside of the picture left out. */
  function curve(point) {
    const points = [];
    for (let log = 0; log < 9; log += 0.05) {
      const [x, y] = point(2 ** log);
      const inside = x >= VALLEY.left && x <= VALLEY.width - VALLEY.right
        && y >= VALLEY.top && y <= VALLEY.height - VALLEY.bottom;
      if (inside) points.push(`${x.toFixed(2)},${y.toFixed(2)}`);
    }
    return points.join(" ");
  }

  function growth(count) {
    const points = [];
    for (let log = 10.2; log <= 14.9; log += 0.1) {
      const y = size_y(COUNTS[count].of(best_width(10 ** log)));
      if (y < GROWTH.height - GROWTH.bottom) {
        points.push(`${x_of(GROWTH, 10 ** log).toFixed(2)},${y.toFixed(2)}`);
      }
    }
    return points.join(" ");
  }

  function grid(box, x1, x2, y1, y2) {
    return svg_element("line", { class: "tl-axis", x1, x2, y1, y2 });
  }

  function label(x, y, text, anchor = "middle") {
    return svg_element("text", { x, y, "text-anchor": anchor, "dominant-baseline": "central" },
      text);
  }

  function frame(box, x_values, x_text, y_values, y_of, y_text, name) {
    const right = box.width - box.right, bottom = box.height - box.bottom;
    return [
      ...y_values.flatMap((value) => [grid(box, box.left, right, y_of(value), y_of(value)),
        label(box.left - 5, y_of(value), y_text(value), "end")]),
      ...x_values.flatMap((value) => [grid(box, x_of(box, value), x_of(box, value), box.top, bottom),
        label(x_of(box, value), bottom + 11, x_text(value))]),
      label((box.left + right) / 2, box.height - 8, name),
    ];
  }

  const log = (value) => Math.round(Math.log10(value));
  const valley_axes = () => frame(VALLEY, [1e3, 1e4, 1e5, 1e6], (N) => SMALL[log(N)],
    [1, 1.5, 2], loss_y, (loss) => written(loss, 1), "parameters");
  const growth_axes = () => frame(GROWTH, [1e10, 1e12, 1e14], (C) => power(log(C)),
    [1e3, 1e4, 1e5, 1e6, 1e7, 1e8], size_y, (N) => power(log(N)), "operations");

  if (scaling) {
    Object.assign(scaling, { COUNTS, flops_of, loss_of, best_width, exponent_of });
    mount("scaling-explorer", (root, id) => new ScalingExplorer(root, id));
  }
})();
