/* Byte-pair encoding, merge by merge, on the reader's own text.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/bpe_stepper.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/bpe.js"></script>
     <script defer src="../_static/widgets/bpe_pieces.js"></script>
     <script defer src="../_static/widgets/bpe_stepper.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="bpe-stepper"></div> */

(function () {
  "use strict";

  const { element, header, button, grouped, mount, bpe, bpe_pieces } = window.TransformerLessons;
  const { plural, said, told, box, chunk_row, size_in_words, merge_in_words, tie_in_words, Chart } =
    bpe_pieces;

  const repeated = (word, n) => Array(n).fill(word);
  const TEXT = [...repeated("low", 5), ...repeated("lower", 2), ...repeated("newest", 6),
    ...repeated("widest", 3)].join(" ");
  const OTHER_TEXT = "lowest newer";
  const MOST = { characters: 2000, pairs: 5 };

  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  class BPEStepper {
    constructor(root, id) {
      this.id = id;
      this.build(root);
      this.start(TEXT);
    }

    // ---- The state: the words before any merge, then after each --------------------------------

    start(text) {
      this.text = text;
      this.states = [state_of(bpe.words_of(bpe.count_chunks(text)), null)];
      this.n_bytes = this.now.n_tokens;
      this.show();
    }

    get now() {
      return this.states.at(-1);
    }

    get merges() {
      return this.states.slice(1).map(({ merge }) => merge);
    }

    step(n_steps) {
      const n_before = this.merges.length;
      for (let i = 0; i < n_steps; i++) {
        const { words } = this.now;
        const [best] = bpe.ranked_pairs(words);
        if (best) this.states.push(state_of(bpe.join_in_words(words, best.pair), best));
      }
      const news = this.merges.map(merge_in_words).slice(n_before);
      this.show();
      this.refuse(news.length ? "" : "No pair is left: each chunk is one token.");
      if (news.length) this.announce(...news);
    }

    /* Take the last `n_merges` back. */
    take_back(n_merges) {
      const n_kept = Math.max(this.states.length - n_merges, 1);
      const taken = this.states.splice(n_kept);
      this.show();
      this.refuse(taken.length ? "" : "There is no merge to take back.");
      if (taken.length) this.announce(`${plural(taken.length, "merge")} taken back`);
    }

    type() {
      const problem = problem_with(this.field.value, 1);
      this.field.setAttribute("aria-invalid", problem !== "");
      this.problem.textContent = problem && `${problem} The text before is still in use.`;
      if (problem || this.field.value === this.text) return;
      this.refuse("");
      this.start(this.field.value);
    }

    type_other() {
      const problem = problem_with(this.other.value, 0);
      this.other.setAttribute("aria-invalid", problem !== "");
      this.other_problem.textContent = problem && `${problem} The tokens are those of the text `
        + "before.";
      if (problem) return;
      this.other_text = this.other.value;
      this.show_encoded();
    }

    // ---- What the reader sees -----------------------------------------------------------------

    show() {
      const n_merges = this.merges.length;
      const pairs = bpe.ranked_pairs(this.now.words);
      this.reached.textContent = `After ${plural(n_merges, "merge")}: ${this.size()}.`;
      this.allow(this.forward, pairs.length > 0);
      this.allow(this.backward, n_merges > 0);
      this.show_chunks(pairs[0]);
      this.show_pairs(pairs);
      this.show_merges();
      this.chart.draw(this.states.map(({ n_tokens }) => this.n_bytes / n_tokens));
      this.show_encoded();
    }

    size() {
      return size_in_words(this.n_bytes, this.now.n_tokens);
    }

    /* A button that is not allowed keeps the focus, and says why it does nothing. */
    allow(buttons, is_allowed) {
      for (const each of buttons) each.setAttribute("aria-disabled", !is_allowed);
    }

    show_chunks(next) {
      const { words, merge } = this.now;
      const marks = { made: merge?.pair.join(""), next: next?.pair };
      const in_order = [...words].sort((a, b) => b.count - a.count); // equal ones as in the text
      this.chunks.replaceChildren(...in_order.map((word) => chunk_row(word, marks)));
      const n_chunks = sum(words.map(({ count }) => count));
      this.chunks_title.textContent = `Chunks: ${grouped(n_chunks)}, of `
        + plural(words.length, "kind");
    }

    show_pairs(pairs) {
      const most = pairs[0]?.count;
      const row = ({ pair, count }, place) => element("tr", place ? {} : { class: "tl-winner" },
        element("th", { scope: "row" }, told(`${said(pair[0])} and ${said(pair[1])}`,
          ...pair.map((token) => box(token)))),
        element("td", {}, grouped(count)),
        element("td", {}, place ? (count === most ? "same count" : "") : "joined next"));
      this.pairs.replaceChildren(...pairs.slice(0, MOST.pairs).map(row));
      const n_more = pairs.length - MOST.pairs;
      this.more.textContent = n_more > 0 ? `and ${plural(n_more, "other pair")}` : "";
      this.tie.replaceChildren(...tie_in_words(pairs));
    }

    show_merges() {
      const rows = this.merges.map(({ pair, count }, i) => element("li", {},
        told(merge_in_words({ pair, count }, i), element("span", { class: "tl-id" }, 256 + i),
          box(pair[0]), "+", box(pair[1]), "→", box(pair.join("")),
          element("span", { class: "tl-times" }, `${grouped(count)} ×`))));
      this.learned.replaceChildren(...rows);
      this.none.textContent = rows.length ? "" : "None yet: the tokens are the 256 bytes.";
      this.learned.scrollTop = this.learned.scrollHeight;
    }

    show_encoded() {
      const chunks = bpe.encode(this.other_text, this.merges.map(({ pair }) => pair));
      const tokens = chunks.flatMap((chunk) => chunk.map(({ token, id }, i) =>
        element("li", i ? {} : { class: "tl-first" }, told(`${said(token)}: ${id}`,
          box(token), element("span", { class: "tl-id" }, id)))));
      this.encoded.replaceChildren(...tokens);
      const n_bytes = bpe.utf8_bytes(this.other_text).length;
      this.encoded_size.textContent = tokens.length
        ? `${size_in_words(n_bytes, tokens.length)}.`
        : "No text, no tokens.";
    }

    refuse(text) {
      this.refusal.textContent = text;
    }

    announce(...news) {
      this.live.textContent = [...news, this.size()].map((text) => `${text}.`).join(" ");
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root) {
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("Byte-pair encoding, merge by merge",
        "a word takes the space before it");
      root.replaceChildren(heading, element("div", { class: "tl-columns" },
        element("div", {}, this.build_text(), this.build_buttons(), this.build_chunks()),
        element("div", {}, this.build_pairs(), this.build_chart()),
        this.build_merges(), this.build_other()), this.live);
    }

    build_text() {
      const made = text_area(`${this.id}-text`, "Your text", TEXT, 3);
      [this.field, this.problem] = [made.area, made.problem];
      this.field.addEventListener("input", () => this.type());
      this.field.addEventListener("change", () => {
        if (this.field.value === this.text) this.announce("The merges start over");
      });
      return element("div", {}, made.element, element("p", { class: "tl-note" },
        "Type a text of your own: the merges start over."));
    }

    build_buttons() {
      this.forward = [button("Step", () => this.step(1)), button("Run 10", () => this.step(10))];
      this.backward = [button("Back", () => this.take_back(1)),
        button("Reset", () => this.take_back(this.merges.length))];
      const [[step, run], [back, reset]] = [this.forward, this.backward];
      this.reached = element("p", { class: "tl-reached" });
      this.refusal = element("p", { class: "tl-problem", role: "status" });
      return element("div", { class: "tl-steps" }, element("div",
        { class: "tl-buttons", role: "group", "aria-label": "Merges" },
        step, back, run, reset), this.reached, this.refusal);
    }

    build_chunks() {
      this.chunks = element("ul", { class: "tl-chunks tl-scrolls", tabindex: 0 });
      this.chunks_title = element("p", { class: "tl-label", id: `${this.id}-chunks` });
      this.chunks.setAttribute("aria-labelledby", this.chunks_title.id);
      const key = (kind, text) => [element("span", { class: `tl-key-box ${kind}` }), text];
      return element("div", {}, this.chunks_title, this.chunks,
        element("p", { class: "tl-note" }, ...key("tl-new", " made by the last merge, "),
          ...key("tl-next", " joined next. ␣ space, ↵ line break, "),
          element("span", { class: "tl-hex" }, "C3"), " a byte in hexadecimal, where it is no "
          + "visible character."));
    }

    build_pairs() {
      this.pairs = element("tbody");
      this.more = element("p", { class: "tl-note" });
      this.tie = element("p", { class: "tl-tie" });
      const header = ["Pair", "Count", "Note"].map((text) => element("th", { scope: "col" }, text));
      return element("div", { class: "tl-pair-list" }, element("table", { class: "tl-pairs" },
        element("caption", {}, "Most frequent pairs"),
        element("thead", {}, element("tr", {}, ...header)), this.pairs), this.more, this.tie);
    }

    build_merges() {
      const title = element("p", { class: "tl-label", id: `${this.id}-merges` },
        "Merges so far, with their ids");
      this.learned = element("ol", { class: "tl-merges tl-scrolls", tabindex: 0,
        "aria-labelledby": title.id });
      this.none = element("p", { class: "tl-note" });
      return element("div", { class: "tl-merge-list" }, title, this.none, this.learned);
    }

    build_chart() {
      this.chart = new Chart();
      return element("figure", { class: "tl-compression" },
        element("figcaption", {}, "Bytes per token after each merge"), this.chart.svg);
    }

    build_other() {
      const made = text_area(`${this.id}-other`, "Encode another text with these merges",
        OTHER_TEXT, 1);
      [this.other, this.other_problem, this.other_text] = [made.area, made.problem, OTHER_TEXT];
      this.other.addEventListener("input", () => this.type_other());
      this.encoded = element("ol", { class: "tl-encoded tl-scrolls", tabindex: 0,
        "aria-label": "Tokens and ids" });
      this.other.addEventListener("change", () => {
        this.live.textContent = this.encoded_size.textContent;
      });
      this.encoded_size = element("p", { class: "tl-note" });
      return element("div", {}, made.element, this.encoded, this.encoded_size);
    }
  }

  /* The words, and the merge that made them: none at first. */
  function state_of(words, merge) {
    const n_tokens = sum(words.map(({ tokens, count }) => tokens.length * count));
    return { words, merge, n_tokens };
  }

  // ---- The two texts ----------------------------------------------------------------------------

  /* What is wrong with a text, or "". */
  function problem_with(text, least) {
    const n_characters = [...text].length;
    if (n_characters < least) return "Needs at least one character.";
    if (n_characters > MOST.characters) {
      return `Needs at most ${plural(MOST.characters, "character")}, and this has `
        + `${grouped(n_characters)}.`;
    }
    try {
      bpe.utf8_bytes(text);
    } catch (error) {
      return `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
    }
    return "";
  }

  function text_area(id, label, text, rows) {
    const problem = element("p", { class: "tl-problem", id: `${id}-problem`, role: "status" });
    const area = element("textarea", { id, rows, spellcheck: "false", autocapitalize: "none",
      autocomplete: "off", "aria-describedby": problem.id });
    area.value = text;
    return { area, problem, element: element("div", {},
      element("label", { for: id }, label), area, problem) };
  }

  mount("bpe-stepper", (root, id) => new BPEStepper(root, id));
})();
