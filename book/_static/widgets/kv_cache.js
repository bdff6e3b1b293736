/* The KV cache, call by call: what is computed anew and what is read from the cache, with and
   without one, and how many multiplications each way takes.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/kv_cache.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/kv_cache.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="kv-cache"></div> */

(function () {
  "use strict";

  const { element, svg_element, button, header, grouped, written, mount, value_slider,
    show_value } =
    window.TransformerLessons;

  const TOKENS = ["The", "cat", "sat", "on", "the", "mat", "and", "slept", "till", "the", "sun",
    "rose"];
  const N = TOKENS.length;
  const PAUSE_MS = 900;

  // python-small: layers, d_model, keys and values of a token in a layer, d_ff, vocabulary
  const [L, D, KV, F, V] = [6, 192, 2 * 64, 512, 4096];
  const PER_TOKEN = L * (D * (D + KV) + D * D + 3 * D * F) + D * V; // all its matrices
  const PER_SCORE = L * 2 * D; // a query times a key, and its share of the value

  /* What a call computes that reads all `n` tokens, or the last of them with a cache. */
  const all_of = (n) => ({ tokens: n, scores: (n * (n + 1)) / 2, read: 0 });
  const last_of = (n) => ({ tokens: 1, scores: n, read: n - 1 });
  const products = ({ tokens, scores }) => tokens * PER_TOKEN + scores * PER_SCORE;
  const millions = (number) => `${written(number / 1e6, 1)} million`;
  const count = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;

  class KVCacheView {
    constructor(root, id) {
      this.n_prompt = 4;
      this.ways = [new Way("Without a cache"), new Way("With a cache")];
      this.build(root, id);
      this.move_to(0);
    }

    get last() {
      return N - this.n_prompt;
    }

    /* Call 0 reads the prompt, each later call the token that the call before has chosen. */
    move_to(call) {
      this.call = Math.min(Math.max(call, 0), this.last);
      const n = this.n_prompt + this.call;
      this.cursor.input.max = this.last;
      this.cursor.input.value = this.call;
      show_value(this.cursor, this.call ? `${this.call}: token ${n} of ${N}` : "0: the prompt");
      show_value(this.length, count(this.n_prompt, "token"));
      const calls = Array.from({ length: this.call + 1 }, (_, i) => this.n_prompt + i);
      const works = [calls.map(all_of), calls.map((m, i) => (i ? last_of(m) : all_of(m)))];
      const totals = works.map((each) => each.map(products).reduce((a, b) => a + b));
      const most = Array.from({ length: this.last + 1 }, (_, i) =>
        products(all_of(this.n_prompt + i))).reduce((a, b) => a + b);
      this.ways.forEach((way, i) => way.show(n, works[i].at(-1), totals[i], most));
      this.summary.textContent = this.call === 0
        ? "The prompt has to be computed either way: nothing is in the cache yet."
        : `So far, ${written(totals[0] / totals[1], 1)} times as many multiplications without a `
          + "cache. The logits of the last token are the same.";
    }

    play() {
      if (this.call === this.last) this.move_to(0);
      this.playing = setInterval(() => {
        this.move_to(this.call + 1);
        if (this.call === this.last) this.pause();
      }, PAUSE_MS);
      this.play_button.textContent = "Pause";
    }

    pause() {
      clearInterval(this.playing);
      this.playing = null;
      this.play_button.textContent = "Play";
      this.announce();
    }

    go(call) {
      if (this.playing) this.pause();
      this.move_to(call);
      this.announce();
    }

    announce() {
      this.live.textContent = [...this.ways.map((way) => way.words), this.summary.textContent]
        .join(" ");
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.play_button = button("Play", () => (this.playing ? this.pause() : this.play()),
        "tl-primary");
      this.cursor = value_slider({ id: `${id}-call`, label: "Call", min: 0, max: N, step: 1 });
      this.cursor.input.addEventListener("input", () => this.go(this.cursor.input.valueAsNumber));
      this.length = value_slider({ id: `${id}-prompt`, label: "Prompt", min: 1, max: 8, step: 1 });
      this.length.input.value = this.n_prompt;
      this.length.input.addEventListener("input", () => {
        this.n_prompt = this.length.input.valueAsNumber;
        this.go(0);
      });
      this.summary = element("p", { class: "tl-summary" });
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const key = (kind, text) => [element("span", { class: `tl-swatch tl-${kind}` }), text];
      root.replaceChildren(
        header("What a call computes", "python-small; multiplications of all six blocks"),
        element("div", { class: "tl-columns" }, this.cursor.row, this.length.row),
        element("div", { class: "tl-buttons" }, this.play_button,
          button("Back", () => this.go(this.call - 1)), button("Next call", () =>
            this.go(this.call + 1)), button("Start over", () => this.go(0))),
        element("p", { class: "tl-note tl-key" }, ...key("new", "computed in this call "),
          ...key("kept", "keys and values read from the cache "),
          ...key("done", "computed earlier, not needed again")),
        element("div", { class: "tl-columns" }, ...this.ways.map((way) => way.element)),
        this.summary, this.live);
    }
  }

  /* One of the two ways: a row for each query, a column for each key, above them the keys. */
  class Way {
    constructor(title) {
      const square = (x, y, high = 0.86) => svg_element("rect", { x: x + 0.07, y, width: 0.86,
        height: high });
      const steps = [...TOKENS.keys()];
      this.keys = steps.map((s) => square(s, 0, 0.6));
      this.rows = steps.map((t) => steps.slice(0, t + 1).map((s) => square(s, t + 1.1)));
      this.labels = TOKENS.map((token, t) => svg_element("text", { x: -0.3, y: t + 1.72,
        "text-anchor": "end" }, token));
      const label = svg_element("text", { x: -0.3, y: 0.5, "text-anchor": "end" }, "K, V");
      this.svg = svg_element("svg", { class: "tl-calls", role: "img",
        viewBox: `-3 0 ${N + 3} ${N + 1.1}` }, label, ...this.keys, ...this.rows.flat(),
      ...this.labels);
      this.amount = element("p", { class: "tl-amount" });
      this.bar = element("span", { class: "tl-bar" });
      this.title = title;
      this.element = element("figure", {}, element("figcaption", {}, title), this.svg, this.amount,
        element("span", { class: "tl-track", "aria-hidden": "true" }, this.bar));
    }

    /* The call that ends at token `n` does `work`; `total` so far, of at most `most`. */
    show(n, work, total, most) {
      const first = n - work.tokens; // of the tokens that are computed anew
      const kind = (t) => (t >= n ? "tl-none" : t >= first ? "tl-new" : "tl-kept");
      this.keys.forEach((key, s) => key.setAttribute("class", kind(s)));
      this.rows.forEach((row, t) => row.forEach((square) =>
        square.setAttribute("class", kind(t).replace("kept", "done"))));
      this.labels.forEach((label, t) => label.classList.toggle("tl-none", t >= n));
      const cached = work.read ? `, ${grouped(work.read)} read from the cache` : "";
      this.words = `${this.title}: ${count(work.tokens, "token")} computed, `
        + `${count(work.scores, "score")} in each head${cached}; ${millions(products(work))} `
        + `multiplications, ${millions(total)} so far.`;
      this.svg.setAttribute("aria-label", this.words);
      this.amount.replaceChildren(`${count(work.tokens, "token")}${cached}: `,
        element("b", {}, millions(products(work))), ` multiplications. So far ${millions(total)}`);
      this.bar.style.width = `${(100 * total) / most}%`;
    }
  }

  mount("kv-cache", (root, id) => new KVCacheView(root, id));
})();
