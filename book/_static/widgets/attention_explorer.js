/* One attention head of width 2 on four tokens, live: change a number, the mask or the divisor, and
   follow every step from the scores to the outputs.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/attention_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/plane.js"></script>
     <script defer src="../_static/widgets/attention.js"></script>
     <script defer src="../_static/widgets/attention_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="attention-explorer"></div> */

(function () {
  "use strict";

  const { element, header, choices, button, written, checked_number, slider, Plane, mount,
    attention } =
    window.TransformerLessons;

  const TOKENS = ["the", "cat", "sat", "down"];
  const VALUES = [[4, 0], [0, 4], [8, 8], [4, 4]];
  const AROUND = [[3, 0], [0, 3], [-3, 0], [0, -3]]; // four directions: keys far from each other
  const HAND_KEYS = [[1, 0], [0, 1], [1, 0], [0, 1]];
  const PRESETS = {
    // √2 ln 3 = 1.554 and √2 ln 2 = 0.98 make the scores ln 3 and ln 2, and the shares quarters.
    "Hand example": { q: [[0, 0], [1.554, 0], [0, 0.98], [1.554, 0]], k: HAND_KEYS },
    "Look at yourself": { q: AROUND, k: AROUND },
    "Look at the token before": { q: [AROUND[0], ...AROUND.slice(0, -1)], k: AROUND },
    Uniform: { q: [[0, 0], [0, 0], [0, 0], [0, 0]], k: HAND_KEYS },
  };
  const MATRICES = { q: "query q", k: "key k", v: "value v" };
  const LIMITS = { min: -10, max: 10 };

  const typed = (number) => String(number).replace("-", "−");
  const vector = (numbers, write = written) => `(${numbers.map((x) => write(x)).join(", ")})`;
  const steps = [...TOKENS.keys()];

  class AttentionExplorer {
    constructor(root, id) {
      this.id = id;
      this.row = 1;
      this.build(root);
      this.use("Hand example");
    }

    // ---- The state: three matrices, a mask, a divisor, the row that is read --------------------

    use(name) {
      const copy = (rows) => rows.map((row) => [...row]); // each field its own number to change
      const { q, k } = PRESETS[name];
      this.input = { q: copy(q), k: copy(k), v: copy(VALUES),
        mask: attention.causal_mask(TOKENS.length) };
      for (const { field, number } of this.all_fields()) {
        field.value = number;
        field.setAttribute("aria-invalid", false);
      }
      this.divisor.value = 1; // √2 ** 1: √d
      this.show_problem();
      this.refusal.textContent = "";
      this.show();
    }

    type(field, matrix, t, i) {
      const number = checked_number(field, LIMITS);
      if (number !== null) {
        this.input[matrix][t][i] = number;
        this.show();
      }
      this.show_problem();
    }

    /* Every field, and the number in use for it. */
    all_fields() {
      return Object.entries(this.fields).flatMap(([matrix, rows]) => rows.flatMap((row, t) =>
        row.map((field, i) => ({ field, number: this.input[matrix][t][i] }))));
    }

    /* An arrow was dragged: the numbers in its fields go with it. */
    drag(matrix, t, pair) {
      for (const [i, number] of pair.entries()) {
        const field = this.fields[matrix][t][i];
        field.value = Math.min(Math.max(number, LIMITS.min), LIMITS.max);
        this.type(field, matrix, t, i);
      }
    }

    toggle(t, s) {
      const { mask } = this.input;
      this.refusal.textContent = t === s
        ? `${TOKENS[t]} always sees itself: a row has to keep one key, or the shares would have `
          + "nothing to add up to 1." : "";
      if (t === s) return;
      mask[t][s] = !mask[t][s];
      this.show();
      this.announce(`${TOKENS[t]} ${mask[t][s] ? "sees" : "does not see"} ${TOKENS[s]}.`);
    }

    choose(row) {
      this.row = row;
      this.show();
    }

    show() {
      this.input.divisor = 2 ** (this.divisor.valueAsNumber / 2); // steps of √2
      this.result = attention.attend(this.input);
      this.show_divisor();
      this.show_matrices();
      this.show_row();
      this.show_planes();
    }

    // ---- What the reader sees -----------------------------------------------------------------

    show_problem() {
      const wrong = this.all_fields().find(({ field }) => field.ariaInvalid === "true");
      this.problem.textContent = wrong
        ? `${wrong.field.ariaLabel} needs a number from −10 to 10; ${typed(wrong.number)} is still `
          + "in use." : "";
    }

    show_divisor() {
      const { divisor } = this.input;
      const names = { 0: "1: no scaling", 1: "1.41: √d, as usual" };
      const text = names[this.divisor.value] ?? written(divisor);
      this.divisor_readout.textContent = text;
      this.divisor.setAttribute("aria-valuetext", text);
    }

    show_matrices() {
      const { scores, shares, outputs } = this.result;
      for (const t of steps) {
        for (const s of steps) {
          const is_seen = this.input.mask[t][s];
          const [score] = this.scores.cells[t][s].children;
          score.textContent = written(scores[t][s]);
          score.setAttribute("aria-pressed", is_seen);
          score.setAttribute("aria-label", `${TOKENS[t]} sees ${TOKENS[s]}: ${score.textContent}`);
          const shade = element("span", { class: "tl-shade", style: `opacity: ${shares[t][s]}` });
          this.shares.cells[t][s].replaceChildren(shade, is_seen ? written(shares[t][s]) : "0");
        }
        for (const [i, cell] of this.outputs.cells[t].entries()) {
          cell.textContent = written(outputs[t][i]);
        }
        for (const { rows } of [this.scores, this.shares, this.outputs]) {
          rows[t].classList.toggle("tl-chosen", t === this.row);
        }
      }
    }

    /* The computation of one row, in words. */
    show_row() {
      const { row, input, result } = this;
      const seen = steps.filter((s) => input.mask[row][s]);
      const each = (write) => seen.map(write).join(", ");
      const { taken_off, exponentials, total, shares } = result.steps[row];
      const less = taken_off ? ` (less the largest, ${written(taken_off)}: the shares stay)` : "";
      const scores = each((s) => `${TOKENS[s]} ${written(result.scores[row][s])}`);
      const raised = each((s) => written(exponentials[s]));
      const parts = seen.map((s) => `${written(shares[s])} × ${vector(input.v[s], typed)}`);
      this.reading_title.textContent = `The row of ${TOKENS[row]}, number by number`;
      const lines = [
        `scores, q · k / ${written(input.divisor)}: ${scores}`,
        `e to each score${less}: ${raised}; together ${written(total)}`,
        `shares, each divided by the sum: ${each((s) => written(shares[s]))}`,
        `output, the values in these shares: ${parts.join(" + ")} = ${vector(result.outputs[row])}`,
      ];
      this.reading.replaceChildren(...lines.map((line) => element("li", {}, line)));
      const hidden = TOKENS.filter((_, s) => !input.mask[row][s]);
      this.hidden.textContent = hidden.length
        ? `Hidden from ${TOKENS[row]}, score −∞ and share 0: ${hidden.join(", ")}.` : "";
    }

    show_planes() {
      const { row, input, result } = this;
      const axes = (...rows) =>
        ({ low: Math.min(0, ...rows.flat()), high: Math.max(1, ...rows.flat()), text: 0.17 });
      const arrows = (vectors) => vectors.map((to, s) => ({ to, label: TOKENS[s],
        kind: input.mask[row][s] ? "tl-key" : "tl-key tl-before" }));
      const query = { to: input.q[row], label: "q", kind: "tl-query" };
      this.looking.draw({
        ...axes(...input.k, input.q[row]),
        title: `The query of ${TOKENS[row]}, ${vector(input.q[row], typed)}, among the four keys`,
        arrows: [...arrows(input.k), query],
      });
      const output = { to: result.outputs[row], label: "output", kind: "tl-query" };
      this.mixing.draw({
        ...axes(...input.v),
        title: `The output of ${TOKENS[row]}, ${vector(result.outputs[row])}, among the values`,
        arrows: [...arrows(input.v), output],
      });
    }

    announce(text) {
      const { row, input, result } = this;
      const shares = steps.filter((s) => input.mask[row][s]).map((s) =>
        `${TOKENS[s]} ${written(result.shares[row][s])}`);
      this.live.textContent = `${text} ${TOKENS[row]} looks at ${shares.join(", ")}; output `
        .trimStart() + `${vector(result.outputs[row])}.`;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root) {
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const message = { class: "tl-problem", role: "status" };
      this.problem = element("p", { id: `${this.id}-problem`, ...message });
      this.refusal = element("p", message);
      const heading = header("Attention, step by step", "one head of width 2, four tokens");
      root.replaceChildren(heading, this.build_presets(), element("div", { class: "tl-columns" },
        element("div", {}, this.build_inputs(), this.problem, ...this.build_settings()),
        this.build_pictures()), this.build_results(), this.build_reading(), this.live);
      root.addEventListener("change", () => this.announce(""));
    }

    build_presets() {
      const buttons = Object.keys(PRESETS).map((name) => button(name, () => {
        this.use(name);
        this.announce(`${name}.`);
      }));
      return element("div", { class: "tl-presets", role: "group", "aria-label": "Presets" },
        ...buttons);
    }

    /* One table for q, k and v: a row for each token, two fields in each group of columns. */
    build_inputs() {
      this.fields = Object.fromEntries(Object.keys(MATRICES).map((matrix) =>
        [matrix, steps.map((t) => [0, 1].map((i) => this.build_field(matrix, t, i)))]));
      const groups = Object.values(MATRICES).map((title) =>
        element("th", { scope: "colgroup", colspan: 2 }, title));
      const rows = steps.map((t) => element("tr", {}, element("th", { scope: "row" }, TOKENS[t]),
        ...Object.values(this.fields).flatMap((fields) =>
          fields[t].map((field) => element("td", {}, field)))));
      return element("table", { class: "tl-matrix tl-inputs" },
        element("caption", {}, "Two numbers each"),
        element("thead", {}, element("tr", {}, element("td"), ...groups)),
        element("tbody", {}, ...rows));
    }

    build_field(matrix, t, i) {
      const field = element("input", { type: "number", ...LIMITS, step: 0.1,
        "aria-label": `${matrix} of ${TOKENS[t]}, number ${i}`,
        "aria-describedby": this.problem.id });
      field.addEventListener("input", () => this.type(field, matrix, t, i));
      return field;
    }

    build_settings() {
      this.divisor_readout = element("span", { class: "tl-degrees", "aria-hidden": "true" });
      const divisor = slider({ id: `${this.id}-divisor`, label: "Scores are divided by",
        min: -4, max: 8, step: 1 }, this.divisor_readout); // powers of √2
      this.divisor = divisor.input;
      this.divisor.addEventListener("input", () => this.show());
      return [divisor.row, choices(`${this.id}-row`, "Read the row of", [...TOKENS.entries()],
        (t) => this.choose(t), this.row)];
    }

    build_results() {
      this.scores = new Matrix("Scores: q · k / divisor", TOKENS, (t, s) => {
        const made = button("", () => this.toggle(t, s));
        if (t === s) made.setAttribute("aria-disabled", "true");
        return made;
      });
      this.shares = new Matrix("Shares (weights)", TOKENS, () => "");
      this.outputs = new Matrix("Outputs", ["0", "1"], () => "");
      return element("div", {}, element("div", { class: "tl-matrices" },
        this.scores.element, this.shares.element, this.outputs.element), this.refusal,
      element("p", { class: "tl-note" }, "Rows look at columns; press a score to mask it "
        + "(−∞). A larger divisor makes shares more equal."));
    }

    build_reading() {
      this.reading = element("ol", { class: "tl-reading" });
      this.hidden = element("p", { class: "tl-note" });
      this.reading_title = element("p", { class: "tl-label" });
      return element("div", { class: "tl-row" }, this.reading_title, this.reading, this.hidden);
    }

    build_pictures() {
      const handles = (matrix) => steps.map((t) => ({ name: `${MATRICES[matrix]} of ${TOKENS[t]}`,
        kind: "tl-key", move: (pair) => this.drag(matrix, t, pair) }));
      this.looking = new Plane([...handles("k"), { name: "query q of the row", kind: "tl-query",
        move: (pair) => this.drag("q", this.row, pair) }]);
      this.mixing = new Plane(handles("v"));
      const figure = (plane, text) =>
        element("figure", {}, plane.svg, element("figcaption", {}, text));
      return element("div", {}, element("p", { class: "tl-label" }, "Drag the arrows (dashed: hidden)"),
        element("div", { class: "tl-pictures" },
          figure(this.looking, "The row’s query among the keys"),
          figure(this.mixing, "Its output among the values")));
    }
  }

  /* A table with a row for each token; `make(t, column)` is what goes into a cell. */
  class Matrix {
    constructor(title, columns, make) {
      this.cells = steps.map((t) => columns.map((_, i) => element("td", {}, make(t, i))));
      this.rows = this.cells.map((row, t) =>
        element("tr", {}, element("th", { scope: "row" }, TOKENS[t]), ...row));
      const head = element("tr", {}, element("td"),
        ...columns.map((text) => element("th", { scope: "col" }, text)));
      this.element = element("table", { class: "tl-matrix" }, element("caption", {}, title),
        element("thead", {}, head), element("tbody", {}, ...this.rows));
    }
  }

  mount("attention-explorer", (root, id) => new AttentionExplorer(root, id));
})();
