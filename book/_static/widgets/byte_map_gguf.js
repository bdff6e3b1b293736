/* A GGUF file, taken apart: every byte belongs to one field, and every field says what it means.

   gguf_parts(bytes) -> [{ group, name, start, end, fields: [{ start, end, words }] }] */

(function () {
  "use strict";

  const TENSOR_TYPES = { 0: "F32", 1: "F16", 2: "Q4_0", 8: "Q8_0" };
  const VALUE_TYPES = { 4: "uint32", 5: "int32", 6: "float32", 7: "bool", 8: "text", 9: "list" };
  const HALF_BYTES = 2, GROUP = 32;

  /* A 16-bit float: sign, 5 bits of exponent, 10 bits of fraction. */
  function half(bits) {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  class Reader {
    constructor(bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.at = 0;
      this.parts = [];
    }

    part(group, name) {
      this.parts.push({ group, name, start: this.at, end: this.at, fields: [] });
    }

    /* The next `n_bytes` are one field, which `words` explain. */
    field(n_bytes, words) {
      const part = this.parts.at(-1), start = this.at;
      this.at += n_bytes;
      part.end = this.at;
      part.fields.push({ start, end: this.at, words });
    }

    uint32(words) {
      const value = this.view.getUint32(this.at, true);
      this.field(4, words(value));
      return value;
    }

    uint64(words) {
      const value = Number(this.view.getBigUint64(this.at, true));
      this.field(8, words(value));
      return value;
    }

    text(what) {
      const n_bytes = this.uint64((n) => `${what}: how long it is, ${n} bytes`);
      const text = new TextDecoder().decode(this.bytes.subarray(this.at, this.at + n_bytes));
      this.field(n_bytes, `${what}: “${text}”`);
      return text;
    }

    value(type, what) {
      if (type === 8) this.text(what);
      else if (type === 4) this.uint32((value) => `${what}: ${value}`);
      else if (type === 5) this.field(4, `${what}: ${this.view.getInt32(this.at, true)}`);
      else if (type === 6) {
        this.field(4, `${what}: ${shown(this.view.getFloat32(this.at, true))}`);
      } else if (type === 7) this.field(1, `${what}: ${this.bytes[this.at] ? "true" : "false"}`);
      else {
        const inner = this.uint32((t) => `type of the elements: ${t}, ${VALUE_TYPES[t]}`);
        const n = this.uint64((count) => `how many elements: ${count}`);
        for (let i = 0; i < n; i += 1) this.value(inner, `element ${i}`);
      }
    }

    padding(end, why) {
      if (end > this.at) this.field(end - this.at, `padding: ${why}`);
    }
  }

  const shown = (number) => String(Number(number.toPrecision(4))).replace("-", "−");
  const aligned = (place) => Math.ceil(place / 32) * 32;

  function gguf_parts(bytes) {
    const reader = new Reader(bytes);
    reader.part("header", "header");
    reader.field(4, "the letters GGUF, by which a program knows the format");
    reader.uint32((version) => `version of the format: ${version}`);
    const n_tensors = reader.uint64((n) => `how many tensors: ${n}`);
    const n_entries = reader.uint64((n) => `how many entries of metadata: ${n}`);
    for (let i = 0; i < n_entries; i += 1) read_entry(reader);
    const tensors = [];
    for (let i = 0; i < n_tensors; i += 1) tensors.push(read_description(reader));
    reader.padding(aligned(reader.at), "the data begins at a multiple of 32");
    const data = reader.at;
    for (const tensor of tensors) read_data(reader, tensor, data);
    return reader.parts;
  }

  function read_entry(reader) {
    reader.part("metadata", "");
    reader.parts.at(-1).name = reader.text("key");
    const type = reader.uint32((t) => `type of the value: ${t}, ${VALUE_TYPES[t]}`);
    reader.value(type, "value");
  }

  function read_description(reader) {
    reader.part("list of tensors", "");
    const name = reader.text("name of the tensor"), sizes = [];
    reader.parts.at(-1).name = name;
    const n_sizes = reader.uint32((n) => `how many dimensions: ${n}`);
    for (let i = 0; i < n_sizes; i += 1) {
      sizes.push(reader.uint64((size) => `size ${i}${i === 0 ? ", the innermost" : ""}: ${size}`));
    }
    const type = reader.uint32((t) => `type of the numbers: ${t}, ${TENSOR_TYPES[t]}`);
    const offset = reader.uint64((n) => `where it begins: byte ${n} of the data`);
    return { name, sizes, type, offset };
  }

  function read_data(reader, { name, sizes, type, offset }, data) {
    const n_numbers = sizes.reduce((product, size) => product * size, 1);
    reader.part("data", name);
    const place = (i) => (sizes.length > 1
      ? `row ${Math.floor(i / sizes[0])}, column ${i % sizes[0]}` : `number ${i}`);
    for (let i = 0; i < n_numbers;) {
      if (type === 0) {
        const number = reader.view.getFloat32(reader.at, true);
        reader.field(4, `${place(i)}, a float32: ${shown(number)}`);
        i += 1;
        continue;
      }
      const scale = half(reader.view.getUint16(reader.at, true));
      reader.field(HALF_BYTES, `scale of the next ${GROUP} numbers, a float16: ${shown(scale)}`);
      for (let j = 0; j < GROUP; j += 1, i += 1) {
        const q = reader.view.getInt8(reader.at);
        reader.field(1, `${place(i)}: ${shown(q)} × ${shown(scale)} = ${shown(q * scale)}`);
      }
    }
    reader.padding(data + offset + aligned(reader.at - data - offset),
      "the next tensor begins at a multiple of 32");
  }

  Object.assign((window.TransformerLessons ??= {}), { gguf_parts });
})();
