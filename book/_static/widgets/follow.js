/* Follow a text through the model: from the tokens of what the reader types to the choice of the
   next one, with the numbers of every stage, again and again.

   A page needs the scripts that book/follow.md names, in that order, and
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="follow"></div>
   python_small_weights.js, 4.4 MB, is fetched from beside this script when the reader asks. */

(function () {
  "use strict";

  const { element, written, grouped, mount, load_script, next_task, pauses, read_json,
    read_page_model, TracedModel, weights,
    sampling, follow } = window.TransformerLessons;

  const LONGEST = 4000; // characters that are cut into pieces: more than 256 tokens have
  const { MODELS } = follow;
  const READ = new TextDecoder();

  const frame = () => new Promise((done) => {
    requestAnimationFrame(done);
    setTimeout(done, 100); // a page that is hidden has no frames
  });

  class Follow {
    constructor(root, id) {
      Object.assign(this, { root, id, run: 0, written: [], t: null, pace: null,
        latest: Promise.resolve() });
      this.build();
      this.form.text.value = MODELS.python_small.text;
      const redraw = () => {
        if (!this.view) return;
        this.view = { ...this.view, colours: follow.palette(root) };
        this.draw(this.view);
      };
      new MutationObserver(redraw).observe(document.documentElement,
        { attributeFilter: ["data-theme"] });
    }

    // ---- The model ------------------------------------------------------------------------------

    /* Use the model called `name`, fetching it if need be; `text` replaces the reader's. */
    async choose(name, text = null) {
      if (this.name === name) return;
      const run = this.begin();
      const { label } = MODELS[name];
      try {
        this.say(`${label} is being read …`);
        await frame();
        if (!weights[name]) await load_script(`${name}_weights.js`);
        const read = await read_page_model(weights[name], pauses());
        if (run !== this.run) return; // meanwhile the reader has asked for another one
        this.use(read, name, MODELS[name].sampler, `${label}: ${this.size_in_words(read)}.`);
      } catch (error) {
        this.say(`${label} can't be used: ${error.message}.`);
        this.check();
        await this.go_on();
        return;
      }
      if (text !== null) this.form.text.value = text;
      await this.type();
    }

    size_in_words({ n_parameters, config }) {
      return `${grouped(n_parameters)} numbers, ${follow.count(config.n_layers, "block")}, sees `
        + `${grouped(config.context_length)} tokens`;
    }

    use(read, name, sampler, words) {
      this.name = name;
      this.model = new TracedModel(read);
      this.tokenizer = read.tokenizer;
      this.written = [];
      this.pace = null;
      this.stages.choice.begin(read.config.vocab_size, sampler);
      this.stages.numbers.begin(this.model, this.tokenizer);
      this.form.link_numbers.hidden = this.stages.numbers.element.hidden;
      this.check();
      this.say(words);
    }

    async open(input) {
      const [file] = input.files;
      if (!file) return;
      const run = this.begin();
      try {
        this.say(`${file.name} is being read …`);
        const read = await read_page_model(await read_json(file), pauses());
        if (run !== this.run) return;
        this.use(read, "", sampling.PLAIN, `${file.name}: ${this.size_in_words(read)}.`);
        await this.type();
      } catch (error) {
        const same = this.model ? " The model on the page is the same as before." : "";
        this.say(`${file.name} was not opened: ${error.message}.${same}`);
        await this.go_on();
      }
      input.value = ""; // so that the same file can be chosen again
    }

    // ---- The text -------------------------------------------------------------------------------

    /* A program, or a fast hand, may change the text many times before it can be shown. */
    async type_soon() {
      const run = this.begin();
      await frame();
      if (run === this.run) await this.type();
    }

    /* Something else is asked for: what was being read or written for the last wish ends. */
    begin() {
      this.stop();
      this.busy(true);
      return this.run += 1;
    }

    /* What is typed has changed: the tokens that are the same as before need no new work. */
    async type() {
      this.written = [];
      this.t = null;
      if (!this.model) return this.choose("python_small");
      const typed = this.form.text.value;
      this.root.classList.toggle("tl-nothing", typed === "");
      if (typed === "") return this.refuse("Type at least one character, or take an example.");
      const start = [...typed].length > LONGEST ? typed.length - LONGEST : 0;
      try {
        const part = typed.slice(start).replace(/^\p{Surrogate}/u, start ? "" : "$&");
        this.typed = this.tokenizer.encode(part);
      } catch (error) {
        return this.refuse(`This text can't be cut into pieces: ${error.message}.`);
      }
      this.problem(start ? `That is ${grouped(typed.length)} characters; only the last `
        + `${grouped(LONGEST)} are cut into pieces.` : "");
      return this.read();
    }

    problem(words) {
      this.form.trouble.textContent = words;
    }

    refuse(words) {
      this.problem(words);
      this.busy(false);
    }

    busy(is_busy) {
      this.root.setAttribute("aria-busy", is_busy);
    }

    /* With the model and the text that were there before. */
    async go_on() {
      if (this.model && this.typed) await this.read();
      else this.busy(false);
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
      while (same < seen.length && trace[same]?.token === seen[same]) same += 1;
      this.model.crop(same);
      const pause = pauses();
      const n_new = seen.length - same;
      for (const id of seen.slice(same)) {
        const started = performance.now();
        this.model.push(id);
        if (n_new === 1) this.took(performance.now() - started);
        await pause();
        if (run !== this.run) return false;
        if (seen.length - trace.length > 8) {
          this.form.state.textContent = `reading ${trace.length} of ${seen.length} …`;
        }
      }
      this.work = `For this text, ${follow.count(same, "token")} could be kept and `
        + `${grouped(n_new)} ${n_new === 1 ? "was" : "were"} computed.`;
      await next_task(); // what was computed, and the drawing of it, need not be one slice
      if (run !== this.run) return false;
      await this.show();
      return true;
    }

    took(milliseconds) {
      this.pace = this.pace === null ? milliseconds : 0.8 * this.pace + 0.2 * milliseconds;
    }

    // ---- Writing --------------------------------------------------------------------------------

    /* After what was asked for before; several presses write as many tokens, one after the other. */
    then(job) {
      const { run } = this;
      this.latest = this.latest.then(() => {
        if (run === this.run && this.can_write()) return job();
        return run === this.run ? this.stop() : undefined;
      });
    }

    async write() {
      this.busy(true); // so that not every number that changes is read out
      const { token } = this.chosen;
      this.written.push(token);
      this.t = null;
      await this.read();
      return token;
    }

    write_one() {
      this.stop();
      this.then(async () => {
        const token = await this.write();
        this.announce(`Written: ${follow.name(this.view, token)}.`);
      });
    }

    write_on() {
      if (this.writing) return this.stop();
      this.writing = true;
      this.form.keep.textContent = "Stop";
      return this.then(() => this.write_many(400));
    }

    async write_many(n) {
      const { run } = this;
      const n_before = this.written.length;
      for (let i = 0; i < n && this.writing && run === this.run; i += 1) {
        const token = await this.write();
        if (this.tokenizer.is_special(token)) break;
        await frame();
      }
      if (run !== this.run) return;
      this.stop();
      await this.draw(this.view);
      this.announce(`Written: ${this.decoded(this.written.slice(n_before))}`);
    }

    can_write() {
      return Boolean(this.chosen) && !this.root.classList.contains("tl-nothing");
    }

    stop() {
      this.writing = false;
      this.form.keep.textContent = "Keep writing";
    }

    async back(n) {
      this.begin();
      this.written.splice(Math.max(this.written.length - n, 0));
      this.t = null;
      await this.read();
      this.announce(`${follow.count(this.written.length, "written token")} left.`);
    }

    decoded(ids) {
      const bytes = ids.filter((id) => !this.tokenizer.is_special(id))
        .map((id) => this.tokenizer.tokens[id] ?? "").join("");
      return READ.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
    }

    // ---- What the reader sees ------------------------------------------------------------------

    /* What the stages show; they may be asked for more while the next text is being read. */
    make_view() {
      const { tokenizer, n_forgotten, work, run } = this;
      const model = this.model.snapshot();
      const last = model.trace.length - 1;
      const chosen = this.stages.choice.choose(model.logits(last), this.written.length);
      return { model, tokenizer, trace: model.trace, t: this.t ?? last, work, n_forgotten, chosen, run,
        n_typed: this.typed.length - n_forgotten, colours: follow.palette(this.root) };
    }

    show() {
      if (this.model.trace.length === 0) return undefined;
      this.view = this.make_view();
      this.chosen = this.view.chosen;
      this.root.classList.add("tl-live");
      const n_more = this.written.length;
      this.form.output.replaceChildren(this.form.text.value.slice(-2000), element("ins", {},
        this.decoded(this.written)), element("span", { class: "tl-caret", "aria-hidden": "true" }));
      this.form.tail.replaceChildren(one_line(this.form.text.value), element("ins", {},
        one_line(this.decoded(this.written))), element("span", { class: "tl-caret" }));
      this.form.output.scrollTop = this.form.output.scrollHeight;
      const speed = this.pace === null || n_more === 0 ? ""
        : `, ${written(this.pace, 1)} ms for the last`;
      this.form.state.textContent = `${grouped(this.view.trace.length)} of at most `
        + `${grouped(this.model.config.context_length)} tokens${speed}`;
      for (const made of this.form.undo) made.disabled = n_more === 0;
      this.show_next();
      return this.draw(this.view);
    }

    show_next() {
      this.form.next.replaceChildren(follow.told(this.view, this.chosen.token));
    }

    /* Draw the stages that can be seen at once, the others a slice of work each, and while it keeps
       writing only the former. */
    async draw(view) {
      const stages = Object.values(this.stages);
      const is_seen = ({ element: { hidden }, element: stage }) => {
        const { top, bottom } = stage.getBoundingClientRect();
        return !hidden && top < window.innerHeight && bottom > 0;
      };
      const seen = stages.filter(is_seen);
      for (const stage of seen) stage.show(view);
      if (this.writing) return;
      this.busy(true);
      for (const stage of stages.filter((other) => !seen.includes(other))) {
        await next_task();
        if (view !== this.view) return;
        stage.show(view);
      }
      if (view.run === this.run) this.busy(false);
    }

    /* A setting of the sampler has changed. */
    resample() {
      if (!this.view) return;
      const { model, trace } = this.view;
      this.chosen = this.stages.choice.choose(model.logits(trace.length - 1), this.written.length);
      this.view = { ...this.view, chosen: this.chosen };
      this.stages.choice.show(this.view);
      this.stages.numbers.show(this.view);
      this.show_next();
    }

    follow(t) {
      this.t = t;
      this.view = { ...this.view, t };
      this.draw(this.view);
    }

    say(words) {
      this.form.about.textContent = words;
    }

    announce(words) {
      this.live.textContent = words;
    }

    check() {
      for (const [name, input] of Object.entries(this.form.choices)) {
        input.checked = name === this.name;
      }
    }

    // ---- The elements, once --------------------------------------------------------------------

    build() {
      const { id, root } = this;
      const { Tokens, Rows, Blocks, Norm, Scores, Choice, AllNumbers, Form } = follow;
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      this.stages = {
        pieces: new Tokens(`${id}-pieces`, (t) => this.follow(t)), rows: new Rows(`${id}-rows`),
        blocks: new Blocks(`${id}-blocks`), norm: new Norm(`${id}-norm`),
        scores: new Scores(`${id}-scores`),
        choice: new Choice(`${id}-choice`, () => this.resample()),
        numbers: new AllNumbers(`${id}-numbers`),
      };
      this.form = new Form(id, {
        type: () => { this.latest = this.type_soon(); },
        open: (input) => { this.latest = this.open(input); },
        choose: (name) => { this.latest = this.choose(name, MODELS[name].text); },
        example: (text) => { this.latest = this.example(text); },
        start: () => { this.latest = this.start(); },
        back: (n) => { this.latest = this.back(n); },
        one: () => this.write_one(), on: () => this.write_on(),
      });
      root.classList.add("tl-follow");
      root.replaceChildren(this.form.top, this.form.bar,
        ...Object.values(this.stages).map((stage) => stage.element), this.live);
      this.form.watch(root);
    }

    async start() {
      await this.choose("python_small");
      this.form.top.scrollIntoView();
    }

    /* The examples are Python: they are for python-small, or for the reader's own model. */
    async example(text) {
      this.form.text.value = text;
      await (this.name === "first_model" ? this.choose("python_small") : this.type_soon());
    }
  }

  /* The last characters of a text, in one line. */
  const one_line = (text) => text.slice(-120).replace(/\s+/g, " ");

  mount("follow", (root, id) => new Follow(root, id));
})();
