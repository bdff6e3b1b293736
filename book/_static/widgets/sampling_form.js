/* The fields in which a sampler is made, in the order in which its steps are applied. */

(function () {
  "use strict";

  const { element, button, grouped, value_slider, show_value, Dial, sampling,
  } = window.TransformerLessons;

  // The numbers of Sampler that have a slider, and what is said of them where they change nothing.
  const SLIDERS = {
    repetition_penalty: { label: "Repetition penalty", min: 1, max: 3, step: 0.05, idle: 1 },
    frequency_penalty: { label: "Frequency penalty", min: 0, max: 3, step: 0.1, idle: 0 },
    temperature: { label: "Temperature", min: 0.05, max: 2, step: 0.05 },
    top_p: { label: "Top-p", min: 0.01, max: 1, step: 0.01, idle: 1 },
    min_p: { label: "Min-p", min: 0, max: 1, step: 0.01, idle: 0 },
  };
  const BEFORE_GREEDY = ["repetition_penalty", "frequency_penalty"]; // all that greedy looks at

  class SamplerForm {
    /* `on_change` is called at every change, `on_settled` when a change is over. */
    constructor(id, vocab_size, on_change, on_settled) {
      this.id = id;
      this.vocab_size = vocab_size;
      this.on_change = () => {
        this.show();
        on_change();
      };
      this.build();
      this.element.addEventListener("change", on_settled);
      this.on_preset = (sampler) => {
        this.set(sampler);
        on_change();
        on_settled();
      };
    }

    get sampler() {
      const numbers = Object.entries(this.sliders).map(([name, made]) =>
        [name, made.input.valueAsNumber]);
      const top_k = this.top_k.value === this.vocab_size ? null : this.top_k.value;
      const sampler = { ...Object.fromEntries(numbers), top_k };
      return this.greedy.checked ? { ...sampler, temperature: 0 } : sampler;
    }

    set(sampler) {
      this.greedy.checked = sampler.temperature === 0;
      for (const [name, made] of Object.entries(this.sliders)) {
        if (name !== "temperature" || !this.greedy.checked) made.input.value = sampler[name];
      }
      this.top_k.set(sampler.top_k ?? this.vocab_size);
      this.show();
    }

    show() {
      const sampler = this.sampler;
      for (const [name, made] of Object.entries(this.sliders)) {
        const is_idle = sampler[name] === SLIDERS[name].idle;
        show_value(made, `${sampler[name].toFixed(2)}${is_idle ? " (off)" : ""}`);
        made.input.disabled = this.greedy.checked && !BEFORE_GREEDY.includes(name);
      }
      for (const input of [this.top_k.field, this.top_k.slider]) {
        input.disabled = this.greedy.checked;
      }
      for (const [name, made] of Object.entries(this.presets)) {
        made.setAttribute("aria-pressed", same(sampler, sampling.SAMPLERS[name]));
      }
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build() {
      this.presets = Object.fromEntries(Object.entries(sampling.SAMPLERS).map(
        ([name, sampler]) => [name, button(name, () => this.on_preset(sampler))]));
      this.sliders = Object.fromEntries(Object.keys(SLIDERS).map(
        (name) => [name, this.build_slider(name)]));
      const { repetition_penalty, frequency_penalty, temperature, top_p, min_p } = this.sliders;
      this.element = element("div", {},
        element("fieldset", { class: "tl-presets" },
          element("legend", { class: "tl-spoken" }, "Presets"),
          element("span", { class: "tl-label" }, "Settings, in order of use; presets:"),
          ...Object.values(this.presets)),
        element("div", { class: "tl-columns tl-settings" }, repetition_penalty.row,
          frequency_penalty.row, this.build_greedy(), temperature.row, this.build_top_k(),
          top_p.row, min_p.row));
    }

    build_slider(name) {
      const { label, min, max, step } = SLIDERS[name];
      const made = value_slider({ id: `${this.id}-${name}`, label, min, max, step });
      made.input.addEventListener("input", this.on_change);
      return made;
    }

    build_greedy() {
      this.greedy = element("input", { type: "checkbox", id: `${this.id}-greedy` });
      this.greedy.addEventListener("change", this.on_change);
      return element("div", { class: "tl-choices" }, element("label", { for: this.greedy.id },
        this.greedy, "Greedy: only the most likely"));
    }

    /* The slider runs through powers of two: 1, 2, 4, ... and what is between them. */
    build_top_k() {
      const slide = { min: 0, max: Math.log2(this.vocab_size), step: 0.25,
        from: (place) => Math.round(2 ** place), to: Math.log2 };
      const label = `Top-k (${grouped(this.vocab_size)}: off)`;
      this.top_k = new Dial({ id: `${this.id}-top-k`, label, min: 1, max: this.vocab_size, slide },
        this.on_change);
      return this.top_k.element;
    }
  }

  const same = (a, b) => Object.keys(b).every((name) => a[name] === b[name]);

  Object.assign(window.TransformerLessons, { SamplerForm });
})();
