/* The first stages of the page "Follow a text through the model": tokens, rows, blocks. Each has an
   element, and show(view) fills it with the numbers of one position.

   A view is { model, tokenizer, trace, t, n_typed, n_forgotten, work, chosen, colours }: `trace[t]`
   is what the model has computed for the token that is followed, `chosen` what comes next. */

(function () {
  "use strict";

  const { element, written, grouped, bpe_pieces, follow } = window.TransformerLessons;
  const { spoken, percent, top, probabilities, paint, largest_of, Ledger, Heads } = follow;

  const LESSONS = {
    2: "02_bytes", 3: "03_bpe", 5: "05_embeddings_and_positions", 6: "06_rope", 7: "07_attention",
    8: "08_fast_attention", 9: "09_norms_and_feedforward", 10: "10_the_whole_model",
    17: "17_sampling", 18: "18_kv_cache", 24: "24_looking_inside",
  };
  const GUESSES = 3; // shown after each block

  const boxes = new WeakMap(); // of each tokenizer, the boxes that have been made

  /* A token in its box; of many spaces only their number is shown. */
  function box({ tokenizer }, id) {
    if (!boxes.has(tokenizer)) boxes.set(tokenizer, new Map());
    const made = boxes.get(tokenizer);
    if (!made.has(id)) {
      const token = tokenizer.tokens[id] ?? "";
      made.set(id, /^ {4,}$/.test(token)
        ? element("span", { class: "tl-box" }, `␣×${token.length}`)
        : bpe_pieces.box(token, tokenizer.is_special(id) ? "tl-special" : ""));
    }
    return made.get(id).cloneNode(true);
  }

  const name = (view, id) => (view.tokenizer.is_special(id) ? "end of text"
    : spoken(view.tokenizer.tokens[id] ?? ""));
  const told = (view, id) => bpe_pieces.told(name(view, id), box(view, id));
  const count = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;

  /* What all stages share: a heading, the shape in the book's letters, lessons, a sentence. */
  class Stage {
    constructor(id, title, lessons) {
      this.shape = element("p", { class: "tl-shape" });
      this.say = element("p", { class: "tl-say" });
      const links = lessons.map((n) => element("a", { href: `../notebooks/${LESSONS[n]}.html` },
        `lesson ${n}`));
      this.element = element("section", { class: "tl-stage", id: `${id}`,
        "aria-labelledby": `${id}-title` },
      element("div", { class: "tl-head" }, element("h2", { id: `${id}-title` }, title),
        element("p", { class: "tl-links" }, ...links), this.shape), this.say);
    }

    shapes(...parts) {
      this.shape.replaceChildren(...parts.map(([letters, ...sizes]) => element("span", {},
        `${letters} = (${sizes.map(grouped).join(", ")}${sizes.length === 1 ? ",)" : ")"}`)));
    }
  }

  // ---- Tokens and ids --------------------------------------------------------------------------

  class Tokens extends Stage {
    constructor(id, on_follow) {
      super(id, "Tokens and their ids", [2, 3]);
      this.on_follow = on_follow;
      this.made = [];
      this.list = element("div", { class: "tl-pieces", role: "radiogroup", dir: "ltr",
        "aria-label": "The token that is followed" });
      this.list.addEventListener("keydown", (event) => this.move(event));
      this.about = element("p", { class: "tl-note" });
      this.element.append(this.about, this.list);
    }

    show(view) {
      const { trace, t, model, tokenizer, n_forgotten } = view;
      const V = model.config.vocab_size;
      this.shapes(["ids (T)", trace.length]);
      const kinds = tokenizer.kind === "bytes" ? "A byte is a token here, and its value is its id."
        : `Each is one of the ${grouped(V)} that the tokenizer has learned, and its place among `
          + "them is its id.";
      const n_tokens = trace.length + n_forgotten;
      this.say.textContent = `The text is cut into ${count(n_tokens, "piece")}, called `
        + `${n_tokens === 1 ? "a token" : "tokens"}. ${kinds} From here on the model sees only `
        + "these numbers. Choose a token to follow it.";
      const had_focus = this.list.contains(document.activeElement);
      trace.forEach(({ token }, i) => {
        const old = this.made[i];
        if (old?.token !== token || old.tokenizer !== tokenizer) this.make(view, i);
        this.made[i].button.setAttribute("aria-checked", i === t);
        this.made[i].button.tabIndex = i === t ? 0 : -1;
        this.made[i].button.classList.toggle("tl-written", i >= view.n_typed);
      });
      for (const gone of this.made.splice(trace.length)) gone.button.remove();
      const chosen = this.made[t].button;
      if (had_focus) chosen.focus();
      this.list.scrollTop = chosen.offsetTop + chosen.offsetHeight - this.list.clientHeight + 6;
      this.describe(view);
    }

    make(view, i) {
      const { token } = view.trace[i];
      const made = element("button", { type: "button", role: "radio" },
        bpe_pieces.told(`${name(view, token)}, id`, box(view, token)),
        element("span", { class: "tl-id" }, `${token}`));
      made.addEventListener("click", () => this.on_follow(i));
      if (this.made[i]) this.made[i].button.replaceWith(made);
      else this.list.append(made);
      this.made[i] = { token, button: made, tokenizer: view.tokenizer };
    }

    describe(view) {
      const { trace, t, n_forgotten, tokenizer, model } = view;
      const { token } = trace[t];
      const bytes = [...tokenizer.tokens[token] ?? ""].map((byte) =>
        byte.charCodeAt(0).toString(16).padStart(2, "0"));
      const where = t === trace.length - 1 ? ", the last one: from it comes the next token" : "";
      const forgotten = n_forgotten ? ` The first ${count(n_forgotten, "token")} of the text are `
        + `out of sight: this model sees at most ${grouped(model.config.context_length)}.` : "";
      this.about.replaceChildren("Followed: ", told(view, token), ` at position ${t}${where}. `
        + `Its bytes: ${bytes.join(" ")}.${forgotten}`);
    }

    move(event) {
      const last = this.made.length - 1;
      const at = this.made.findIndex(({ button: made }) => made === document.activeElement);
      const targets = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1,
        Home: 0, End: last };
      const is_other = event.ctrlKey || event.altKey || event.metaKey;
      if (!Object.hasOwn(targets, event.key) || is_other) return;
      event.preventDefault();
      event.stopPropagation(); // the book's own arrow keys turn the page
      this.on_follow(Math.min(Math.max(targets[event.key], 0), last));
    }
  }

  // ---- Rows -----------------------------------------------------------------------------------

  class Rows extends Stage {
    constructor(id) {
      super(id, "Each id picks a row of numbers", [5, 6]);
      this.canvas = element("canvas", { class: "tl-matrix", role: "img" });
      this.ledger = new Ledger(`${id}-row`, "The row of the token that is followed", ["x"]);
      this.frame = element("div", { class: "tl-frame" }, this.canvas);
      this.element.append(this.frame, this.ledger.element, element("p", { class: "tl-note" },
        "The slider reads out one number. The size of a row is the root of the mean of its "
        + "squares."));
    }

    show({ model, trace, t, colours }) {
      const { d_model: D, position, vocab_size } = model.config;
      const rows = trace.map(({ x }) => x[0]);
      this.shapes(["embedding (V, D)", vocab_size, D], ["x (T, D)", rows.length, D]);
      const where = { rope: "Nothing here says where a token stands: inside attention, RoPE turns "
        + "queries and keys by their position.", none: "Nothing says where a token stands.",
      learned: "The row of its position is added.",
      sinusoidal: "Waves of its position are added." };
      this.say.textContent = `The embedding is a table with ${count(D, "number")} for each token, `
        + `learned in training. Here are the rows that this text picks; the frame is around the `
        + `one we follow. Colour is sign, strength is size. ${where[position]}`;
      const most = largest_of(rows);
      paint(this.canvas, rows.length, D, colours, (row, i) => rows[row][i] / most);
      this.frame.style.setProperty("--tl-top", `${(100 * t) / rows.length}%`);
      this.frame.style.setProperty("--tl-high", `${100 / rows.length}%`);
      this.canvas.setAttribute("aria-label",
        `${rows.length} rows of ${D} numbers as colours, ${written(-most)} to ${written(most)}`);
      this.ledger.show([rows[t]], colours);
    }
  }

  // ---- Blocks ---------------------------------------------------------------------------------

  class Blocks extends Stage {
    constructor(id) {
      super(id, "Block after block, the row becomes a guess", [7, 8, 9, 10, 24]);
      this.id = id;
      this.layer = null; // the block that is looked into; null: the last
      this.lens = element("tbody");
      this.heads = new Heads(() => this.look());
      this.title = element("h3", {});
      this.looks = element("p", { class: "tl-looks", dir: "ltr" });
      this.words = element("p", { class: "tl-note", "aria-live": "polite" });
      this.ledger = new Ledger(`${id}-added`, "What the block adds", ["x", "+ attention", "+ MLP",
        "= x"]);
      this.cache = element("p", { class: "tl-note" });
      const lens = element("table", { class: "tl-lens" },
        element("caption", {}, "If the model ended here, the next token would be …"), this.lens);
      this.element.append(element("div", { class: "tl-two" }, element("div", {}, lens),
        element("div", {}, this.title, this.heads.element, this.words, this.looks)),
      this.ledger.element, this.cache);
    }

    show(view) {
      const { model, trace, t } = view;
      const { n_layers, n_heads: H, d_model: D } = model.config;
      const T = trace.length;
      this.view = view;
      if (this.built_for !== model.tensors) {
        this.built_for = model.tensors;
        this.build(n_layers);
        this.heads.head = clearest(trace[t].weights[this.layer]);
      }
      this.shapes(["x (T, D)", T, D], ["weights (H, T, T)", H, T, T]);
      const blocks = n_layers === 1 ? "The block" : `Each of the ${n_layers} blocks`;
      this.say.textContent = `${blocks} adds `
        + "twice to the row: attention fetches from earlier tokens, then the MLP works on what is "
        + "there. At first the row knows only its own token. Read after each block, it shows how "
        + "the guess forms. Choose a block, point at a head.";
      for (let depth = 0; depth <= n_layers; depth += 1) {
        const p = probabilities(model.logits(t, depth));
        const guesses = top(p, GUESSES).map(([id, share]) => this.guess(id, share));
        this.cells[depth].replaceChildren(...guesses);
      }
      this.show_block();
      const kept = 2 * n_layers * model.n_kv_heads * model.head_dim;
      this.cache.replaceChildren("Kept for the next token: keys and values of "
        + `${count(T, "token")}, 2 · L · K · T · d = ${grouped(kept * T)} numbers, the `,
      element("a", { href: `../notebooks/${LESSONS[18]}.html` }, "KV cache"), `. ${view.work}`);
    }

    guess(id, share) {
      const made = element("td", {}, element("div", {}, told(this.view, id),
        element("span", { class: "tl-share" }, percent(share))));
      made.style.setProperty("--tl-share", `${100 * share}%`);
      return made;
    }

    build(n_layers) {
      this.layer = n_layers - 1;
      this.cells = Array.from({ length: n_layers + 1 }, () => element("tr"));
      this.radios = this.cells.slice(1).map((_, layer) => {
        const input = element("input", { type: "radio", name: `${this.id}-block`,
          id: `${this.id}-block-${layer}` });
        input.checked = layer === this.layer;
        input.addEventListener("change", () => {
          this.layer = layer;
          this.show_block();
        });
        input.addEventListener("keydown", (event) => event.stopPropagation());
        return input;
      });
      this.lines = this.cells.map((cells, depth) => {
        const head = depth === 0 ? "no block" : element("label",
          { for: `${this.id}-block-${depth - 1}` }, this.radios[depth - 1], `block ${depth - 1}`);
        const line = element("tr", {}, element("th", { scope: "row" }, head));
        this.cells[depth] = { replaceChildren: (...guesses) =>
          line.replaceChildren(line.firstChild, ...guesses) };
        return line;
      });
      this.lens.replaceChildren(...this.lines);
    }

    show_block() {
      const { trace, t, colours } = this.view;
      const { x, attention, mlp } = trace[t];
      this.lines.forEach((line, depth) =>
        line.classList.toggle("tl-open", depth === this.layer + 1));
      this.title.textContent = `Inside block ${this.layer}: where its heads look`;
      this.heads.show(trace, this.layer, colours);
      this.ledger.show([x[this.layer], attention[this.layer], mlp[this.layer], x[this.layer + 1]],
        colours);
      this.look();
    }

    /* Where one head looks from the followed token: tokens shaded by weight, and a sentence. */
    look() {
      const { view, layer } = this;
      const { model, trace, t } = view;
      const { head } = this.heads;
      const weights = trace[t].weights[layer][head];
      const [[best, share]] = top(weights, 1);
      const score = model.scores(t, layer, head)[best];
      const back = best === t ? "itself" : `${t - best} back`;
      this.words.replaceChildren(`Head ${head}: `, told(view, trace[t].token), " looks most at ",
        told(view, trace[best].token), ` (${back}): weight ${written(share)}, from the score `
        + `q\u00a0·\u00a0k\u00a0/\u00a0√d\u00a0=\u00a0${written(score)}.`);
      const first = Math.max(t - 79, 0);
      this.looks.replaceChildren(...(first > 0 ? ["… "] : []),
        ...trace.slice(first, t + 1).map(({ token }, i) => {
          const weight = weights[first + i];
          const made = element("span", { class: "tl-looked", title: written(weight, 3),
            "aria-hidden": "true" }, box(view, token));
          made.style.setProperty("--tl-weight", Math.sqrt(weight).toFixed(2));
          return made;
        }));
      const there = this.looks.children[best - first]; // may be too far back to be shown
      this.looks.scrollTop = there ? there.offsetTop - 24 : 0;
    }
  }

  /* The head with the largest weight on an earlier token that is not the first of the text. */
  function clearest(weights) {
    const most = weights.map((row) => Math.max(0, ...row.subarray(1, row.length - 1)));
    return most.indexOf(Math.max(...most));
  }

  Object.assign(follow, { Stage, Tokens, Rows, Blocks, box, told, name, count });
})();
