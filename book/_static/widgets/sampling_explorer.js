/* Sampling, live: choose what a trained model has read, set a sampler, see what it leaves of the
   model's probabilities, and draw.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/sampling_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/decoder.js"></script>
     <script defer src="../_static/widgets/bpe.js"></script>
     <script defer src="../_static/widgets/bpe_pieces.js"></script>
     <script defer src="../_static/widgets/sampling.js"></script>
     <script defer src="../_static/widgets/sampling_form.js"></script>
     <script defer src="../_static/widgets/sampling_table.js"></script>
     <script defer src="../_static/widgets/sampling_scores.js"></script>
     <script defer src="../_static/widgets/sampling_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="sampling-explorer"></div> */

(function () {
  "use strict";

  const {
    element, header, choices, button, grouped, written, mount, random_generator, sampling,
    bpe_pieces, percent,
    SamplerForm, TokenTable, token_box, scores, load_script, pauses,
  } = window.TransformerLessons;

  const MANY = 100; // draws at once
  const MODEL = ["follow_file.js", "follow_model.js", "python_small_weights.js"];

  class SamplingExplorer {
    constructor(root, id) {
      this.seed = 0;
      this.build(root, id);
      this.form.set(sampling.PLAIN);
      this.read(scores.prompts[1]);
    }

    /* The model has read `prompt`: its scores are those of the next token. */
    read(prompt) {
      const vocab_size = scores.tokens.length;
      this.history = prompt.history;
      this.logits = prompt.logits ?? sampling.read_scores(prompt.scores);
      this.before = sampling.probabilities(sampling.PLAIN, this.logits, []);
      const times = sampling.count_tokens(this.history, vocab_size);
      this.table.name(sampling.by_size(this.before), times);
      this.sample();
    }

    /* Fetch python-small, let it read the reader's text, and take its scores. */
    async read_own() {
      const text = this.own.value;
      if (!text) return this.say("Type at least one character.");
      try {
        this.say("python-small, 4.4 MB, is being read …");
        for (const name of MODEL) await load_script(name);
        const { read_page_model, TracedModel, weights } = window.TransformerLessons;
        this.file ??= await read_page_model(weights.python_small, pauses());
        const model = new TracedModel(this.file);
        const pause = pauses();
        const ids = this.file.tokenizer.encode(text).slice(-this.file.config.context_length);
        for (const id of ids) {
          model.push(id);
          await pause();
        }
        for (const input of this.prompts.querySelectorAll("input")) input.checked = false;
        this.read({ history: ids, logits: Array.from(model.logits(ids.length - 1)) });
        return this.say(`${bpe_pieces.plural(ids.length, "token")} read.`);
      } catch (error) {
        return this.say(`This text can't be read: ${error.message}.`);
      }
    }

    say(words) {
      this.own_state.textContent = words;
    }

    /* The sampler or the scores have changed: what was drawn belongs to another distribution. */
    sample() {
      const left = sampling.left_scores(this.form.sampler, this.logits, this.history);
      this.is_left = left.map((score) => score > -Infinity);
      this.after = sampling.probabilities(this.form.sampler, this.logits, this.history);
      this.table.show(this.before, this.after, this.is_left);
      this.summary.textContent = this.in_words();
      this.start_draws();
    }

    start_draws() {
      this.random = random_generator(this.seed);
      this.counts = Array(scores.tokens.length).fill(0);
      this.n_drawn = 0;
      this.show_draws(null);
    }

    draw(times) {
      let token = null;
      for (let i = 0; i < times; i += 1) {
        token = sampling.draw(this.after, this.random);
        this.counts[token] += 1;
      }
      this.n_drawn += times;
      this.show_draws(token);
      const last = `Drawn: ${bpe_pieces.said(scores.tokens[token])}.`;
      this.announce(times === 1 ? last : this.drawn_in_words());
    }

    use_next_seed() {
      this.seed += 1;
      this.start_draws();
      this.announce(this.drawn_in_words());
    }

    // ---- What the reader sees -----------------------------------------------------------------

    /* `last` is the token drawn last, or null. */
    show_draws(last) {
      this.table.show_draws(this.counts, this.n_drawn, this.after);
      this.drawn.textContent = this.drawn_in_words();
      const tokens = [...this.history, ...(last === null ? [] : [last])].map((token) =>
        scores.tokens[token]);
      const boxes = tokens.map((token, i) =>
        element("li", {}, token_box(token, i >= this.history.length)));
      this.prompt.replaceChildren(...boxes);
    }

    in_words() {
      const n_left = this.is_left.filter(Boolean).length;
      const kept = this.before.reduce((sum, p, i) => (this.is_left[i] ? sum + p : sum), 0);
      const [model, left] = [this.before, this.after].map(sampling.entropy);
      const [are, them] = n_left === 1 ? ["is", "it"] : ["are", "them"];
      const amount = n_left === this.before.length
        ? `All ${grouped(n_left)} tokens are left.`
        : `${grouped(n_left)} of ${grouped(this.before.length)} tokens ${are} left; the model `
          + `gives ${them} ${percent(kept)}.`;
      return `${amount} Entropy: the model ${written(model)} bits, what is left `
        + `${written(left)} bits, as much as ${written(2 ** left, 1)} equally likely tokens.`;
    }

    drawn_in_words() {
      const n_different = this.counts.filter((count) => count > 0).length;
      return this.n_drawn === 0 ? `Seed ${this.seed}: nothing drawn yet.`
        : `Seed ${this.seed}: ${bpe_pieces.plural(this.n_drawn, "token")} drawn, `
          + `${grouped(n_different)} different.`;
    }

    announce(text) {
      this.live.textContent = text;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      const vocab_size = scores.tokens.length;
      this.form = new SamplerForm(id, vocab_size, () => this.sample(), () =>
        this.announce(this.summary.textContent));
      this.table = new TokenTable(scores.tokens);
      this.prompt = element("ol", { class: "tl-prompt tl-scrolls", tabindex: 0,
        "aria-label": "Tokens read, and drawn" });
      this.summary = element("p", { class: "tl-summary" });
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("Sample the next token",
        `the scores of python-small, all ${grouped(vocab_size)}`);
      root.replaceChildren(heading, this.build_prompts(id), element("div", { class: "tl-columns" },
        this.build_own(id), this.prompt), this.form.element,
        element("div", { class: "tl-columns" }, this.table.element,
          element("div", {}, this.summary, this.build_draws(), this.build_legend())), this.live);
    }

    build_prompts(id) {
      this.prompts = choices(`${id}-prompt`, "What the model has read",
        scores.prompts.map((prompt) => [prompt, prompt.name]), (prompt) => {
          this.read(prompt);
          this.announce(this.summary.textContent);
          this.say("");
        }, scores.prompts[1]);
      return this.prompts;
    }

    build_own(id) {
      this.own = element("input", { type: "text", id: `${id}-own`, spellcheck: "false",
        autocapitalize: "none", autocomplete: "off", placeholder: "for i in" });
      this.own.addEventListener("keydown", ({ key }) => key === "Enter" && this.read_own());
      this.own_state = element("span", { class: "tl-note", role: "status" });
      return element("div", { class: "tl-run" }, element("label", { for: this.own.id },
        "or your own text"), this.own_state, this.own,
      button("Read it", () => this.read_own()));
    }

    build_legend() {
      const key = (kind) => element("span", { class: `tl-key tl-bar-${kind}`,
        "aria-hidden": "true" });
      return element("p", { class: "tl-note" }, key("model"), " the model’s probability, ",
        key("left"), " what the sampler leaves, ", key("drawn"), " share of the draws (in "
        + "brackets: draws expected). ×2: twice in the prompt, which the penalties look at.");
    }

    build_draws() {
      this.drawn = element("p", { class: "tl-drawn-note" });
      return element("div", {},
        element("div", { class: "tl-buttons" }, button("Draw a token", () => this.draw(1)),
          button(`Draw ${MANY}`, () => this.draw(MANY)),
          button("Start again", () => {
            this.start_draws();
            this.announce(this.drawn_in_words());
          }),
          button("Next seed", () => this.use_next_seed())),
        this.drawn,
        element("p", { class: "tl-note" }, "The same seed draws the same tokens here; the package "
          + "has another random generator."));
    }
  }

  // Without the script of the scores there is nothing to show: the static picture stays.
  if (scores) mount("sampling-explorer", (root, id) => new SamplingExplorer(root, id));
})();
