/* What the page "Follow a text through the model" draws: numbers as colours, rows of numbers that
   are added up, the heads of a block, and a line of chances. */

(function () {
  "use strict";

  const { element, written, bpe_pieces, mean_square } = window.TransformerLessons;

  const FEW = 16; // so many numbers have room to be written out

  const spoken = (token) => bpe_pieces.said(token) || "nothing";
  const size_of = (x) => Math.sqrt(mean_square(x));

  /* The number with three digits, however small. */
  function number_text(x) {
    return Math.abs(x) >= 100 ? written(x, 0) : written(x, Math.abs(x) >= 10 ? 1 : 2);
  }

  function percent(p) {
    if (p >= 0.9995) return "100%";
    return p < 0.001 ? "<0.1%" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)}%`;
  }

  /* The k largest: [[place, number], ...], the largest first. */
  function top(numbers, k) {
    const found = [];
    numbers.forEach((number, place) => {
      if (found.length === k && number <= found[k - 1][1]) return;
      found.push([place, number]);
      for (let i = found.length - 1; i > 0 && found[i][1] > found[i - 1][1]; i -= 1) {
        [found[i], found[i - 1]] = [found[i - 1], found[i]];
      }
      if (found.length > k) found.pop();
    });
    return found;
  }

  function probabilities(logits) {
    let [largest, total] = [-Infinity, 0];
    for (const logit of logits) if (logit > largest) largest = logit;
    const p = logits.map((logit) => Math.exp(logit - largest));
    for (const x of p) total += x;
    return p.map((x) => x / total);
  }

  // ---- Numbers as colours ----------------------------------------------------------------------

  /* The theme's two colours, as [r, g, b]. */
  function palette(root) {
    const context = element("canvas").getContext("2d");
    return ["--tl-hue", "--tl-second"].map((name) => {
      context.fillStyle = getComputedStyle(root).getPropertyValue(name).trim();
      return [1, 3, 5].map((i) => parseInt(context.fillStyle.slice(i, i + 2), 16));
    });
  }

  /* A pixel for each number: shade(row, column) from -1 to 1, the first colour above 0. */
  function paint(canvas, n_rows, n_columns, colours, shade) {
    [canvas.width, canvas.height] = [n_columns, n_rows];
    const context = canvas.getContext("2d");
    const image = context.createImageData(n_columns, n_rows);
    const { data } = image;
    for (let row = 0, at = 0; row < n_rows; row += 1) {
      for (let column = 0; column < n_columns; column += 1, at += 4) {
        const value = shade(row, column);
        const colour = colours[value < 0 ? 1 : 0];
        for (let i = 0; i < 3; i += 1) data[at + i] = colour[i];
        data[at + 3] = 255 * Math.sqrt(Math.min(Math.abs(value), 1)); // small ones are seen
      }
    }
    context.putImageData(image, 0, 0);
  }

  const largest_of = (rows) => rows.reduce((most, row) =>
    row.reduce((a, b) => Math.max(a, Math.abs(b)), most), 1e-9);

  // ---- A ledger: rows of D numbers, one below the other ----------------------------------------

  /* A table with a row of colours for each row of numbers, its size (the root of the mean square),
     and one of its numbers, which the reader points at or chooses with a slider. */
  class Ledger {
    constructor(id, caption, labels) {
      this.place = 0;
      this.pick = element("input", { type: "range", id: `${id}-place`, min: 0, max: 0, step: 1 });
      this.pick.addEventListener("input", () => this.point(this.pick.valueAsNumber));
      this.pick.addEventListener("keydown", (event) => event.stopPropagation());
      this.column = element("th", { scope: "col" });
      this.rows = labels.map((label) => {
        const [colours, size, number] = ["tl-colours", "tl-n", "tl-n"].map((kind) =>
          element("td", { class: kind }));
        const line = element("tr", {}, element("th", { scope: "row" }, label), colours, size,
          number);
        return { line, colours, size, number };
      });
      const body = element("tbody", {}, ...this.rows.map((row) => row.line));
      body.addEventListener("pointermove", (event) => this.hover(event));
      this.label = element("label", { for: this.pick.id, class: "tl-spoken" }, "Which number");
      this.element = element("table", { class: "tl-ledger" },
        element("caption", { class: "tl-spoken" }, caption),
        element("thead", {}, element("tr", {}, element("td"),
          element("td", { class: "tl-pick" }, this.label, this.pick),
          element("th", { scope: "col", title: "the root of the mean square" }, "size"),
          this.column)),
        body);
    }

    show(vectors, colours) {
      const n = vectors[0].length;
      const most = largest_of(vectors);
      this.vectors = vectors;
      this.pick.max = n - 1;
      vectors.forEach((vector, i) => {
        const row = this.rows[i];
        row.size.textContent = number_text(size_of(vector));
        if (n <= FEW) {
          row.colours.replaceChildren(element("span", { class: "tl-few" },
            ...Array.from(vector, (x) => element("span", {}, number_text(x)))));
        } else {
          let canvas = row.colours.querySelector("canvas");
          if (!canvas) row.colours.replaceChildren(canvas = element("canvas", {
            "aria-hidden": "true" }));
          paint(canvas, 1, n, colours, (_, j) => vector[j] / most);
        }
      });
      this.point(Math.min(this.place, n - 1));
    }

    hover(event) {
      const area = event.target.closest(".tl-colours")?.getBoundingClientRect();
      if (!area) return;
      const n = this.vectors[0].length;
      const place = Math.floor(((event.clientX - area.left) / area.width) * n);
      this.point(Math.min(Math.max(place, 0), n - 1));
    }

    point(place) {
      this.place = place;
      this.pick.value = place;
      this.column.textContent = `no. ${place}`;
      this.vectors.forEach((vector, i) => {
        this.rows[i].number.textContent = written(vector[place], 3);
      });
      const said = this.vectors.map((vector) => written(vector[place], 3)).join(", ");
      this.pick.setAttribute("aria-valuetext", `number ${place}: ${said}`);
      const n = this.vectors[0].length;
      this.element.style.setProperty("--tl-at", `${(100 * (place + 0.5)) / n}%`);
    }
  }

  // ---- The heads of a block --------------------------------------------------------------------

  /* A square for each head; the one that is pointed at, or has the focus, is looked at. */
  class Heads {
    constructor(on_look) {
      this.on_look = on_look;
      this.head = 0;
      this.buttons = [];
      this.element = element("div", { class: "tl-squares", role: "group", "aria-label": "Heads" });
    }

    show(trace, layer, colours) {
      const n_heads = trace[0].weights[layer].length;
      if (this.buttons.length !== n_heads) this.build(n_heads);
      const T = trace.length;
      this.buttons.forEach((made, h) => {
        const canvas = made.firstChild;
        paint(canvas, T, T, colours, (t, s) => (s <= t ? trace[t].weights[layer][h][s] : 0));
        made.setAttribute("aria-pressed", h === this.head);
      });
    }

    build(n_heads) {
      this.head = Math.min(this.head, n_heads - 1);
      this.buttons = Array.from({ length: n_heads }, (_, h) => {
        const made = element("button", { type: "button" }, element("canvas", {
          "aria-hidden": "true" }), element("span", {}, `head ${h}`));
        for (const name of ["pointerenter", "focus", "click"]) {
          made.addEventListener(name, () => this.look(h));
        }
        return made;
      });
      this.element.style.setProperty("--tl-n", Math.min(n_heads, 8));
      this.element.replaceChildren(...this.buttons);
    }

    look(h) {
      this.buttons[this.head]?.setAttribute("aria-pressed", false);
      this.head = h;
      this.buttons[h].setAttribute("aria-pressed", true);
      this.on_look();
    }
  }

  // ---- A line of chances -----------------------------------------------------------------------

  const SEGMENTS = 14;

  /* The line from 0 to 1, cut by the probabilities of [[token, p], ...], the most likely first; the
     mark stands where the random number fell. */
  class Chances {
    constructor() {
      this.line = element("div", { class: "tl-chances", "aria-hidden": "true" });
      this.mark = element("span", { class: "tl-mark", "aria-hidden": "true" });
      this.element = element("div", { class: "tl-line" }, this.line, this.mark);
    }

    show(left, random, chosen, box) {
      const shown = left.slice(0, SEGMENTS);
      const rest = 1 - shown.reduce((sum, [, p]) => sum + p, 0);
      this.line.replaceChildren(...shown.map(([token, p]) => {
        const part = element("span", { class: token === chosen ? "tl-chosen" : "" },
          ...(p > 0.045 ? [box(token)] : []));
        part.style.width = `${100 * p}%`;
        return part;
      }), ...(rest > 1e-6 ? [element("span", { class: "tl-others" })] : []));
      this.mark.hidden = random === null;
      if (random !== null) this.mark.style.left = `${100 * random}%`;
    }
  }

  window.TransformerLessons.follow = {
    spoken, number_text, percent, top, probabilities, palette, paint, largest_of, Ledger, Heads,
    Chances, size_of,
  };
})();
