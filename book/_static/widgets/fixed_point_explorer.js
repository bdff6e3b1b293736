/* The model of lesson 1 in integers beside the same model in floats: type bytes, choose the bits of
   fraction, and see when the answers part.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/fixed_point_explorer.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/decoder.js"></script>
     <script defer src="../_static/widgets/model_file.js"></script>
     <script defer src="../_static/widgets/fixed_point.js"></script>
     <script defer src="../_static/widgets/first_model_weights.js"></script>
     <script defer src="../_static/widgets/fixed_point_explorer.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="fixed-point-explorer"></div> */

(function () {
  "use strict";

  const { Decoder, read_model, softmax, argmax, to_fixed, fixed_forward, element, header, mount,
    written,
    value_slider, show_value, byte_label, byte_name } = window.TransformerLessons;

  const START = { text: "hello", bits: 5 };
  const MOST_BITS = 24;
  const N_SHOWN = 6;

  const percent = (p) => (p > 0 && p < 0.0005 ? "< 0.1%" : `${(100 * p).toFixed(1)}%`);
  const bit_length = (x) => (x === 0n ? 0 : x.toString(2).length);

  class FixedPointExplorer {
    constructor(root, shipped, id) {
      this.read = read_model(shipped);
      this.model = new Decoder(this.read);
      this.build(root, id);
      this.run();
    }

    // ---- What the reader does -------------------------------------------------------------------

    run() {
      const { context_length } = this.read.config;
      const typed = [...new TextEncoder().encode(this.text.value)];
      this.bytes = typed.slice(-context_length);
      this.problem.textContent = this.bytes.length ? "" : "Type at least one byte.";
      if (!this.bytes.length) return;
      const bits = this.slider.input.valueAsNumber;
      const fixed = to_fixed(this.read, bits);
      const floats = this.model.forward(this.bytes).logits.at(-1);
      const integers = fixed_forward(fixed, this.bytes).at(-1);
      this.show_bits(bits);
      this.show_row(fixed, bits);
      this.show_answers(floats, integers, bits, fixed.largest);
    }

    // ---- What the reader sees -------------------------------------------------------------------

    show_bits(bits) {
      show_value(this.slider, `${bits}`);
      const unit = 2 ** -bits;
      this.unit.textContent = `1 is written as ${(2 ** bits).toLocaleString("en")}; `
        + `one step is ${unit >= 0.001 ? unit.toFixed(4) : unit.toExponential(1).replace("-", "−")}.`;
    }

    /* The embedding of the last byte, before and after. */
    show_row(fixed, bits) {
      const last = this.bytes.at(-1);
      const rows = [this.read.weights, fixed.tensors].map((all) => all["embedding.weight"][last]);
      this.caption.textContent = `The four numbers of ${byte_name(last)}`;
      rows[0].forEach((number, i) => {
        this.cells.floats[i].textContent = written(number, 4);
        this.cells.integers[i].textContent = `${rows[1][i]}`.replace("-", "−");
        this.cells.meant[i].textContent = written(Number(rows[1][i]) / 2 ** bits, 4);
      });
    }

    show_answers(floats, integers, bits, largest) {
      const meant = integers.map((logit) => Number(logit) / 2 ** bits);
      const [by_floats, by_integers] = [softmax(floats), softmax(meant)];
      const weight = (byte) => Math.max(by_floats[byte], by_integers[byte]);
      const order = [...by_floats.keys()].sort((a, b) => weight(b) - weight(a));
      this.rows.forEach((row, place) => {
        const byte = order[place];
        row.byte.textContent = byte_label(byte);
        row.byte.title = byte_name(byte);
        for (const [kind, shares] of [["floats", by_floats], ["integers", by_integers]]) {
          row[kind].bar.style.width = `${100 * shares[byte]}%`;
          row[kind].share.textContent = percent(shares[byte]);
        }
        row.logit.textContent = integers[byte].toLocaleString("en").replace("-", "−");
      });
      const answers = [argmax(floats), argmax(meant)];
      const gap = by_floats.reduce((most, p, i) => Math.max(most, Math.abs(p - by_integers[i])), 0);
      const agree = answers[0] === answers[1] ? `Both answer ${byte_name(answers[0])}.`
        : `They differ: the floats answer ${byte_name(answers[0])}, the integers `
          + `${byte_name(answers[1])}.`;
      const apart = gap < 0.00005 ? "less than 0.01" : (100 * gap).toFixed(2);
      this.summary.textContent = `${agree} Their probabilities differ by ${apart} percentage points `
        + `at most. The largest sum on the way took ${bit_length(largest)} bits and a sign.`;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      const heading = header("Integers beside floats", "the model of lesson 1, 2,656 parameters");
      const bench = element("div", { class: "tl-bench" },
        element("div", {}, this.build_text(id), this.build_slider(id), this.build_row()),
        element("div", {}, this.build_answers(), this.summary));
      root.replaceChildren(heading, element("div", { class: "tl-fixed" }, bench));
    }

    build_text(id) {
      this.text = element("input", { type: "text", id: `${id}-text`, autocomplete: "off",
        autocapitalize: "none", spellcheck: "false" });
      this.text.value = START.text;
      this.text.addEventListener("input", () => this.run());
      this.problem = element("p", { class: "tl-problem", role: "status" });
      const { context_length } = this.read.config;
      return element("div", {}, element("label", { for: this.text.id },
        `Text (the last ${context_length} bytes count)`), this.text, this.problem);
    }

    build_slider(id) {
      this.slider = value_slider({ id: `${id}-bits`, min: 1, max: MOST_BITS, step: 1,
        label: "Bits of fraction" });
      this.slider.input.value = START.bits;
      this.slider.input.addEventListener("input", () => this.run());
      this.unit = element("p", { class: "tl-note" });
      return element("div", {}, this.slider.row, this.unit);
    }

    build_row() {
      this.caption = element("caption", {});
      const titles = { floats: "float32", integers: "integer", meant: "stands for" };
      this.cells = Object.fromEntries(Object.keys(titles).map((kind) =>
        [kind, Array.from({ length: this.read.config.d_model }, () => element("td", {}))]));
      const rows = Object.entries(titles).map(([kind, title]) => element("tr", {},
        element("th", { scope: "row" }, title), ...this.cells[kind]));
      return element("table", { class: "tl-numbers" }, this.caption,
        element("tbody", {}, ...rows));
    }

    build_answers() {
      const share = (kind) => {
        const made = { bar: element("span", { class: `tl-bar tl-${kind}` }),
          share: element("span", { class: "tl-share" }) };
        return { ...made, cell: element("td", {}, element("span", { class: "tl-track" }, made.bar),
          made.share) };
      };
      this.rows = Array.from({ length: N_SHOWN }, () => ({
        byte: element("th", { scope: "row" }), floats: share("floats"),
        integers: share("integers"), logit: element("td", { class: "tl-logit" }),
      }));
      const titles = ["Byte", "Floats", "Integers", "Integer logit"].map((text) =>
        element("th", { scope: "col" }, text));
      return element("table", { class: "tl-answers" },
        element("caption", {}, "What comes next"),
        element("thead", {}, element("tr", {}, ...titles)),
        element("tbody", {}, ...this.rows.map((row) => element("tr", {}, row.byte,
          row.floats.cell, row.integers.cell, row.logit))));
    }
  }

  const shipped = window.TransformerLessons.weights.first_model;
  // Without its script there is nothing to show: the static picture stays.
  if (shipped) {
    mount("fixed-point-explorer", (root, id) => new FixedPointExplorer(root, shipped, id));
  }
})();
