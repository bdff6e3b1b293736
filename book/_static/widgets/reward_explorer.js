/* The small world of lesson 23: bars of all 64 texts, rewards to be set, and updates to be watched.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/reward_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/reward_world.js"></script>
     <script defer src="../_static/widgets/reward_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="reward-explorer"></div> */

(function () {
  "use strict";

  const {
    element, header, choices, svg_element, button, written, mount, value_slider, show_value,
    reward_world: world,
  } = window.TransformerLessons;

  const BETAS = [0, 0.05, 0.1, 0.2, 0.5, 1], RATES = [0.5, 1, 2, 5, 20];
  const PARSE = ["x + x", "x ( )", "+ + x", "+ ( )", "( x )"];
  const LEFT = 64, WIDTH = 700, STEP = (WIDTH - LEFT) / 64, HEIGHT = 180, TOP = 8;
  const STRIP = HEIGHT + TOP + 44, REACH = 24; // the middle of the rewards, and their full length
  const BURST = 200; // updates of a run

  class RewardExplorer {
    constructor(root, id) {
      const base = world.distribution(world.BASE);
      this.base = base;
      // Bars stand in the order of the base's probabilities.
      this.order = base.map((_, y) => y).sort((a, b) => base[b] - base[a]);
      this.build(root, id);
      this.reward_what_parses();
      this.choose(this.order.findIndex((y) => world.text_of(y) === "x + x"));
      this.reset();
    }

    // ---- What the reader does -------------------------------------------------------------------

    reward_what_parses() {
      this.rewards = this.base.map((_, y) => (PARSE.includes(world.text_of(y)) ? 1 : 0));
      this.show_rewards();
    }

    clear_rewards() {
      this.rewards = this.base.map(() => 0);
      this.show_rewards();
    }

    choose(place) {
      this.place = place;
      this.text.input.value = place;
      const y = this.order[place];
      show_value(this.text, world.text_of(y));
      this.reward.input.value = this.rewards[y];
      show_value(this.reward, written(this.rewards[y]));
      this.frame.setAttribute("x", LEFT + place * STEP);
    }

    set_reward(value) {
      this.rewards[this.order[this.place]] = value;
      this.show_rewards();
    }

    reset() {
      this.stop();
      this.logits = world.BASE;
      this.n_updates = 0;
      this.show();
    }

    update(n = 1) {
      const settings = { base: this.base, rewards: this.rewards, beta: this.beta, rate: this.rate,
        n_samples: this.n_samples, random: Math.random };
      for (let i = 0; i < n; i += 1) this.logits = world.updated(this.logits, settings);
      this.n_updates += n;
      this.show();
    }

    run() {
      if (this.running) return this.stop();
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.update(BURST);
      this.running = true;
      this.runner.textContent = "Stop";
      const end = this.n_updates + BURST;
      const next = () => {
        if (!this.running) return;
        this.update();
        if (this.n_updates >= end) this.stop();
        else requestAnimationFrame(next);
      };
      next();
      return undefined;
    }

    stop() {
      this.running = false;
      this.runner.textContent = `Run ${BURST} updates`;
      if (this.logits) this.show();
    }

    /* A press or a drag on the picture: which text, and in the lower part, which reward. */
    drag(event) {
      const box = this.chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      const y = ((event.clientY - box.top) / box.height) * (STRIP + REACH + 8);
      if (event.type === "pointerdown") {
        this.choose(Math.min(63, Math.max(0, Math.floor((x - LEFT) / STEP))));
        this.dragging = y > HEIGHT + TOP + 8;
        if (this.dragging) this.chart.setPointerCapture(event.pointerId);
      }
      if (!this.dragging) return;
      const value = Math.round(((STRIP - y) / REACH) * 4) / 4;
      this.set_reward(Math.min(1, Math.max(-1, value)));
    }

    // ---- What the reader sees -------------------------------------------------------------------

    show_rewards() {
      this.order.forEach((y, place) => {
        const length = this.rewards[y] * REACH;
        const mark = this.marks[place], bar = this.bars[place];
        mark.setAttribute("y", STRIP - Math.max(0, length));
        mark.setAttribute("height", Math.abs(length));
        bar.classList.toggle("tl-rewarded", this.rewards[y] > 0);
      });
      if (this.place !== undefined) this.choose(this.place);
      if (this.logits) this.show();
    }

    show() {
      const p = world.distribution(this.logits), { base, rewards, beta } = this;
      const best = beta > 0 ? world.best(base, rewards, beta) : null;
      this.order.forEach((y, place) => {
        this.bars[place].setAttribute("y", y_of(p[y]));
        this.bars[place].setAttribute("height", Math.max(0, y_of(0) - y_of(p[y])));
        this.ticks[place].setAttribute("y", best ? y_of(best[y]) - 1 : -9);
      });
      const now = world.measures(p, base, rewards, beta);
      const words = [`After ${this.n_updates} updates: expected reward ${written(now.reward)}, `
        + `KL to the base ${written(now.kl)} nats.`];
      if (best) {
        const goal = world.measures(best, base, rewards, beta);
        words.push(`Reward less leash: ${written(now.objective)} (at best `
          + `${written(goal.objective)}).`);
      }
      const top = this.order.reduce((a, b) => (p[b] > p[a] ? b : a));
      words.push(`Most probable: ${world.text_of(top)}, ${Math.round(100 * p[top])}%.`);
      const summary = words.join(" ");
      this.chart.setAttribute("aria-label", `The probability of each of 64 texts. ${summary}`);
      this.numbers.textContent = summary;
      this.spoken.textContent = this.running ? "" : summary; // not 200 times
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.numbers = element("p", { class: "tl-summary" });
      this.spoken = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("Rewards and a leash",
        "64 texts of three tokens; 1 for those that parse");
      this.runner = button("", () => this.run());
      const buttons = element("div", { class: "tl-buttons" },
        button("One update", () => this.update()), this.runner,
        button("Back to the base", () => this.reset()),
        button("Reward what parses", () => this.reward_what_parses()),
        button("No rewards", () => this.clear_rewards()));
      root.replaceChildren(heading, element("div", { class: "tl-rewards" }, this.build_chart(),
        this.numbers, this.spoken, this.build_controls(id), buttons));
    }

    build_chart() {
      const bar = (name, width, extra = {}) => this.order.map((y, place) =>
        svg_element("rect", { class: name, x: LEFT + place * STEP + (STEP - width) / 2, width,
          ...extra }));
      this.bars = bar("tl-now", STEP - 3);
      this.ticks = bar("tl-best", STEP, { height: 2 });
      this.marks = bar("tl-mark", STEP - 3);
      this.frame = svg_element("rect", { class: "tl-chosen", y: TOP - 6, width: STEP,
        height: STRIP + REACH - TOP + 10 });
      const bases = this.order.map((y, place) => svg_element("rect", { class: "tl-base",
        x: LEFT + place * STEP + 0.5, width: STEP - 1, y: y_of(this.base[y]),
        height: y_of(0) - y_of(this.base[y]) }));
      this.chart = svg_element("svg", { class: "tl-chart", role: "img",
        viewBox: `0 0 ${WIDTH} ${STRIP + REACH + 8}` }, ...axes(), ...bases, ...this.bars,
      ...this.ticks, ...this.marks, this.frame);
      for (const kind of ["pointerdown", "pointermove"]) {
        this.chart.addEventListener(kind, (event) => this.drag(event));
      }
      for (const kind of ["pointerup", "pointercancel"]) {
        this.chart.addEventListener(kind, () => { this.dragging = false; });
      }
      return element("figure", {}, element("figcaption", {}, "Probabilities, on a scale of square "
        + "roots (grey: the base; line: the best with this leash), and rewards, to be dragged"),
      this.chart);
    }

    build_controls(id) {
      this.text = value_slider({ id: `${id}-text`, label: "Text", min: 0, max: 63, step: 1 });
      this.reward = value_slider({ id: `${id}-reward`, label: "Its reward", min: -1, max: 1,
        step: 0.25 });
      this.text.input.addEventListener("input", () => this.choose(this.text.input.valueAsNumber));
      this.reward.input.addEventListener("input", () =>
        this.set_reward(this.reward.input.valueAsNumber));
      const leash = this.listed(`${id}-beta`, "Leash β", BETAS, 0, (beta) => { this.beta = beta; });
      const rate = this.listed(`${id}-rate`, "Learning rate", RATES, 2, (x) => { this.rate = x; });
      return element("div", {}, element("div", { class: "tl-columns" }, this.text.row,
        this.reward.row, leash, rate), this.build_kinds(id));
    }

    /* A slider over a list of values. */
    listed(id, label, values, place, set) {
      const made = value_slider({ id, label, min: 0, max: values.length - 1, step: 1 });
      const take = () => {
        const value = values[made.input.valueAsNumber];
        set(value);
        show_value(made, `${value}`);
        if (this.logits) this.show();
      };
      made.input.value = place;
      made.input.addEventListener("input", take);
      take();
      return made.row;
    }

    build_kinds(id) {
      this.n_samples = 0;
      return choices(`${id}-kind`, "An update uses the", [[0, "average over all 64 texts"],
        [16, "16 samples, less their mean"]], (n) => { this.n_samples = n; });
    }
  }

  const y_of = (p) => TOP + (1 - Math.sqrt(p)) * HEIGHT;

  function axes() {
    const line = (y, text) => [
      svg_element("line", { class: "tl-axis", x1: LEFT, x2: WIDTH, y1: y, y2: y }),
      svg_element("text", { x: LEFT - 5, y, "text-anchor": "end", "dominant-baseline": "central" },
        text)];
    return [...[0, 0.05, 0.25, 0.5, 1].flatMap((p) => line(y_of(p), `${100 * p}%`)),
      ...line(STRIP - REACH, "1"), ...line(STRIP, "0"), ...line(STRIP + REACH, "−1")];
  }

  if (world) mount("reward-explorer", (root, id) => new RewardExplorer(root, id));
})();
