/* Schedules, live: plan the learning rate of a run, and watch a ball go down a ravine under it.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/schedule_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/schedule.js"></script>
     <script defer src="../_static/widgets/ravine.js"></script>
     <script defer src="../_static/widgets/schedule_form.js"></script>
     <script defer src="../_static/widgets/schedule_pictures.js"></script>
     <script defer src="../_static/widgets/schedule_table.js"></script>
     <script defer src="../_static/widgets/schedule_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="schedule-explorer"></div> */

(function () {
  "use strict";

  const {
    element, header, button, grouped, mount, PlanForm, value_slider, show_value, RateChart,
    RavineView,
    PlanTable, run_of, described, rate_text, climb_remark, flight_remark, checkpoint_note,
  } = window.TransformerLessons;

  const START = { shape: "cosine", max_lr: 0.03, min_lr: 0.003, warmup_steps: 20, steps: 200 };
  const SECONDS = 6; // what a run takes to watch, however many steps it has

  class ScheduleExplorer {
    constructor(root, id) {
      this.kept = null; // a run to compare with
      this.frame = null; // the next frame of a moving ball
      this.build(root, id);
      this.show_plan();
      this.move_to(this.last);
    }

    /* Whatever changes starts again from the top; where motion isn't wanted, at the end. */
    restart() {
      this.pause();
      this.show_plan();
      const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.move_to(still ? this.last : 0);
      if (!still) this.play();
    }

    keep(run) {
      this.kept = run;
      this.restart();
      this.announce();
    }

    /* The run with twice the steps, beside the run that it was. */
    double() {
      if (!this.form.can_double()) {
        this.remark.textContent = "The run can't be twice as long: that is more steps than fit in "
          + "the field.";
        return;
      }
      this.form.steps.set(2 * this.form.steps.value);
      this.keep(this.run);
    }

    // ---- The moving ball --------------------------------------------------------------------

    run_or_pause() {
      if (this.frame !== null) {
        this.pause();
        return;
      }
      if (this.step === this.last) this.move_to(0);
      this.play();
    }

    play() {
      const pace = (1000 * SECONDS) / this.last; // milliseconds a step
      let began = null;
      const show = (now) => {
        began ??= now - pace * this.step;
        this.move_to(Math.min(Math.round((now - began) / pace), this.last));
        if (this.step < this.last) this.frame = requestAnimationFrame(show);
        else this.pause();
      };
      this.frame = requestAnimationFrame(show);
      this.run_button.textContent = "Pause";
    }

    pause() {
      cancelAnimationFrame(this.frame);
      this.frame = null;
      this.run_button.textContent = "Run";
    }

    // ---- What the reader sees -----------------------------------------------------------------

    /* All that doesn't depend on the step. */
    show_plan() {
      this.run = run_of(this.form.plan);
      this.runs = this.kept ? [this.run, this.kept] : [this.run];
      this.last = Math.max(...this.runs.map((run) => run.rates.length)) - 1;
      this.cursor.input.max = this.last;
      this.form.show_rates(rate_text(this.run.plan.max_lr), rate_text(this.run.plan.min_lr));
      this.remark.textContent = `${climb_remark(this.run)} ${flight_remark(this.run)}`.trim();
      this.forget_button.hidden = !this.kept;
      this.chart.draw(this.runs.map((run) => run.rates), this.in_words());
      this.table.show(this.runs);
    }

    move_to(step) {
      this.step = step;
      this.cursor.input.value = step;
      const rate = this.run.rates[step];
      const text = rate === undefined ? "the run is over" : `rate ${rate_text(rate)}`;
      show_value(this.cursor, `${grouped(step)}, ${text}`);
      this.chart.point_at(this.runs.map((run) => run.rates), step);
      this.ravine.draw(this.runs.map((run) => run.path), step);
      this.table.show_step(this.runs, step);
      this.checkpoint.textContent = this.kept ? checkpoint_note(this.run, this.kept, step) : "";
    }

    in_words() {
      const [own, kept] = this.runs.map(described);
      return `This plan: ${own}${kept ? ` Kept plan: ${kept}` : ""}`;
    }

    announce() {
      this.live.textContent = this.in_words();
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.form = new PlanForm(id, START, () => this.restart(), () => this.announce());
      this.chart = new RateChart();
      this.ravine = new RavineView();
      this.table = new PlanTable();
      this.remark = element("p", { class: "tl-problem tl-remark", role: "status" });
      this.checkpoint = element("p", { class: "tl-checkpoint" });
      this.live = element("p", { class: "tl-spoken", "aria-live": "polite" });
      const heading = header("Plan the learning rate",
        "and watch a ball with momentum go down the ravine");
      root.replaceChildren(heading, element("div", { class: "tl-columns" },
        element("div", {}, this.form.element, this.remark, this.build_buttons()),
        element("div", {}, this.chart.figure, this.build_cursor(id), this.build_ravine())),
      this.table.element, this.checkpoint, this.live);
    }

    build_buttons() {
      this.run_button = button("Run", () => this.run_or_pause());
      this.forget_button = button("Forget it", () => {
        this.keep(null);
        this.run_button.focus(); // the button that was pressed is gone
      });
      return element("div", { class: "tl-buttons" }, this.run_button,
        button("Keep to compare", () => this.keep(this.run)),
        button("Make the run twice as long", () => this.double()), this.forget_button);
    }

    build_cursor(id) {
      this.cursor = value_slider({ id: `${id}-step`, label: "Step", min: 0, step: 1 });
      this.cursor.input.addEventListener("input", () => {
        this.pause();
        this.move_to(this.cursor.input.valueAsNumber);
      });
      this.cursor.input.addEventListener("change", () => {
        this.live.textContent = this.checkpoint.textContent;
      });
      return element("div", { class: "tl-step" }, this.cursor.row);
    }

    build_ravine() {
      return element("figure", { class: "tl-ravine-figure" },
        element("figcaption", {}, "The ball after this step"),
        this.ravine.box, element("p", { class: "tl-note" }, "Both plans meet the same noise in "
          + "their gradients. Mean heights are averages over all noise."));
    }
  }

  mount("schedule-explorer", (root, id) => new ScheduleExplorer(root, id));
})();
