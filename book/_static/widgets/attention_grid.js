/* What one head looks at, as a grid of squares: a row for each token that looks (query), a column
   for each token looked at (key), the darker the more. One stop for the Tab key; the arrow keys
   move inside, and every square has its value as text. */

(function () {
  "use strict";

  const { element, byte_label, byte_name } = window.TransformerLessons;

  class AttentionGrid {
    constructor(title, id) {
      this.table = element("table", { class: "tl-grid", role: "grid", "aria-labelledby": id });
      this.note = element("p", { class: "tl-note" });
      const caption = element("figcaption", { id }, title);
      this.element = element("figure", { class: "tl-head" }, caption, this.table, this.note);
      this.table.addEventListener("keydown", (event) => this.move(event));
      for (const name of ["pointerover", "focusin"]) {
        this.table.addEventListener(name, (event) => this.look(event.target.closest("td")));
      }
      for (const name of ["pointerleave", "focusout"]) {
        this.table.addEventListener(name, () => this.look(null));
      }
    }

    /* Show `pattern` (T, T) for `tokens` (T,); `first` is the position of the first of them. */
    update(pattern, tokens, first) {
      Object.assign(this, { pattern, tokens, first });
      if (this.rows?.length !== tokens.length) this.build(tokens.length);
      for (const [t, token] of tokens.entries()) {
        for (const header of [this.column_headers[t], this.row_headers[t]]) {
          header.textContent = byte_label(token);
          header.classList.toggle("tl-number", byte_label(token).length > 1);
        }
        this.rows[t].forEach((cell, s) => {
          cell.setAttribute("aria-label", this.describe(t, s));
          if (s <= t) cell.firstChild.style.opacity = pattern[t][s];
        });
      }
      this.look(this.table.contains(document.activeElement) ? document.activeElement : null);
    }

    build(n_tokens) {
      const focused = this.table.contains(document.activeElement);
      const steps = Array.from({ length: n_tokens }, (_, t) => t);
      this.column_headers = steps.map(() => element("th", { scope: "col" }));
      this.row_headers = steps.map(() => element("th", { scope: "row" }));
      this.rows = steps.map((t) => steps.map((s) => (s <= t
        ? element("td", { tabindex: -1 }, element("span", { class: "tl-shade" }))
        : element("td", { class: "tl-unseen" }))));
      this.table.style.setProperty("--tl-tokens", n_tokens);
      this.table.replaceChildren(
        element("thead", {}, element("tr", {}, element("td"), ...this.column_headers)),
        element("tbody", {}, ...steps.map((t) =>
          element("tr", {}, this.row_headers[t], ...this.rows[t]))));
      const last = n_tokens - 1;
      if (focused) this.choose(Math.min(this.query, last), this.key, true);
      else this.choose(last, last, false);
    }

    /* Make one square the grid's stop for the Tab key. */
    choose(query, key, focus) {
      this.rows[this.query]?.[this.key]?.setAttribute("tabindex", -1);
      this.query = query;
      this.key = Math.min(key, query); // later tokens can't be looked at
      const cell = this.rows[this.query][this.key];
      cell.setAttribute("tabindex", 0);
      if (focus) cell.focus();
    }

    move(event) {
      const last = this.tokens.length - 1;
      const { query, key } = this;
      const targets = {
        ArrowUp: [Math.max(query - 1, 0), key],
        ArrowDown: [Math.min(query + 1, last), key],
        ArrowLeft: [query, Math.max(key - 1, 0)],
        ArrowRight: [query, Math.min(key + 1, query)],
        Home: [query, 0],
        End: [query, query],
      };
      if (!Object.hasOwn(targets, event.key) || event.ctrlKey || event.altKey || event.metaKey) {
        return;
      }
      event.preventDefault();
      event.stopPropagation(); // the book's own arrow keys turn the page
      this.choose(...targets[event.key], true);
    }

    /* Below the grid: the square that is pointed at, or else where the last token looks. */
    look(cell) {
      this.note.textContent = cell?.getAttribute("aria-label") ?? this.summarize();
    }

    describe(t, s) {
      const place = (i) => `${byte_name(this.tokens[i])} (position ${this.first + i})`;
      if (s > t) return `${place(t)} can't see ${place(s)}, which comes later`;
      return `${place(t)} looks at ${place(s)}: ${this.pattern[t][s].toFixed(3)}`;
    }

    /* The picture in a sentence: the last token is the one that makes the prediction. */
    summarize() {
      const last = this.tokens.length - 1;
      const row = this.pattern[last];
      const s = row.reduce((best, weight, i) => (weight > row[best] ? i : best), 0);
      const target = s === last ? "itself" : `${byte_label(this.tokens[s])}, ${last - s} back`;
      return `The last byte looks most at ${target}: ${row[s].toFixed(2)}`;
    }
  }

  Object.assign(window.TransformerLessons, { AttentionGrid });
})();
