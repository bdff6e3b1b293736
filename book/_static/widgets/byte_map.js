/* The bytes of a small GGUF file: choose a part, go through its fields, read what they mean.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/byte_map.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/byte_map_file.js"></script>
     <script defer src="../_static/widgets/byte_map_gguf.js"></script>
     <script defer src="../_static/widgets/byte_map.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="byte-map"></div> */

(function () {
  "use strict";

  const {
    element, header, svg_element, button, grouped, mount, value_slider, show_value, gguf_parts,
    small_gguf,
  } = window.TransformerLessons;

  const ROWS = 8, WIDTH = 16;

  class ByteMap {
    constructor(root, id, bytes) {
      this.bytes = bytes;
      this.parts = gguf_parts(bytes);
      this.build(root, id);
      this.choose_part(0);
    }

    // ---- What the reader does -------------------------------------------------------------------

    choose_part(number) {
      this.part = this.parts[number];
      this.first = Math.floor(this.part.start / WIDTH);
      this.show_part(number);
      this.choose_field(0);
    }

    choose_field(number) {
      const { fields } = this.part;
      this.number = Math.min(Math.max(number, 0), fields.length - 1);
      this.slider.input.value = this.number;
      this.previous.disabled = this.number === 0;
      this.next.disabled = this.number === fields.length - 1;
      const words = `${this.number + 1} of ${grouped(fields.length)}`;
      show_value(this.slider, words);
      this.show(fields[this.number]);
    }

    /* What the pointer is on: within the chosen part its field, else nothing. */
    point(place) {
      const found = this.part.fields.findIndex(({ start, end }) => start <= place && place < end);
      if (found >= 0 && found !== this.number) this.choose_field(found);
    }

    /* Where the reader has clicked: also in another part, and the rows stay. */
    jump(place) {
      const number = this.parts.findIndex(({ start, end }) => start <= place && place < end);
      if (number < 0) return;
      this.part = this.parts[number];
      this.show_part(number);
      this.choose_field(this.part.fields.findIndex(({ end }) => place < end));
    }

    // ---- What the reader sees -------------------------------------------------------------------

    show_part(number) {
      this.list.value = number;
      this.slider.input.max = this.part.fields.length - 1;
      this.strip.forEach((rect, i) => rect.classList.toggle("tl-now", i === number));
    }

    show({ start, end, words }) {
      const first = this.first_row(start);
      for (const [i, { offset, cells, text }] of this.rows.entries()) {
        const row = (first + i) * WIDTH;
        offset.textContent = row < this.bytes.length ? grouped(row) : "";
        cells.forEach((cell, j) => this.show_byte(cell, row + j, start, end));
        text.textContent = characters(this.bytes.subarray(row, row + WIDTH));
      }
      const { group, name } = this.part, n = end - start;
      const where = n === 1 ? `Byte ${grouped(start)}`
        : `Bytes ${grouped(start)} to ${grouped(end - 1)}`;
      const whose = group === "header" ? "header" : `${group}, ${name}`;
      this.said.replaceChildren(element("strong", {}, `${where} · ${whose}`),
        element("br"), `${words[0].toUpperCase()}${words.slice(1)}.`);
    }

    show_byte(cell, place, start, end) {
      const byte = this.bytes[place];
      cell.textContent = byte === undefined ? "" : byte.toString(16).padStart(2, "0");
      cell.dataset.place = place;
      cell.classList.toggle("tl-part", this.part.start <= place && place < this.part.end);
      cell.classList.toggle("tl-now", start <= place && place < end);
    }

    /* The rows move only as far as needed. */
    first_row(place) {
      const row = Math.floor(place / WIDTH);
      this.first = Math.min(Math.max(this.first, row - ROWS + 1), row);
      return this.first;
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      const n_numbers = "6,368 numbers";
      const heading = header("The bytes of a model",
        `a GGUF file of ${grouped(this.bytes.length)} bytes; an untrained model of ${n_numbers}`);
      this.said = element("p", { class: "tl-summary", "aria-live": "polite" });
      root.replaceChildren(heading, this.build_strip(), element("div", { class: "tl-bytes" },
        element("div", { class: "tl-bench" },
          element("div", {}, this.build_list(id), this.build_slider(id)),
          element("div", {}, this.build_rows(), this.said))));
    }

    build_strip() {
      const n = this.bytes.length;
      this.strip = this.parts.map(({ group, name, start, end }, i) => {
        const rect = svg_element("rect", { x: start, y: 0, width: end - start, height: 10,
          class: `tl-group-${group.split(" ")[0]}` }, svg_element("title", {}, `${group}, ${name}`));
        rect.addEventListener("click", () => this.choose_part(i));
        return rect;
      });
      return svg_element("svg", { class: "tl-strip", viewBox: `0 0 ${n} 10`,
        preserveAspectRatio: "none", role: "img",
        "aria-label": "All parts of the file, each as wide as it has bytes" }, ...this.strip);
    }

    build_list(id) {
      this.list = element("select", { id: `${id}-part`, size: 9 });
      let group;
      for (const [i, { group: title, name, start, end }] of this.parts.entries()) {
        if (group?.label !== title) {
          group = element("optgroup", { label: title });
          this.list.append(group);
        }
        group.append(element("option", { value: i }, `${name} (${grouped(end - start)})`));
      }
      this.list.addEventListener("change", () => this.choose_part(Number(this.list.value)));
      return element("div", { class: "tl-part-list" },
        element("label", { for: this.list.id }, "Part of the file (bytes)"), this.list);
    }

    build_slider(id) {
      this.slider = value_slider({ id: `${id}-field`, min: 0, max: 0, step: 1, label: "Field" });
      this.slider.input.addEventListener("input",
        () => this.choose_field(this.slider.input.valueAsNumber));
      this.previous = button("Previous", () => this.choose_field(this.number - 1));
      this.next = button("Next", () => this.choose_field(this.number + 1));
      return element("div", {}, this.slider.row,
        element("div", { class: "tl-buttons" }, this.previous, this.next));
    }

    build_rows() {
      this.rows = Array.from({ length: ROWS }, () => ({
        offset: element("span", { class: "tl-offset" }),
        cells: Array.from({ length: WIDTH }, () => element("span", {})),
        text: element("span", { class: "tl-text" }),
      }));
      const table = element("div", { class: "tl-hex", "aria-hidden": "true" },
        ...this.rows.flatMap(({ offset, cells, text }) => [offset, ...cells, text]));
      const place_of = (event) => Number(event.target.dataset.place ?? NaN);
      table.addEventListener("pointerover", (event) => this.point(place_of(event)));
      table.addEventListener("click", (event) => this.jump(place_of(event)));
      return table;
    }
  }

  const characters = (bytes) => [...bytes].map((byte) =>
    (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");

  const decoded = (text) => Uint8Array.from(atob(text.replaceAll("\n", "")),
    (character) => character.charCodeAt(0));

  // Without the script of the file there is nothing to show: the static picture stays.
  if (small_gguf) mount("byte-map", (root, id) => new ByteMap(root, id, decoded(small_gguf)));
})();
