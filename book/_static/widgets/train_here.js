/* The first model learns in the page: a pattern that the reader types, the loss as it falls, what
   the model writes meanwhile, its attention and its embedding; and every step can be looked at again.

   A page needs these, in this order, wherever it wants the widget (any number of them):
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/train_here.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/decoder.js"></script>
     <script defer src="../_static/widgets/model_file.js"></script>
     <script defer src="../_static/widgets/schedule.js"></script>
     <script defer src="../_static/widgets/autograd.js"></script>
     <script defer src="../_static/widgets/training.js"></script>
     <script defer src="../_static/widgets/train_here_pictures.js"></script>
     <script defer src="../_static/widgets/train_here.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="train-here"></div> */

(function () {
  "use strict";

  const { FLUCTLIGHT, TRAINING, Tape, TrainableDecoder, PageTrainer, LossCurve, AttentionPicture,
    LetterPlane, initial_weights, random_windows, random_generator, sample, element, header, button,
    value_slider, show_value, checked_number, mount } = window.TransformerLessons;

  const START = { pattern: "ab", context_length: 16, learning_rate: 0.005, seed: 0 };
  const LIMITS = { bytes: 64, different: 16 };
  const SLICE_MS = 20; // of training between two looks at the page
  const N_WRITTEN = 48;

  class TrainHere {
    constructor(root, id) {
      this.id = id;
      this.build(root);
      this.restore();
    }

    // ---- The state: a run, all its weights, and the step that is shown ------------------------

    restore() {
      this.text.value = START.pattern;
      this.context.value = START.context_length;
      this.rate.value = START.learning_rate;
      this.seed.value = START.seed;
      this.mask.checked = true;
      this.begin();
    }

    /* A new run from new random weights, with what the fields say; false if they can't be used. */
    begin() {
      this.pause();
      const pattern = [...new TextEncoder().encode(this.text.value)];
      const seed = checked_number(this.seed, { min: 0, max: 999999, whole: true });
      const problem = problem_with(pattern)
        ?? (seed === null ? "The seed is a whole number from 0 to 999,999." : null);
      this.text.setAttribute("aria-invalid", problem_with(pattern) !== null);
      this.problem.textContent = problem ?? "";
      for (const part of [this.train_button, this.step_button]) part.disabled = problem !== null;
      if (problem !== null) return;
      const config = { ...FLUCTLIGHT, context_length: Number(this.context.value) };
      const settings = { learning_rate: Number(this.rate.value), is_causal: this.mask.checked };
      settings.min_learning_rate = settings.learning_rate / 10;
      this.pattern = pattern;
      this.settings = settings;
      this.model = new TrainableDecoder(config, initial_weights(config, seed));
      this.trainer = new PageTrainer(this.model, settings);
      const n_repeats = Math.ceil(256 / pattern.length);
      const tokens = Array.from({ length: n_repeats }, () => pattern).flat();
      const { context_length } = config;
      this.batches = random_windows(tokens, context_length, TRAINING.batch_size, seed);
      this.losses = [];
      this.snapshots = [this.snapshot()];
      this.curve.begin(pattern, TRAINING.steps);
      this.show(0);
    }

    train() {
      if (this.is_over()) this.begin();
      this.show(this.losses.length);
      this.train_button.textContent = "Pause";
      const slice = () => {
        const end = performance.now() + SLICE_MS;
        while (performance.now() < end && !this.is_over()) this.take_step();
        if (!this.moves_little || this.is_over()) this.show(this.losses.length);
        this.running = requestAnimationFrame(slice);
        if (this.is_over()) this.finish();
      };
      this.running = requestAnimationFrame(slice);
    }

    take_step() {
      const [inputs, targets] = this.batches.next().value;
      this.losses.push(this.trainer.step(inputs, targets));
      this.snapshots.push(this.snapshot());
    }

    step() {
      this.pause();
      if (!this.is_over()) this.take_step();
      this.show(this.losses.length);
      this.announce(this.state.textContent);
    }

    pause() {
      cancelAnimationFrame(this.running);
      this.running = null;
      this.train_button.textContent = "Train";
    }

    finish() {
      this.pause();
      this.train_button.textContent = "Train again";
      this.announce(`${this.state.textContent}. It writes ${this.output.textContent}`);
    }

    is_over() {
      return this.losses.length >= TRAINING.steps;
    }

    snapshot() {
      return [...this.model.parameters.values()].map(({ data }) => Float32Array.from(data));
    }

    /* The model as it was after `n` steps. */
    model_at(n) {
      const names = [...this.model.parameters.keys()];
      const weights = Object.fromEntries(
        names.map((name, i) => [name, { data: this.snapshots[n][i] }]));
      return new TrainableDecoder(this.model.config, weights);
    }

    // ---- What the reader sees -----------------------------------------------------------------

    show(n) {
      this.shown = n;
      const model = this.model_at(n);
      this.curve.show(this.losses, n);
      this.scrub.input.max = Math.max(this.losses.length, 1);
      this.scrub.input.value = n;
      this.scrub.input.disabled = this.losses.length === 0;
      show_value(this.scrub, `step ${n} of ${TRAINING.steps}`);
      const loss = this.losses[n - 1] ?? this.losses[0];
      this.state.textContent = n === 0 ? "Nothing is learned yet"
        : `Loss ${loss.toFixed(3)} after ${n} ${n === 1 ? "step" : "steps"}`;
      this.heading.textContent = n === 0 ? "Untrained, it continues with noise"
        : "It continues the pattern";
      this.show_writing(model);
      this.show_inside(model);
    }

    /* The same random numbers at every step: what changes is the model alone. */
    show_writing(model) {
      const random = random_generator(1);
      const { context_length } = model.config;
      const bytes = this.pattern.slice(-context_length);
      const n_given = bytes.length;
      while (bytes.length < n_given + N_WRITTEN) {
        const window = bytes.slice(-context_length);
        const { logits } = model.forward(new Tape(), [window], this.settings.is_causal);
        bytes.push(sample(Array.from(logits.data.slice(-logits.columns)), 1, random));
      }
      this.given.textContent = readable(bytes.slice(0, n_given));
      this.output.textContent = readable(bytes.slice(n_given));
    }

    show_inside(model) {
      const { context_length: T, n_heads } = model.config;
      const window = Array.from({ length: T }, (_, i) => this.pattern[i % this.pattern.length]);
      const { attention } = model.forward(new Tape(), [window], this.settings.is_causal);
      for (const [i, picture] of this.heads.entries()) {
        const [layer, head] = [Math.floor(i / n_heads), i % n_heads];
        picture.show(attention[layer].subarray(head * T * T, (head + 1) * T * T), T);
      }
      const letters = [...new Set(this.pattern)];
      for (const plane of this.planes) {
        plane.show(letters, model.parameters.get("embedding.weight"));
      }
    }

    announce(text) {
      this.live.textContent = text;
    }

    save() {
      const model = this.model_at(this.shown);
      const blob = new Blob([`${JSON.stringify(model.to_json())}\n`], { type: "application/json" });
      const link = element("a", { href: URL.createObjectURL(blob), download: "my_model.json" });
      link.click();
      URL.revokeObjectURL(link.href);
      this.announce("Saved as my_model.json.");
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root) {
      this.moves_little = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("Train a transformer here",
        "2,656 parameters · 2 layers of 2 heads · in this page");
      const columns = element("div", { class: "tl-training" },
        this.build_curve(), this.build_inside());
      root.replaceChildren(heading, this.build_controls(), columns, this.build_settings(),
        this.live);
    }

    build_controls() {
      this.text = element("input", { type: "text", id: `${this.id}-text`, autocomplete: "off",
        autocapitalize: "none", spellcheck: "false", dir: "auto",
        "aria-describedby": `${this.id}-problem` });
      this.text.addEventListener("input", () => this.begin());
      this.train_button = button("Train", () => (this.running ? this.pause() : this.train()),
        "tl-primary");
      this.step_button = button("One step", () => this.step());
      this.problem = element("p", { class: "tl-problem", id: `${this.id}-problem`, role: "status" });
      return element("div", { class: "tl-run" },
        element("label", { for: this.text.id }, "A pattern to learn"), this.text,
        this.train_button, this.step_button, button("Reset", () => this.restore()), this.problem);
    }

    build_curve() {
      this.curve = new LossCurve();
      this.scrub = value_slider({ id: `${this.id}-step`, label: "Look back", min: 0, max: 1, step: 1 });
      this.scrub.input.addEventListener("input", () => {
        if (this.running) this.pause();
        this.show(this.scrub.input.valueAsNumber);
      });
      this.state = element("p", { class: "tl-state" });
      this.heading = element("p", { class: "tl-label" });
      this.given = element("bdi", { class: "tl-given" });
      this.output = element("bdi");
      return element("div", {},
        this.state, this.curve.element, this.scrub.row,
        this.heading,
        element("p", { class: "tl-written" }, this.given, this.output));
    }

    build_inside() {
      this.planes = [new LetterPlane(0, 1), new LetterPlane(2, 3)];
      this.heads = Array.from({ length: FLUCTLIGHT.n_layers * FLUCTLIGHT.n_heads }, (_, i) =>
        new AttentionPicture(Math.floor(i / FLUCTLIGHT.n_heads), i % FLUCTLIGHT.n_heads));
      return element("div", { class: "tl-inside" },
        element("p", { class: "tl-label" }, "The four numbers of each letter"),
        element("div", { class: "tl-pictures" }, ...this.planes.map((plane) => plane.element)),
        element("p", { class: "tl-label" }, "Where each letter looks (layer.head)"),
        element("div", { class: "tl-pictures tl-small" }, ...this.heads.map((h) => h.element)));
    }

    build_settings() {
      const choice = (name, label, values) => {
        const options = values.map((value) => element("option", { value }, String(value)));
        const select = element("select", { id: `${this.id}-${name}` }, ...options);
        select.addEventListener("change", () => this.begin());
        const row = element("div", {}, element("label", { for: select.id }, label), select);
        return [select, row];
      };
      const [rate, rate_row] = choice("rate", "Learning rate", [0.0005, 0.005, 0.05, 0.5]);
      const [context, context_row] = choice("context", "Context", [2, 4, 8, 16]);
      [this.rate, this.context] = [rate, context];
      this.seed = element("input", { type: "number", id: `${this.id}-seed`, min: 0, step: 1 });
      this.seed.addEventListener("input", () => this.begin());
      this.mask = element("input", { type: "checkbox", id: `${this.id}-mask` });
      this.mask.addEventListener("change", () => this.begin());
      return element("div", { class: "tl-settings" }, rate_row, context_row,
        element("div", {}, element("label", { for: this.seed.id }, "Seed"), this.seed),
        element("div", { class: "tl-check" }, this.mask,
          element("label", { for: this.mask.id }, "Hide the future")),
        button("Save the weights", () => this.save()));
    }
  }

  /* Why these bytes can't be learned, or null. */
  function problem_with(bytes) {
    if (bytes.length === 0) return "Type at least one character.";
    if (bytes.length > LIMITS.bytes) {
      return `${bytes.length} bytes are too many: the pattern has at most ${LIMITS.bytes}.`;
    }
    const n_different = new Set(bytes).size;
    if (n_different <= LIMITS.different) return null;
    return `${n_different} different bytes are too many: four numbers tell ${LIMITS.different} apart.`;
  }

  /* Bytes as text, with a dot for what is no character or has no shape. */
  function readable(bytes) {
    const text = new TextDecoder().decode(Uint8Array.from(bytes));
    return text.replace(/[\ufffd\p{Cc}\p{Cf}]/gu, "·");
  }

  mount("train-here", (root, id) => new TrainHere(root, id));
})();
