/* The heads of python-small, to be silenced: the loss by position of a text that repeats itself, and
   what the chosen head looks at. All numbers were computed before; this script only draws them.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/head_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/head_losses.js"></script>
     <script defer src="../_static/widgets/head_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="head-explorer"></div> */

(function () {
  "use strict";

  const {
    element, header, choices, svg_element, button, written, mount, value_slider, show_value,
    heads: data,
  } = window.TransformerLessons;
  if (!data) return; // without the script of the losses, the static picture stays

  const STEP = 2; // nats between two lines of the chart
  const WIDTH = 360, HEIGHT = 190, LEFT = 28, BOTTOM = 34, TOP = 8;

  class HeadExplorer {
    constructor(root, id) {
      this.n_drawn = -1;
      this.build(root, id);
      this.color("induction");
      this.silence([], data.intact, "");
    }

    // ---- What the reader does -------------------------------------------------------------------

    choose(name) {
      this.set_slider(0);
      if (name === "") this.silence([], data.intact, "");
      else this.silence([name], data.single[name], `Head ${name} is silenced.`);
      if (name !== "") this.show_pattern(name);
    }

    choose_best(k) {
      this.uncheck();
      if (k === 0) this.choose("");
      else {
        const { heads, losses } = data.best[k - 1];
        this.silence(heads, losses, `Silenced: ${heads.join(", ")}.`);
      }
    }

    draw_others() {
      this.n_drawn = (this.n_drawn + 1) % data.draws.length;
      this.uncheck();
      this.set_slider(0);
      const { heads, losses } = data.draws[this.n_drawn];
      this.silence(heads, losses, `Silenced, at random: ${heads.join(", ")}.`);
    }

    // ---- What the reader sees -------------------------------------------------------------------

    silence(names, losses, words) {
      for (const [name, { input, label }] of this.squares) {
        label.classList.toggle("tl-silent", name !== "" && names.includes(name));
        if (names.length <= 1) input.checked = name === (names[0] ?? "");
      }
      const [first, second] = copies(losses);
      this.line.setAttribute("points", points(losses));
      const said = words || "Nothing is silenced.";
      this.summary.textContent = `${said} Loss in the first copy ${written(first)}, in the second `
        + `${written(second)}; gained by copying: ${written(first - second)}.`;
      this.chart.setAttribute("aria-label",
        `The mean loss of each token but the first. ${this.summary.textContent}`);
    }

    color(kind) {
      for (const [name, { label, bar }] of this.squares) {
        if (name === "") continue;
        const [block, head] = name.split(".").map(Number);
        const score = data.scores[kind][block][head];
        bar.style.opacity = Math.sqrt(score).toFixed(2); // so that a small one is seen
        label.title = `${kind === "induction" ? "induction" : "previous-token"} score `
          + `${written(score)}`;
      }
    }

    show_pattern(name) {
      const weights = atob(data.patterns[name]);
      this.cells.forEach((cell, i) => {
        cell.setAttribute("opacity", Math.sqrt(weights.charCodeAt(i) / 255).toFixed(2));
      });
      const title = `What head ${name} looks at`;
      this.caption.textContent = title;
      this.pattern.setAttribute("aria-label", `${title}, in the first text: a row for each token `
        + "that looks, a column for each that is looked at.");
    }

    set_slider(k) {
      this.slider.input.value = k;
      show_value(this.slider, `${k}`);
    }

    uncheck() {
      for (const { input } of this.squares.values()) input.checked = false;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.squares = new Map();
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      const heading = header("Silence a head",
        `python-small; ${data.period} random tokens, twice; ${data.n_texts} texts`);
      const left = element("div", { class: "tl-side" }, this.build_grid(id), this.build_colors(id),
        this.build_slider(id), button(
          `Silence ${data.draws[0].heads.length} others`, () => this.draw_others()));
      const right = element("div", {}, this.build_chart(), this.summary, this.build_pattern());
      root.replaceChildren(heading, element("div", { class: "tl-heads" },
        element("div", { class: "tl-bench" }, left, right)));
      this.show_pattern(data.best[0].heads[0]);
    }

    build_grid(id) {
      const rows = data.scores.induction.map((row, block) => element("div", { class: "tl-row" },
        element("span", { class: "tl-note", "aria-hidden": "true" }, `block ${block}`),
        ...row.map((_, head) => this.square(id, `${block}.${head}`, `${block}.${head}`))));
      return element("fieldset", { class: "tl-grid" },
        element("legend", {}, "Which head is silenced?"),
        this.square(id, "", "none"), ...rows);
    }

    square(id, name, text) {
      const input = element("input", { type: "radio", name: `${id}-head`, value: name,
        id: `${id}-head-${name}` });
      const bar = element("span", { class: "tl-score", "aria-hidden": "true" });
      const label = element("label", { for: input.id }, input,
        element("span", { class: "tl-number" }, text), ...(name === "" ? [] : [bar]));
      input.addEventListener("change", () => this.choose(name));
      this.squares.set(name, { input, label, bar });
      return label;
    }

    build_colors(id) {
      return choices(`${id}-kind`, "Bars show", [["induction", "induction score"],
        ["previous", "previous-token score"]], (kind) => this.color(kind));
    }

    build_slider(id) {
      this.slider = value_slider({ id: `${id}-best`, min: 0, max: data.best.length, step: 1,
        label: "Silence the best induction heads" });
      this.slider.input.addEventListener("input", () => {
        const k = this.slider.input.valueAsNumber;
        this.choose_best(k);
        this.set_slider(k);
      });
      this.set_slider(0);
      return this.slider.row;
    }

    build_chart() {
      const second = x_of(data.period);
      this.line = svg_element("polyline", { class: "tl-now" });
      this.chart = svg_element("svg", { class: "tl-chart", role: "img",
        viewBox: `0 0 ${WIDTH} ${HEIGHT}` },
      svg_element("rect", { class: "tl-second-copy", x: second, y: TOP,
        width: WIDTH - second, height: HEIGHT - TOP - BOTTOM }),
      ...ticks(), this.note("first copy", x_of(data.period / 2), HEIGHT - 4),
      this.note("second copy", x_of(1.5 * data.period), HEIGHT - 4),
      svg_element("polyline", { class: "tl-intact", points: points(data.intact) }), this.line);
      return element("figure", {}, element("figcaption", {}, "Loss by position (dashed: nothing silenced)"),
        this.chart);
    }

    note(text, x, y) {
      return svg_element("text", { x, y, "text-anchor": "middle" }, text);
    }

    build_pattern() {
      const n = 2 * data.period;
      this.cells = [];
      for (let row = 0; row < n; row += 1) {
        for (let column = 0; column <= row; column += 1) {
          this.cells.push(svg_element("rect", { x: column, y: row, width: 1, height: 1 }));
        }
      }
      this.caption = element("figcaption", {});
      this.pattern = svg_element("svg", { class: "tl-pattern", role: "img",
        viewBox: `0 0 ${n} ${n}` },
      svg_element("path", { class: "tl-axis", d: `M0 0L${n} ${n}M0 ${n / 2}H${n / 2}V${n}` }),
      ...this.cells);
      return element("figure", { class: "tl-looks" }, element("div", {}, this.caption,
        element("p", { class: "tl-note" }, "Rows are the tokens that look, columns those that are "
          + "looked at; the lines mark the second copy. This is the model with nothing silenced.")),
      this.pattern);
    }
  }

  /* The ends of the chart, in nats: all losses lie between them. */
  function ends() {
    const curves = [data.intact, ...Object.values(data.single),
      ...[...data.best, ...data.draws].map(({ losses }) => losses)].flat();
    return { low: STEP * Math.floor(Math.min(...curves) / STEP),
      high: STEP * Math.ceil(Math.max(...curves) / STEP) };
  }

  const { low, high } = ends();
  const last = 2 * data.period - 1; // the position of the last token

  const x_of = (position) => LEFT + (position / last) * (WIDTH - LEFT - 9);
  const y_of = (loss) => TOP + ((high - loss) / (high - low)) * (HEIGHT - TOP - BOTTOM);

  const points = (losses) => losses.map((loss, i) =>
    `${x_of(i + 1).toFixed(1)},${y_of(loss).toFixed(1)}`).join(" ");

  function ticks() {
    const found = [];
    const tens = Array.from({ length: Math.ceil(last / 10) - 1 }, (_, i) => 10 * (i + 1));
    for (let nats = low; nats <= high; nats += STEP) {
      found.push(svg_element("line", { class: "tl-axis", x1: LEFT, x2: WIDTH, y1: y_of(nats),
        y2: y_of(nats) }), svg_element("text", { x: LEFT - 5, y: y_of(nats), "text-anchor": "end",
        "dominant-baseline": "central" }, `${nats}`));
    }
    for (const position of [1, ...tens, last]) {
      found.push(svg_element("text", { x: x_of(position), y: HEIGHT - 20,
        "text-anchor": "middle" }, `${position}`));
    }
    return found;
  }

  /* The mean loss in both copies. The first token of the second can't be known: it is left out. */
  function copies(losses) {
    const mean = (part) => part.reduce((sum, loss) => sum + loss, 0) / part.length;
    return [mean(losses.slice(0, data.period - 1)), mean(losses.slice(data.period))];
  }

  mount("head-explorer", (root, id) => new HeadExplorer(root, id));
})();
