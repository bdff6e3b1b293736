/* The first model, live in the page: type bytes, watch the next-byte probabilities and what every
   head looks at, and let the model continue.

   A page needs these, in this order, wherever it wants the widget (any number of them):
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/first_model.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/decoder.js"></script>
     <script defer src="../_static/widgets/model_file.js"></script>
     <script defer src="../_static/widgets/attention_grid.js"></script>
     <script defer src="../_static/widgets/first_model_weights.js"></script>
     <script defer src="../_static/widgets/first_model.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="first-model"></div> */

(function () {
  "use strict";

  const { Decoder, AttentionGrid, read_model, read_json, softmax, argmax, sample,
    random_generator, element, button, header, value_slider, show_value, mount, byte_label,
    byte_name } = window.TransformerLessons;

  const START = { text: "ab", temperature: 1, seed: 0 };
  const SHOWN = { candidates: 5, grid: 16, forgotten: 4, generated: 64 };
  const PLAY = { pause_ms: 400, most_bytes: 256 };

  const percent = (p) => (p > 0 && p < 0.0005 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`);
  const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  class FirstModel {
    constructor(root, shipped, id) {
      this.shipped = shipped;
      this.id = id;
      this.use(shipped);
      this.build(root);
      this.start();
    }

    // ---- The state: a model, the bytes typed, the bytes generated, temperature, randomness ----

    use(file) {
      const read = read_model(file);
      const { vocab_size, n_layers, n_heads, context_length } = read.config;
      if (vocab_size !== 256) throw new Error(`its vocabulary is ${vocab_size}, not the 256 bytes`);
      this.model = new Decoder(read);
      this.about_text = [plural(read.n_parameters, "parameter"), plural(n_layers, "layer"),
        `${plural(n_heads, "head")} each`, `sees ${plural(context_length, "byte")}`].join(" · ");
    }

    start() {
      this.pause();
      this.random = random_generator(START.seed);
      this.text.value = START.text;
      this.slider.input.value = START.temperature;
      this.show_model();
      this.show_temperature();
      this.type();
    }

    reset() {
      this.start();
      this.announce("Reset.");
    }

    type() {
      this.pause();
      this.typed = [...new TextEncoder().encode(this.text.value)];
      this.generated = [];
      this.run();
    }

    /* One pass through the model, over as many bytes as it sees. */
    run() {
      const bytes = [...this.typed, ...this.generated];
      this.window = bytes.slice(-this.model.config.context_length);
      this.forgotten = bytes.slice(0, bytes.length - this.window.length);
      const result = this.window.length ? this.model.forward(this.window) : null;
      this.logits = result && result.logits.at(-1);
      this.show_bytes();
      this.show_candidates();
      this.show_attention(result?.attention);
    }

    step(choose) {
      const byte = choose(this.logits);
      this.generated.push(byte);
      this.run();
      return byte;
    }

    sampled(logits) {
      return sample(logits, this.temperature, this.random);
    }

    play() {
      this.playing = setInterval(() => {
        this.step((logits) => this.sampled(logits));
        if (this.generated.length >= PLAY.most_bytes) this.pause();
      }, PLAY.pause_ms);
      this.play_button.textContent = "Pause";
      this.announce("Playing.");
    }

    pause() {
      if (!this.playing) return;
      clearInterval(this.playing);
      this.playing = null;
      this.play_button.textContent = "Play";
      this.announce(`Paused. Generated: ${this.generated.map(byte_name).join(" ")}`);
    }

    // ---- What the reader sees -----------------------------------------------------------------

    show_model() {
      const { n_layers, n_heads } = this.model.config;
      this.about.textContent = this.about_text;
      this.grids = Array.from({ length: n_layers }, (_, layer) =>
        Array.from({ length: n_heads }, (_, head) => new AttentionGrid(
          `Layer ${layer + 1}, head ${head + 1}`, `${this.id}-head-${layer}-${head}`)));
      this.heads.replaceChildren(...this.grids.flat().map((grid) => grid.element));
    }

    show_temperature() {
      this.temperature = this.slider.input.valueAsNumber;
      show_value(this.slider, this.temperature.toFixed(2));
    }

    show_bytes() {
      const forgotten = this.forgotten.slice(-SHOWN.forgotten);
      const n_typed = this.typed.length - this.forgotten.length;
      this.tiles.replaceChildren(
        ...forgotten.map((byte) => tile(byte, "tl-forgotten", "forgotten")),
        ...this.window.map((byte, i) =>
          (i < n_typed ? tile(byte, "tl-typed") : tile(byte, "tl-generated", "generated"))));
      const n_bytes = this.window.length + this.forgotten.length;
      const part = this.forgotten.length ? `the last ${this.window.length} of ` : "";
      this.note.textContent = n_bytes
        ? `The model sees ${part}${plural(n_bytes, "byte")}.` : "Type at least one byte.";
      const hidden = this.generated.length > SHOWN.generated ? "…" : "";
      const shown = Uint8Array.from(this.generated.slice(-SHOWN.generated));
      const text = new TextDecoder().decode(shown).replaceAll("\n", "↵");
      this.output.textContent = hidden + text || "nothing yet";
      this.output.classList.toggle("tl-empty", !text);
    }

    show_candidates() {
      const probabilities = this.logits ? softmax(this.logits, this.temperature) : [];
      const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
      for (const [place, row] of this.candidates.entries()) {
        const byte = order[place];
        row.hidden = byte === undefined;
        if (row.hidden) continue;
        row.cells[0].replaceChildren(...tile_text(byte));
        row.cells[1].firstChild.style.width = `${100 * probabilities[byte]}%`;
        row.cells[2].textContent = percent(probabilities[byte]);
      }
      for (const button of this.step_buttons) button.disabled = !this.logits;
    }

    show_attention(attention) {
      this.attention.classList.toggle("tl-blank", !attention);
      if (!attention) return;
      const first = Math.max(this.window.length - SHOWN.grid, 0);
      const shown = this.window.slice(first);
      for (const [layer, grids] of this.grids.entries()) {
        for (const [head, grid] of grids.entries()) {
          const pattern = attention[layer][head].slice(first).map((row) => row.slice(first));
          grid.update(pattern, shown, first + 1);
        }
      }
    }

    announce(text) {
      this.live.textContent = text;
    }

    announce_byte(byte) {
      this.announce(`Generated ${byte_name(byte)}.`);
    }

    // ---- The reader's own model ---------------------------------------------------------------

    async load(input) {
      const [file] = input.files;
      if (!file) return;
      try {
        this.use(await read_json(file));
        this.show_model();
        this.type();
        this.message.textContent = `${file.name} is loaded: ${this.about_text}.`;
      } catch (error) {
        const same = "The model on the page is the same as before.";
        this.message.textContent = `${file.name} was not loaded: ${error.message}. ${same}`;
      }
      input.value = ""; // so that the same file can be chosen again
    }

    return_to_shipped() {
      this.use(this.shipped);
      this.show_model();
      this.type();
      this.message.textContent = `The shipped model is in use: ${this.about_text}.`;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root) {
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("The model, live", "");
      this.about = heading.lastChild;
      root.replaceChildren(heading, this.build_text(), this.build_bytes(),
        element("div", { class: "tl-columns" }, this.build_candidates(), this.build_controls()),
        this.build_attention(), this.build_files(), this.live);
    }

    build_text() {
      this.text = element("input", { type: "text", id: `${this.id}-text`, autocomplete: "off",
        autocapitalize: "none", spellcheck: "false" });
      this.text.addEventListener("input", () => this.type());
      const next = button("Next byte", () =>
        this.announce_byte(this.step((logits) => this.sampled(logits))), "tl-primary");
      const likeliest = button("Most likely byte", () => this.announce_byte(this.step(argmax)));
      this.play_button = button("Play", () => (this.playing ? this.pause() : this.play()));
      this.step_buttons = [next, likeliest, this.play_button];
      return element("div", { class: "tl-run" }, element("label", { for: this.text.id }, "Text"),
        this.text, ...this.step_buttons, button("Reset", () => this.reset()));
    }

    build_bytes() {
      this.tiles = element("ol", { class: "tl-tiles", "aria-label": "Bytes" });
      this.note = element("p", { class: "tl-note" });
      return element("div", { class: "tl-bytes" }, this.tiles, this.note);
    }

    build_candidates() {
      const headers = element("tr", {}, ...["Byte", "", "Probability"].map((text) =>
        (text ? element("th", { scope: "col" }, text) : element("td"))));
      this.candidates = Array.from({ length: SHOWN.candidates }, () => element("tr", {},
        element("th", { scope: "row" }),
        element("td", { class: "tl-track" }, element("span", { class: "tl-bar" })),
        element("td", { class: "tl-probability" })));
      return element("table", { class: "tl-candidates" },
        element("caption", {}, "Likeliest next bytes"),
        element("thead", {}, headers), element("tbody", {}, ...this.candidates));
    }

    build_controls() {
      this.slider = value_slider({ id: `${this.id}-temperature`, label: "Temperature",
        min: 0.05, max: 2, step: 0.05 });
      this.slider.input.addEventListener("input", () => {
        this.show_temperature();
        this.show_candidates();
      });
      this.output = element("p", { class: "tl-output" });
      return element("div", {}, this.slider.row,
        element("p", { class: "tl-note" }, "Low: the likeliest byte wins. High: others do too."),
        element("p", { class: "tl-label" }, "Generated"), this.output);
    }

    build_attention() {
      const scale = element("span", { class: "tl-scale", "aria-hidden": "true" });
      this.heads = element("div", { class: "tl-heads" });
      const legend = element("p", { class: "tl-note" },
        element("b", { class: "tl-label" }, "Attention"), " Rows look at columns: 0 ",
        scale, " 1. Point at a square, or use the arrow keys, for its weight.");
      this.attention = element("div", {}, legend, this.heads);
      return this.attention;
    }

    build_files() {
      const input = element("input", { type: "file", id: `${this.id}-file`,
        accept: ".json,application/json" });
      input.addEventListener("change", () => this.load(input));
      this.message = element("p", { class: "tl-message", role: "status" });
      return element("div", { class: "tl-files" },
        element("label", { for: input.id }, "Load your own model"), input,
        button("Return to the shipped model", () => this.return_to_shipped()), this.message);
    }
  }

  /* A byte's character above its number; a byte without a character has a dot there. */
  function tile_text(byte) {
    const label = byte_label(byte);
    const character = label === String(byte) ? "·" : label;
    return [
      element("span", { class: "tl-character", "aria-hidden": "true" }, character),
      element("span", { class: "tl-spoken" }, `${byte_name(byte)} `),
      element("span", { class: "tl-value" }, String(byte)),
    ];
  }

  function tile(byte, kind, spoken = "") {
    const text = spoken ? [element("span", { class: "tl-spoken" }, ` ${spoken}`)] : [];
    return element("li", { class: kind }, ...tile_text(byte), ...text);
  }

  const shipped = window.TransformerLessons.weights.first_model;
  // Without its script there is nothing to show: the static picture stays.
  if (shipped) mount("first-model", (root, id) => new FirstModel(root, shipped, id));
})();
