/* The fields in which a plan is made: { shape, max_lr, min_lr, warmup_steps, steps }. */

(function () {
  "use strict";

  const { element, choices, value_slider, show_value, Dial } = window.TransformerLessons;

  const SHAPES = { cosine: "cosine", constant: "constant", wsd: "wsd" };
  const STEPS = { min: 10, max: 1000 };

  class PlanForm {
    /* `on_change` is called at every change, `on_settled` when a change is over. */
    constructor(id, plan, on_change, on_settled) {
      this.id = id;
      this.on_change = on_change;
      this.shape = plan.shape;
      const dial = (name, label, limits) =>
        new Dial({ id: `${id}-${name}`, label, ...limits }, on_change);
      this.steps = dial("steps", "Steps", STEPS);
      this.warmup = dial("warmup", "Warm-up", { min: 0, max: STEPS.max });
      // In thousandths, and in percent of the largest: the smallest can't be the larger one.
      this.max = this.build_rate("max", "Largest rate", { min: 1, max: 60 });
      this.min = this.build_rate("min", "Smallest rate", { min: 0, max: 100 });
      this.steps.set(plan.steps);
      this.warmup.set(plan.warmup_steps);
      this.max.input.value = 1000 * plan.max_lr;
      this.min.input.value = (100 * plan.min_lr) / plan.max_lr;
      const fields = element("div", { class: "tl-columns" }, this.steps.element,
        this.warmup.element, this.max.row, this.min.row);
      this.element = element("div", {}, choices(`${id}-shape`,
        "Shape (wsd: warm-up, stable, decay)",
        Object.entries(SHAPES), (shape) => {
          this.shape = shape;
          on_change();
        }), fields);
      this.element.addEventListener("change", on_settled);
    }

    get plan() {
      const max_lr = this.max.input.valueAsNumber / 1000;
      return {
        shape: this.shape,
        max_lr,
        min_lr: (max_lr * this.min.input.valueAsNumber) / 100,
        warmup_steps: this.warmup.value,
        steps: this.steps.value,
      };
    }

    can_double() {
      return 2 * this.steps.value <= STEPS.max;
    }

    show_rates(max_text, min_text) {
      show_value(this.max, max_text);
      show_value(this.min, `${this.min.input.value}% = ${min_text}`);
    }

    build_rate(name, label, limits) {
      const made = value_slider({ id: `${this.id}-${name}`, label, step: 1, ...limits });
      made.input.addEventListener("input", this.on_change);
      return made;
    }
  }

  Object.assign(window.TransformerLessons, { PlanForm });
})();
