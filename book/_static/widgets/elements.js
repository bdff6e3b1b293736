/* What the widgets share: making elements, writing numbers, fields that check what is typed, and
   taking the place of a static picture. */

(function () {
  "use strict";

  // The name of SVG's own elements, as the browser's parser gives it to them.
  const SVG = new DOMParser().parseFromString("<svg>", "text/html").body.firstChild.namespaceURI;

  /* element("p", { class: "tl-note" }, "text", child, ...) */
  function element(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function svg_element(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
  }

  function filled(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function button(text, on_click, kind = "") {
    const made = element("button", { type: "button", ...(kind && { class: kind }) }, text);
    made.addEventListener("click", on_click);
    return made;
  }

  /* What a widget is called, and at the right what it is about. */
  function header(title, note) {
    return element("div", { class: "tl-header" }, element("p", { class: "tl-title" }, title),
      element("p", { class: "tl-note" }, note));
  }

  /* Radio buttons for [[value, text], ...]; `on_choose` is called with the value. */
  function choices(name, legend, options, on_choose, chosen = options[0][0]) {
    const labels = options.map(([value, text], i) => {
      const input = element("input", { type: "radio", name, value, id: `${name}-${i}` });
      input.checked = value === chosen;
      input.addEventListener("change", () => on_choose(value));
      return element("label", { for: input.id }, input, text);
    });
    return element("fieldset", { class: "tl-choices" }, element("legend", {}, legend), ...labels);
  }

  /* 1.5 -> "1.50": with a true minus sign, and without one before a number that rounds to 0. */
  function written(number, digits = 2) {
    if (number === -Infinity) return "−∞";
    const text = Math.abs(number).toFixed(digits);
    return number < 0 && Number(text) !== 0 ? `−${text}` : text;
  }

  /* The number in an <input>, or null (and marked as invalid) if it is not one that fits. */
  function checked_number(input, { min, max, whole }) {
    const number = input.valueAsNumber; // NaN where the field is empty
    const fits = number >= min && number <= max && (!whole || Number.isInteger(number));
    input.setAttribute("aria-invalid", !fits);
    return fits ? number : null;
  }

  /* A slider with its label, and `readout` at the right of the label. */
  function slider({ id, label, name, min, max, step }, readout) {
    const input = element("input", { type: "range", id, min, max, step });
    if (name) input.setAttribute("aria-label", name);
    const title = element("label", { for: name ? readout.id : id }, label);
    return { input, row: element("div", { class: "tl-slider" }, title, readout, input) };
  }

  /* A slider that says its value in words of the page. */
  function value_slider(options) {
    const readout = element("span", { class: "tl-degrees", "aria-hidden": "true" });
    return { ...slider(options, readout), readout };
  }

  function show_value({ input, readout }, text) {
    readout.textContent = text;
    input.setAttribute("aria-valuetext", text);
  }

  /* A whole number with a field to type it and a slider to move it. `from_slider` and `to_slider`
     translate where the slider runs on another scale (the base: powers of ten). */
  class Dial {
    constructor(options, on_change) {
      const { id, label, min, max, slide = { min, max, step: 1 } } = options;
      this.limits = { min, max, whole: true };
      this.from_slider = slide.from ?? ((place) => place);
      this.to_slider = slide.to ?? ((value) => value);
      this.problem = element("p", { class: "tl-problem", id: `${id}-problem`, role: "status" });
      this.field = element("input", { type: "number", id, min, max, step: 1,
        "aria-describedby": this.problem.id });
      const made = slider({ ...slide, id: `${id}-slider`, label, name: `${label} (slider)` },
        this.field);
      this.slider = made.input;
      this.element = element("div", {}, made.row, this.problem);
      this.field.addEventListener("input", () => this.type(on_change));
      this.slider.addEventListener("input", () => {
        this.set(this.from_slider(this.slider.valueAsNumber));
        on_change();
      });
    }

    set(value) {
      this.value = value;
      this.field.value = value;
      checked_number(this.field, this.limits);
      this.problem.textContent = "";
      this.show_slider();
    }

    /* What doesn't fit stays in the field, to be corrected; the number in use stays too. */
    type(on_change) {
      const value = checked_number(this.field, this.limits);
      const { min, max } = this.limits;
      this.problem.textContent = value === null
        ? `Needs a whole number from ${grouped(min)} to ${grouped(max)}; ${grouped(this.value)} is `
          + "still in use." : "";
      if (value === null) return;
      this.value = value;
      this.show_slider();
      on_change();
    }

    show_slider() {
      this.slider.value = this.to_slider(this.value);
      this.slider.setAttribute("aria-valuetext", grouped(this.value));
    }
  }

  const grouped = (number) => number.toLocaleString("en");

  /* How a byte is written: its character if it has one, else its number (as in plotting.py). */
  function byte_label(byte) {
    if (byte === 32) return "␣";
    return byte > 32 && byte < 127 ? String.fromCharCode(byte) : String(byte);
  }

  /* How a byte is read out: a screen reader would pass over "␣". */
  function byte_name(byte) {
    if (byte === 32) return "space";
    if (byte === 10) return "line break";
    return byte > 32 && byte < 127 ? String.fromCharCode(byte) : `byte ${byte}`;
  }

  const HERE = document.currentScript.src;
  const coming = new Map(); // file name -> the promise of that script

  /* Load a script from beside this one, once. */
  function load_script(name) {
    if (!coming.has(name)) {
      coming.set(name, new Promise((done, failed) => {
        const script = element("script", { src: new URL(name, HERE) });
        script.addEventListener("load", done);
        script.addEventListener("error", () => {
          coming.delete(name); // another try may find it
          failed(new Error("its file did not arrive"));
        });
        document.head.append(script);
      }));
    }
    return coming.get(name);
  }

  const next_task = () => new Promise((done) => setTimeout(done));

  /* An awaitable that lets the page breathe once `slice` milliseconds of work are used up. */
  function pauses(slice = 12) {
    let started = performance.now();
    return async () => {
      if (performance.now() - started < slice) return;
      await next_task();
      started = performance.now();
    };
  }

  /* Start a widget in every element that asks for it by name. The static picture before it gives
     way, except in print. */
  function mount(name, start) {
    for (const [n, root] of document.querySelectorAll(`[data-tl-widget=${name}]`).entries()) {
      start(root, `tl-${name}-${n}`);
      replace_fallback(root);
    }
  }

  function replace_fallback(root) {
    const is_before = (figure) =>
      figure.compareDocumentPosition(root) & Node.DOCUMENT_POSITION_FOLLOWING;
    const fallback = [...document.querySelectorAll(".tl-fallback")].filter(is_before).at(-1);
    fallback?.classList.add("tl-replaced");
    if (fallback) root.classList.add("tl-replaces");
  }

  Object.assign((window.TransformerLessons ??= {}), {
    element, svg_element, button, header, choices, written, grouped, checked_number, slider,
    value_slider, show_value, Dial, byte_label, byte_name, mount,
    load_script, next_task, pauses,
  });
})();
