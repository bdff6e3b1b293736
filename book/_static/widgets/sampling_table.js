/* The most likely next tokens: what the model gives each, what the sampler leaves it, and how often
   it was drawn. */

(function () {
  "use strict";

  const { element, grouped, bpe_pieces } = window.TransformerLessons;

  const SHOWN = 8;
  const SCALES = [0.1, 0.2, 0.5, 1]; // what the longest bar can stand for
  const HEADS = ["token", "", "model", "left", "drawn"];

  /* Neither 0.0% of what can happen, nor 100.0% where something else can. */
  function percent(p) {
    if (p > 0 && p < 0.0005) return "< 0.1%";
    if (p < 1 && p >= 0.9995) return "> 99.9%";
    return `${(100 * p).toFixed(1)}%`;
  }

  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  class TokenTable {
    constructor(tokens) {
      this.tokens = tokens;
      this.scale = element("span", { class: "tl-scale-end" });
      this.rows = Array.from({ length: SHOWN }, () => new TokenRow());
      this.rest = new TokenRow();
      const head = HEADS.map((text) =>
        (text ? element("th", { scope: "col" }, text) : element("td", {}, this.scale)));
      this.element = element("table", { class: "tl-tokens" },
        element("caption", {}, `The model’s ${SHOWN} most likely tokens`),
        element("thead", {}, element("tr", {}, ...head)),
        element("tbody", {}, ...[...this.rows, this.rest].map((row) => row.element)));
    }

    /* `order` are the tokens from the most likely of the model to the least, `times` how often the
       prompt holds each. */
    name(order, times) {
      this.shown = order.slice(0, SHOWN);
      this.others = order.slice(SHOWN);
      for (const [i, token] of this.shown.entries()) {
        this.rows[i].name(token_box(this.tokens[token]), in_prompt(times[token]));
      }
      this.rest.name(`${grouped(this.others.length)} others`, "");
    }

    /* `before` and `after` are the probabilities of all tokens, `is_left` which may be drawn. */
    show(before, after, is_left) {
      const longest = Math.max(...this.shown.flatMap((token) => [before[token], after[token]]));
      const full = SCALES.find((scale) => longest <= scale + 1e-9);
      this.scale.textContent = `0 to ${100 * full}%`;
      this.full = full;
      for (const [i, token] of this.shown.entries()) {
        this.rows[i].show(before[token], after[token], is_left[token], full);
      }
      const left = this.others.filter((token) => is_left[token]);
      const share = (part) => sum(this.others.map((token) => part[token]));
      this.rest.show(share(before), share(after), left.length > 0, null);
      this.rest.name(`${grouped(this.others.length)} others`, `${grouped(left.length)} left`);
    }

    /* `counts` holds how often each token was drawn, of `n_drawn` draws in all. */
    show_draws(counts, n_drawn, after) {
      for (const [i, token] of this.shown.entries()) {
        this.rows[i].show_draws(counts[token], n_drawn, after[token], this.full);
      }
      const total = (part) => sum(this.others.map((token) => part[token]));
      this.rest.show_draws(total(counts), n_drawn, total(after), null);
    }
  }

  class TokenRow {
    constructor() {
      this.bars = ["model", "left", "drawn"].map((kind) =>
        element("span", { class: `tl-bar-${kind}` }));
      this.track = element("td", { class: "tl-track", "aria-hidden": "true" }, ...this.bars);
      this.head = element("th", { scope: "row" });
      [this.model, this.left, this.drawn] = HEADS.slice(2).map(() =>
        element("td", { class: "tl-number" }));
      this.element = element("tr", {}, this.head, this.track, this.model, this.left, this.drawn);
    }

    name(token, note) {
      this.head.replaceChildren(token, " ", element("span", { class: "tl-aside" }, note));
    }

    /* Bars where `full`, the share of the longest possible one, is not null. */
    show(before, after, is_left, full) {
      this.is_left = is_left;
      this.element.classList.toggle("tl-dropped", !is_left);
      this.model.textContent = percent(before);
      this.left.textContent = is_left ? percent(after) : "dropped";
      const [model, left] = this.bars;
      model.style.width = full ? `${(100 * before) / full}%` : 0;
      left.style.width = full && is_left ? `${(100 * after) / full}%` : 0;
    }

    show_draws(count, n_drawn, after, full) {
      this.drawn.replaceChildren(...(n_drawn === 0 || !this.is_left ? [] : [`${grouped(count)} `,
        element("span", { class: "tl-aside" }, `(${short(n_drawn * after)})`)]));
      const mark = this.bars[2];
      const share = n_drawn === 0 ? 0 : count / n_drawn;
      mark.hidden = count === 0 || share > full; // a few draws can give more than the scale holds
      mark.style.left = mark.hidden ? 0 : `${(100 * share) / full}%`;
    }
  }

  const in_prompt = (n) => (n ? `×${n}` : "");
  const short = (number) => (number >= 100 ? grouped(Math.round(number)) : number.toFixed(1));

  /* A token in its box; one that was drawn is set off. */
  const token_box = (token, is_drawn = false) => bpe_pieces.told(
    `${is_drawn ? "drawn: " : ""}${bpe_pieces.said(token)}`,
    bpe_pieces.box(token, is_drawn ? "tl-new" : ""));

  Object.assign(window.TransformerLessons, { TokenTable, token_box, percent });
})();
