/* Follow a text through the model: from the pieces of what the reader types to the choice of the next
   piece, with the numbers of every stage, again and again.

   A page needs the scripts that book/follow.md names, in that order, and
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="follow"></div>
   python_small_weights.js, 4.4 MB, is fetched from beside this script when the reader asks. */

(function () {
  "use strict";

  const { element, button, written, grouped, mount, read_json, read_page_model, TracedModel, weights,
    sampling, follow } = window.TransformerLessons;

  const HERE = document.currentScript.src;
  const SLICE = 16; // milliseconds of work before the page may do something else
  const LONGEST = 20000; // characters that are cut into pieces; more than any context here holds
  const EXAMPLES = {
    "a + ?": "def add(a, b):\n    return a +",
    "raise ?": "if not isinstance(name, str):\n    raise",
    "self.?": "def __init__(self, parent, child):\n    self.parent = parent\n    self.",
    "import ?": "import os\nimport sys\nfrom collections import",
  };
  const MODELS = {
    python_small: { label: "python-small", about: "3.1 million numbers",
      text: EXAMPLES["a + ?"], sampler: { ...sampling.PLAIN, temperature: 0.8, top_p: 0.95 } },
    first_model: { label: "fluctlight", about: "2,656 numbers", text: "ab",
      sampler: sampling.PLAIN },
  };
  const READ = new TextDecoder();

  const frame = () => new Promise((done) => {
    requestAnimationFrame(done);
    setTimeout(done, 100); // a page that is hidden has no frames
  });

  class Follow {
    constructor(root, id) {
      Object.assign(this, { root, id, run: 0, written: [], t: null, pace: null });
      this.build();
      this.text.value = MODELS.python_small.text;
      const redraw = () => this.model && this.show();
      new MutationObserver(redraw).observe(document.documentElement,
        { attributeFilter: ["data-theme"] });
    }

    // ---- The model ------------------------------------------------------------------------------

    /* Use the model called `name`, fetching it if need be; `text` replaces the reader's, if given. */
    async choose(name, text = null) {
      this.stop();
      if (this.name === name) return;
      const run = this.run;
      const { label } = MODELS[name];
      try {
        this.say(`${label} is being read …`);
        await frame();
        await fetched(name);
        const read = await read_page_model(weights[name], pauses());
        if (run !== this.run) return; // meanwhile the reader has asked for another one
        this.use(read, name, MODELS[name].sampler, `${label}: ${this.size_in_words(read)}.`);
      } catch (error) {
        this.say(`${label} can't be used: ${error.message}.`);
        this.check();
        return;
      }
      if (text !== null) this.text.value = text;
      await this.type();
    }

    size_in_words({ n_parameters, config }) {
      return `${grouped(n_parameters)} numbers, ${follow.count(config.n_layers, "block")}, sees `
        + `${grouped(config.context_length)} pieces`;
    }

    use(read, name, sampler, words) {
      this.name = name;
      this.model = new TracedModel(read);
      this.tokenizer = read.tokenizer;
      this.written = [];
      this.pace = null;
      this.stages.choice.begin(read.config.vocab_size, sampler);
      this.stages.numbers.begin(this.model, this.tokenizer);
      this.link_numbers.hidden = this.stages.numbers.element.hidden;
      this.check();
      this.say(words);
    }

    async open(input) {
      const [file] = input.files;
      if (!file) return;
      this.stop();
      const run = this.run;
      try {
        this.say(`${file.name} is being read …`);
        const read = await read_page_model(await read_json(file), pauses());
        if (run !== this.run) return;
        this.use(read, "", sampling.PLAIN, `${file.name}: ${this.size_in_words(read)}.`);
        await this.type();
      } catch (error) {
        const same = this.model ? " The model on the page is the same as before." : "";
        this.say(`${file.name} was not opened: ${error.message}.${same}`);
      }
      input.value = ""; // so that the same file can be chosen again
    }

    // ---- The text ---------------------------------------------------------------------------------

    /* What is typed has changed: the pieces that are the same as before need no new work. */
    async type() {
      this.stop();
      this.written = [];
      this.t = null;
      if (!this.model) return this.choose("python_small");
      const typed = this.text.value;
      this.root.classList.toggle("tl-nothing", typed === "");
      if (typed === "") return this.problem("Type at least one character, or take an example.");
      const start = [...typed].length > LONGEST ? typed.length - LONGEST : 0;
      try {
        const part = typed.slice(start).replace(/^\p{Surrogate}/u, start ? "" : "$&");
        this.typed = this.tokenizer.encode(part);
      } catch (error) {
        return this.problem(`This text can't be cut into pieces: ${error.message}.`);
      }
      this.problem(start ? `That is ${grouped(typed.length)} characters; only the last `
        + `${grouped(LONGEST)} are cut into pieces.` : "");
      return this.read();
    }

    problem(words) {
      this.trouble.textContent = words;
    }

    /* Bring the model's trace up to the text, in slices, and show it. */
    async read() {
      const run = this.run;
      const ids = [...this.typed, ...this.written];
      const size = this.model.config.context_length;
      const step = Math.ceil(size / 4); // by so much its window moves on when it is full
      this.n_forgotten = ids.length <= size ? 0 : Math.ceil((ids.length - size) / step) * step;
      const seen = ids.slice(this.n_forgotten);
      const { trace } = this.model;
      let same = 0;
      while (same < Math.min(seen.length, trace.length) && trace[same].token === seen[same]) same += 1;
      this.model.crop(same);
      const pause = pauses();
      const n_new = seen.length - same;
      for (const id of seen.slice(same)) {
        const started = performance.now();
        this.model.push(id);
        if (n_new === 1) this.took(performance.now() - started);
        await pause();
        if (run !== this.run) return false;
        this.busy(trace.length, seen.length);
      }
      this.work = `For this text, ${follow.count(same, "piece")} could be kept and `
        + `${grouped(n_new)} ${n_new === 1 ? "was" : "were"} computed.`;
      this.show();
      return true;
    }

    busy(n_done, n_all) {
      if (n_all - n_done > 8) this.state.textContent = `reading ${n_done} of ${n_all} …`;
    }

    took(milliseconds) {
      this.pace = this.pace === null ? milliseconds : 0.8 * this.pace + 0.2 * milliseconds;
    }

    // ---- Writing ------------------------------------------------------------------------------------

    async write() {
      const { token } = this.chosen;
      this.written.push(token);
      this.t = null;
      await this.read();
      return token;
    }

    async write_one() {
      this.stop();
      if (!this.can_write()) return;
      const token = await this.write();
      this.announce(`Written: ${follow.name(this.view, token)}.`);
    }

    async write_on() {
      if (this.writing) return this.stop();
      if (!this.can_write()) return undefined;
      this.stop();
      this.writing = true;
      this.on.textContent = "Stop";
      const { run } = this;
      const n_before = this.written.length;
      while (run === this.run && this.written.length < n_before + 400) {
        const token = await this.write();
        if (this.tokenizer.is_special(token)) break;
        await frame();
      }
      if (run === this.run) this.stop();
      return this.announce(`Written: ${this.decoded(this.written.slice(n_before))}`);
    }

    can_write() {
      return Boolean(this.chosen) && !this.root.classList.contains("tl-nothing");
    }

    stop() {
      this.run += 1;
      this.writing = false;
      this.on.textContent = "Keep writing";
    }

    async back(n) {
      this.stop();
      if (!this.model || this.written.length === 0) return;
      this.written.splice(Math.max(this.written.length - n, 0));
      this.t = null;
      await this.read();
      this.announce(`${follow.count(this.written.length, "written piece")} left.`);
    }

    decoded(ids) {
      const bytes = ids.filter((id) => !this.tokenizer.is_special(id))
        .map((id) => this.tokenizer.tokens[id] ?? "").join("");
      return READ.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
    }

    // ---- What the reader sees -----------------------------------------------------------------------

    get view() {
      const { model, tokenizer, n_forgotten, work } = this;
      const last = model.trace.length - 1;
      return { model, tokenizer, trace: model.trace, t: Math.min(this.t ?? last, last), work,
        n_forgotten, n_typed: this.typed.length - n_forgotten, colours: follow.palette(this.root) };
    }

    show() {
      const { view } = this;
      if (view.t < 0) return;
      this.root.classList.add("tl-live");
      const last = view.trace.length - 1;
      this.chosen = this.stages.choice.choose(this.model.logits(last), this.written.length);
      for (const stage of ["pieces", "rows", "blocks", "norm", "scores"]) {
        this.stages[stage].show(view);
      }
      this.show_choice(view);
      const n_more = this.written.length;
      this.output.replaceChildren(this.text.value.slice(-2000), element("ins", {},
        this.decoded(this.written)), element("span", { class: "tl-caret", "aria-hidden": "true" }));
      this.output.scrollTop = this.output.scrollHeight;
      const speed = this.pace === null || n_more === 0 ? ""
        : `, ${written(this.pace, 1)} ms for the last`;
      this.state.textContent = `${grouped(view.trace.length)} of at most `
        + `${grouped(this.model.config.context_length)} pieces${speed}`;
      for (const made of this.undo) made.disabled = n_more === 0;
    }

    show_choice(view) {
      this.stages.choice.show(view, this.chosen);
      this.stages.numbers.show(view, this.chosen.token);
      this.next.replaceChildren(follow.told(view, this.chosen.token));
    }

    /* A setting of the sampler has changed. */
    resample() {
      if (!this.model || this.model.trace.length === 0) return;
      const { view } = this;
      this.chosen = this.stages.choice.choose(this.model.logits(view.trace.length - 1),
        this.written.length);
      this.show_choice(view);
    }

    follow(t) {
      this.t = t;
      const { view } = this;
      for (const stage of ["pieces", "rows", "blocks", "norm", "scores"]) this.stages[stage].show(view);
    }

    say(words) {
      this.about.textContent = words;
    }

    announce(words) {
      this.live.textContent = words;
    }

    check() {
      for (const [name, input] of Object.entries(this.choices)) input.checked = name === this.name;
    }

    // ---- The elements, once ---------------------------------------------------------------------------

    build() {
      const { id } = this;
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const { Pieces, Rows, Blocks, Norm, Scores, Choice, AllNumbers } = follow;
      this.stages = {
        pieces: new Pieces(`${id}-pieces`, (t) => this.follow(t)), rows: new Rows(`${id}-rows`),
        blocks: new Blocks(`${id}-blocks`), norm: new Norm(`${id}-norm`),
        scores: new Scores(`${id}-scores`), choice: new Choice(`${id}-choice`, () => this.resample()),
        numbers: new AllNumbers(`${id}-numbers`),
      };
      this.root.classList.add("tl-follow");
      this.root.replaceChildren(this.build_text(), this.build_bar(),
        ...Object.values(this.stages).map((stage) => stage.element), this.live);
    }

    build_text() {
      const { id } = this;
      this.text = element("textarea", { id: `${id}-text`, rows: 3, dir: "auto", spellcheck: "false",
        autocapitalize: "none", autocomplete: "off" });
      this.text.addEventListener("input", () => this.type());
      this.start = button("Follow this text", async () => {
        await this.choose("python_small");
        this.root.firstChild.scrollIntoView();
      });
      this.start.className = "tl-start";
      const examples = Object.entries(EXAMPLES).map(([label, example]) => {
        const made = button(label, async () => {
          this.text.value = example;
          await (this.name === "first_model" ? this.choose("python_small") : this.type());
        });
        made.classList.add("tl-example");
        return made;
      });
      this.trouble = element("p", { class: "tl-problem", role: "status" });
      this.output = element("pre", { class: "tl-output", dir: "auto", tabindex: 0, role: "region",
        "aria-label": "The text so far" });
      this.state = element("span", { class: "tl-note" });
      return element("div", { id: `${id}-top`, class: "tl-top" }, this.build_models(),
        element("div", { class: "tl-text" },
          element("div", {}, element("label", { for: this.text.id }, "Your text"), this.text,
            this.trouble, element("div", { class: "tl-examples" },
              element("span", {}, "Examples:"), ...examples, this.start)),
          element("div", { class: "tl-when-live" }, element("p", { class: "tl-label" },
            "The text so far ", this.state), this.output)),
        this.build_outline());
    }

    build_models() {
      const { id } = this;
      this.choices = {};
      const rows = Object.entries(MODELS).map(([name, { label, about, text }]) => {
        const input = element("input", { type: "radio", name: `${id}-model`, id: `${id}-${name}` });
        input.checked = name === "python_small";
        input.addEventListener("change", () => this.choose(name, text));
        input.addEventListener("keydown", (event) => event.stopPropagation());
        this.choices[name] = input;
        return element("label", { for: input.id }, input, element("span", {}, element("b", {}, label),
          ` ${about}`));
      });
      const file = element("input", { type: "file", id: `${id}-file`, accept: ".json,application/json" });
      file.addEventListener("change", () => this.open(file));
      this.about = element("p", { class: "tl-note", role: "status" }, "python-small was trained on Python's "
        + "library and runs in this page. It takes 4.4 MB, which come when you type or press the "
        + "button.");
      return element("fieldset", { class: "tl-models" },
        element("legend", { class: "tl-spoken" }, "The model"),
        element("span", { class: "tl-label", "aria-hidden": "true" }, "Model"), ...rows,
        element("p", { class: "tl-own" }, element("label", { for: file.id }, "your own"), file),
        this.about);
    }

    build_bar() {
      const { id } = this;
      const titles = { top: "Text", pieces: "Pieces", rows: "Rows", blocks: "Blocks", norm: "Norm",
        scores: "Scores", choice: "Choice", numbers: "Numbers" };
      const links = Object.entries(titles).map(([stage, title]) =>
        element("a", { href: `#${id}-${stage}` }, title));
      this.link_numbers = links.at(-1);
      this.next = element("span", { class: "tl-next-piece" });
      const one = button("Write one", () => this.write_one());
      one.append(" ", this.next);
      this.on = button("Keep writing", () => this.write_on());
      this.undo = [button("Back", () => this.back(1)), button("Reset",
        () => this.back(Infinity))];
      watch_stages(links, this.root);
      return element("div", { class: "tl-bar-of-stages" }, element("nav", { "aria-label": "Stages" },
        ...links), element("div", { class: "tl-buttons" }, one, this.on, ...this.undo));
    }

    /* What the reader will see, before a model is there. */
    build_outline() {
      const steps = { Pieces: "The text is cut into pieces. Each has a number, its id.",
        Rows: "Each id picks a row of 192 numbers.", Blocks: "Six blocks add to the rows. In each, "
        + "six heads look back at earlier pieces.", Norm: "A norm brings the last row to size.",
        Scores: "The row is compared with all 4,096 pieces: a score for each.",
        Choice: "One piece is chosen and put at the end. Then all begins again." };
      return element("ol", { class: "tl-outline" }, ...Object.entries(steps).map(([title, words]) =>
        element("li", {}, element("b", {}, title), words)));
    }
  }

  /* The stage that is in view is marked in the bar. */
  function watch_stages(links, root) {
    const mark = () => {
      const shown = links.map((link) => [link, document.getElementById(link.hash.slice(1))])
        .filter(([, stage]) => stage?.checkVisibility());
      const passed = shown.filter(([, stage]) => stage.getBoundingClientRect().top < 240);
      const current = (passed.at(-1) ?? shown[0])?.[0];
      for (const link of links) {
        if (link === current) link.setAttribute("aria-current", "step");
        else link.removeAttribute("aria-current");
      }
      if (current) current.parentElement.scrollLeft = current.offsetLeft - 80;
    };
    document.addEventListener("scroll", mark, { passive: true });
    new MutationObserver(mark).observe(root, { attributeFilter: ["class"] });
  }

  /* An awaitable that lets the page breathe once a slice of work is used up. */
  function pauses() {
    let started = performance.now();
    return async () => {
      if (performance.now() - started < SLICE) return;
      await new Promise((done) => setTimeout(done));
      started = performance.now();
    };
  }

  const coming = new Map(); // name -> the promise of its script

  /* Loads the script of a model's weights, once. */
  function fetched(name) {
    if (weights[name]) return Promise.resolve();
    if (!coming.has(name)) coming.set(name, script_of(name));
    return coming.get(name);
  }

  const script_of = (name) => new Promise((done, failed) => {
    const script = element("script", { src: new URL(`${name}_weights.js`, HERE) });
    script.addEventListener("load", done);
    script.addEventListener("error", () => {
      coming.delete(name); // another try may find it
      failed(new Error("its file did not arrive"));
    });
    document.head.append(script);
  });

  mount("follow", (root, id) => new Follow(root, id));
})();
