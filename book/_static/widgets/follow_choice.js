/* The last stages of the page "Follow a text through the model": norm, scores, choice, and all the
   numbers of a small model. See follow_stages.js. */

(function () {
  "use strict";

  const { element, written, grouped, value_slider, show_value, Dial, bpe_pieces, sampling,
    random_generator, follow } = window.TransformerLessons;
  const { number_text, percent, top, probabilities, size_of, Stage, Ledger, Chances, box,
    told } = follow;

  const SCORES = 8;
  const MOST_LISTED = 5000; // parameters: a model with no more is listed number by number

  // ---- Norm and scores -------------------------------------------------------------------------

  class Norm extends Stage {
    constructor(id) {
      super(id, "The final norm brings the row to size", [9]);
      this.ledger = new Ledger(`${id}-norm`, "The row before and after the norm",
        ["x", "norm(x)"]);
      this.element.append(this.ledger.element);
    }

    show({ model, trace, t, colours }) {
      const { norm, d_model: D, n_layers } = model.config;
      const x = trace[t].x[n_layers];
      const normed = model.normed(t);
      const [before, after] = [x, normed].map((row) => number_text(size_of(row)));
      this.shapes(["norm(x) (D)", D]);
      const mean = norm === "layer" ? "takes off the mean, then divides" : "divides";
      this.say.textContent = model.norm_scale === 0
        ? "A model this small does without norms: in training, they have been faded out."
        : `All that was added has given the row the size ${before}. The norm ${mean} by the size, `
          + `and then multiplies each number by a learned weight: the size is now ${after}.`;
      this.ledger.show([x, normed], colours);
    }
  }

  class Scores extends Stage {
    constructor(id) {
      super(id, "A score for every token there is", [10]);
      this.rows = Array.from({ length: SCORES }, () => element("tr"));
      this.curve = element("canvas", { class: "tl-curve", role: "img" });
      const heads = ["token", "id", "score", "probability", ""].map((text) =>
        (text ? element("th", { scope: "col" }, text) : element("td")));
      this.next = element("p", { class: "tl-note" });
      this.element.append(element("table", { class: "tl-scores" },
        element("caption", { class: "tl-spoken" }, "The highest scores"),
        element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...this.rows)),
      this.next);
    }

    show(view) {
      const { model, trace, t } = view;
      const { vocab_size: V, tie_embeddings } = model.config;
      const logits = model.logits(t);
      const p = probabilities(logits);
      const rank_of = (id) => logits.filter((logit) => logit > logits[id]).length + 1;
      this.shapes(["logits (V)", V]);
      const whose = tie_embeddings ? "the embedding's row of" : "a learned row for";
      this.say.textContent = "The score, or logit, of a token is the dot product of the row with "
        + `${whose} it. softmax makes probabilities of all ${grouped(V)} scores; these are the `
        + "highest.";
      top(logits, Math.min(SCORES, V)).forEach(([id, logit], i) => {
        const bar = element("span", { class: "tl-bar" });
        bar.style.width = `${100 * p[id]}%`;
        this.rows[i].replaceChildren(element("th", { scope: "row" }, told(view, id)),
          ...[`${id}`, written(logit), percent(p[id])].map((text) =>
            element("td", { class: "tl-n" }, text)), element("td", { class: "tl-track" }, bar));
      });
      if (t === trace.length - 1) {
        this.next.textContent = "This is the last token: the next one is chosen from these.";
      } else {
        const { token } = trace[t + 1];
        const rank = rank_of(token);
        this.next.replaceChildren("In the text, the next token is ", told(view, token),
          `: probability ${percent(p[token])}, place ${grouped(rank)} of ${grouped(V)}.`);
      }
    }
  }

  // ---- The choice ------------------------------------------------------------------------------

  const SLIDERS = {
    temperature: { label: "Temperature", min: 0.05, max: 2, step: 0.05 },
    top_p: { label: "Top-p", min: 0.01, max: 1, step: 0.01, idle: 1 },
    min_p: { label: "Min-p", min: 0, max: 1, step: 0.01, idle: 0 },
  };

  class Choice extends Stage {
    constructor(id, on_change) {
      super(id, "One is chosen", [17]);
      this.id = id;
      this.on_change = on_change;
      this.chances = new Chances();
      this.result = element("p", { class: "tl-result", "aria-live": "polite" });
      this.controls = element("div", { class: "tl-dials" });
      this.element.append(this.chances.element, this.result, this.controls);
      this.sliders = Object.fromEntries(Object.entries(SLIDERS).map(([key, options]) => {
        const made = value_slider({ ...options, id: `${id}-${key}` });
        made.input.addEventListener("input", on_change);
        made.input.addEventListener("keydown", (event) => event.stopPropagation());
        return [key, made];
      }));
      this.greedy = element("input", { type: "checkbox", id: `${id}-greedy` });
      this.greedy.addEventListener("change", on_change);
      this.seed = new Dial({ id: `${id}-seed`, label: "Seed", min: 0, max: 999 }, on_change);
      this.seed.set(0);
    }

    /* Start with the sampler's numbers; top-k's limit is the size of the vocabulary. */
    begin(vocab_size, sampler) {
      const slide = { min: 0, max: Math.log2(vocab_size), step: 0.25,
        from: (place) => Math.round(2 ** place), to: Math.log2 };
      this.top_k = new Dial({ id: `${this.id}-top-k`, label: `Top-k (${grouped(vocab_size)}: off)`,
        min: 1, max: vocab_size, slide }, this.on_change);
      this.top_k.set(sampler.top_k ?? vocab_size);
      this.vocab_size = vocab_size;
      this.greedy.checked = sampler.temperature === 0;
      for (const [key, made] of Object.entries(this.sliders)) {
        made.input.value = sampler[key] || SLIDERS[key].min;
      }
      const { temperature, top_p, min_p } = this.sliders;
      this.controls.replaceChildren(temperature.row, this.top_k.element, top_p.row, min_p.row,
        this.seed.element, element("p", { class: "tl-choices" }, element("label",
          { for: this.greedy.id }, this.greedy, "Greedy: always the most likely")));
    }

    get sampler() {
      const values = Object.fromEntries(Object.entries(this.sliders).map(([key, made]) =>
        [key, made.input.valueAsNumber]));
      const top_k = this.top_k.value === this.vocab_size ? null : this.top_k.value;
      const temperature = this.greedy.checked ? 0 : values.temperature;
      return { ...sampling.PLAIN, ...values, top_k, temperature };
    }

    /* What the sampler leaves of the last token's scores, and which token the draw takes. The n-th
       draw of a seed is always the same number: after "Back" the same token comes again. */
    choose(logits, n_drawn) {
      const { sampler } = this;
      const p = sampling.probabilities(sampler, Array.from(logits), []);
      const left = sampling.by_size(p).filter((id) => p[id] > 0).map((id) => [id, p[id]]);
      if (sampler.temperature === 0) return { left, random: null, token: left[0][0] };
      const next = random_generator(this.seed.value);
      for (let i = 0; i < n_drawn; i += 1) next();
      const random = next();
      let before = 0;
      const found = left.find(([, share]) => (before += share) > random) ?? left[0];
      return { left, random, token: found[0] };
    }

    show(view) {
      const { left, random, token } = view.chosen;
      const V = view.model.config.vocab_size;
      this.shapes(["probabilities (V)", V]);
      for (const [key, made] of Object.entries(this.sliders)) {
        const off = made.input.valueAsNumber === SLIDERS[key].idle ? " (off)" : "";
        show_value(made, `${made.input.valueAsNumber.toFixed(2)}${off}`);
        made.input.disabled = this.greedy.checked;
      }
      for (const { field, slider } of [this.top_k, this.seed]) {
        [field.disabled, slider.disabled] = [this.greedy.checked, this.greedy.checked];
      }
      this.say.textContent = "The sampler reshapes the probabilities after the last token and "
        + "drops the unlikely tokens. What is left is laid out on a line from 0 to 1; a random "
        + `number says which token is taken. ${grouped(left.length)} of ${grouped(V)} tokens `
        + `${left.length === 1 ? "is" : "are"} left.`;
      this.chances.show(left, random, token, (id) => box(view, id));
      const share = left.find(([id]) => id === token)[1];
      const drawn = random === null ? "The most likely token is "
        : `The random number is ${written(random, 3)}: it falls on `;
      this.result.replaceChildren(drawn, told(view, token), ` (${percent(share)}). `,
        "Write one puts it at the end of the text.");
    }
  }

  // ---- Every number of a small model -----------------------------------------------------------

  class AllNumbers extends Stage {
    constructor(id) {
      super(id, "Every number of the model", [10]);
      this.list = element("div", { class: "tl-all", tabindex: 0, role: "region",
        "aria-label": "All numbers of the model" });
      this.element.append(this.list);
    }

    /* Fits a model that is small enough to be written out. */
    begin(model, tokenizer) {
      this.element.hidden = model.n_parameters > MOST_LISTED;
      this.lines = new Map();
      this.list.replaceChildren(...(this.element.hidden ? [] : Object.entries(model.tensors).map(
        ([tensor, numbers]) => this.tensor(model, tokenizer, tensor, numbers))));
    }

    tensor(model, tokenizer, tensor, numbers) {
      const shape = model.shapes[tensor];
      const by_token = ["embedding.weight", "head.weight", "head.bias"].includes(tensor);
      const width = tensor === "head.bias" ? 1 : shape.at(-1);
      const n_rows = numbers.length / width;
      const lines = Array.from({ length: n_rows }, (_, i) => {
        const row = Array.from(numbers.subarray(i * width, (i + 1) * width),
          (x) => written(x).padStart(5));
        const line = element("span", {}, ...(by_token
          ? [element("b", {}, bpe_pieces.box(tokenizer.tokens[i] ?? "")), " "] : []),
        row.join(" "));
        if (by_token) this.lines.set(`${tensor}.${i}`, line);
        return line;
      });
      return element("div", {}, element("h3", {}, `${tensor} (${shape.join(", ")})`),
        element("div", { class: by_token ? "tl-by-token" : "" }, ...lines));
    }

    show({ model, trace, chosen: { token } }) {
      if (this.element.hidden) return;
      this.shapes(["parameters", model.n_parameters]);
      this.say.textContent = `These ${grouped(model.n_parameters)} numbers are all that training `
        + "has made, and all that was used above. The rows of the tokens in the text, and the row "
        + "of the one that is chosen next, are marked.";
      const used = new Set([...trace.map((entry) => `embedding.weight.${entry.token}`),
        `head.weight.${token}`, `head.bias.${token}`]);
      for (const [key, line] of this.lines) line.classList.toggle("tl-used", used.has(key));
    }
  }

  Object.assign(follow, { Norm, Scores, Choice, AllNumbers });
})();
