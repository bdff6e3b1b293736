/* What the BPE stepper is made of: tokens in boxes, as they are seen and as they are read out;
   merges and ties in words; a line chart. */

(function () {
  "use strict";

  const { element, svg_element, written, grouped, bpe } = window.TransformerLessons;

  const plural = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;
  const times = (n) => ["never", "once", "twice"][n] ?? `${grouped(n)} times`;

  // ---- How tokens are written and read out ------------------------------------------------------

  const decoder = new TextDecoder();
  const SIGNS = { " ": ["␣", "space"], "\n": ["↵", "line break"], "\t": ["⇥", "tab"] };

  /* [{ shown, said, is_byte }, ...]: the characters of a token. A byte that is no part of a whole,
     visible character is its number in hexadecimal. */
  function characters(token) {
    const found = [];
    for (let i = 0; i < token.length; ) {
      const [character, length] = character_at(token, i);
      const stands_on = found.at(-1)?.is_byte === false;
      found.push(character ? as_character(character, stands_on) : as_byte(token.charCodeAt(i)));
      i += length;
    }
    return found;
  }

  /* An accent that no letter before it carries stands on a dotted circle. */
  function as_character(character, stands_on) {
    const [shown, said] = SIGNS[character] ?? [character, character];
    const is_alone = /\p{M}/u.test(character) && !stands_on;
    return { shown: is_alone ? `◌${shown}` : shown, said, is_byte: false };
  }

  function as_byte(byte) {
    const shown = byte.toString(16).toUpperCase().padStart(2, "0");
    return { shown, said: `byte ${shown}`, is_byte: true };
  }

  /* The visible character that begins at byte `i`, and its length; or "" and 1. */
  function character_at(token, i) {
    const first = token.charCodeAt(i);
    const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    const bytes = token.slice(i, i + length);
    const text = decoder.decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
    const is_whole = [...text].length === 1 && bpe.utf8_bytes(text) === bytes;
    const is_visible = Object.hasOwn(SIGNS, text) || !/[\p{C}\p{Z}]/u.test(text);
    return is_whole && is_visible ? [text, length] : ["", 1];
  }

  /* " low" -> "space low" */
  function said(token) {
    const parts = characters(token).map(({ shown, said: name }) =>
      (shown === name ? name : ` ${name} `));
    return parts.join("").replace(/ +/g, " ").trim();
  }

  // ---- Boxes ------------------------------------------------------------------------------------

  /* What is seen, and beside it what a screen reader says in its place. */
  function told(words, ...seen) {
    return element("span", { class: "tl-told" }, element("span", { class: "tl-spoken" }, words),
      element("span", { class: "tl-seen", "aria-hidden": "true" }, ...seen));
  }

  function box(token, kind = "") {
    const made = element("span", { class: `tl-box ${kind}` });
    for (const { shown, is_byte } of characters(token)) {
      made.append(is_byte ? element("span", { class: "tl-hex" }, shown) : shown);
    }
    return made;
  }

  const named = (token) => told(said(token), box(token));

  /* One chunk: how often, and its tokens; those that the next merge joins stand in one frame. */
  function chunk_row({ tokens, count }, { made, next }) {
    const boxes = [];
    const each = (token) => box(token, token === made ? "tl-new" : "");
    for (let i = 0; i < tokens.length; i++) {
      const joins = next && tokens[i] === next[0] && tokens[i + 1] === next[1];
      boxes.push(joins
        ? element("span", { class: "tl-next" }, each(tokens[i]), each(tokens[i + 1]))
        : each(tokens[i]));
      if (joins) i += 1;
    }
    const words = `${times(count)}: ${tokens.map(said).join(", ")}`;
    return element("li", {}, told(words,
      element("span", { class: "tl-times" }, `${grouped(count)} ×`), ...boxes));
  }

  // ---- In words ---------------------------------------------------------------------------------

  const size_in_words = (n_bytes, n_tokens) => `${plural(n_bytes, "byte")} in `
    + `${plural(n_tokens, "token")}, ${written(n_bytes / n_tokens)} bytes per token`;

  const merge_in_words = ({ pair: [left, right], count }, i) => `Merge ${grouped(i + 1)}, id `
    + `${256 + i}: ${said(left)} and ${said(right)}, ${times(count)}`;

  /* Why the first of `pairs` comes before the second, where their counts are the same. */
  function tie_in_words([winner, other, ...rest]) {
    if (!winner) return ["No pair is left: each chunk is one token."];
    const by_heart = winner.count === 1 ? " From here on, merges learn this text by heart." : "";
    if (winner.count !== other?.count) return [by_heart];
    const n_tied = 2 + rest.filter(({ count }) => count === winner.count).length;
    const is_left = winner.pair[0] !== other.pair[0];
    const [greater, less] = [winner, other].map(({ pair }) => pair[is_left ? 0 : 1]);
    const i = [...greater].findIndex((byte, at) => byte !== less[at]);
    return [`${n_tied} pairs occur ${times(winner.count)}. Same count: the greater pair wins. `,
      is_left ? "Left tokens are compared first: " : "The left tokens are the same; of the right, ",
      named(greater), ...(i < less.length
        ? [` has byte ${greater.charCodeAt(i)} where `, named(less), ` has ${less.charCodeAt(i)}.`]
        : [" begins with all of ", named(less), " and goes on."]), by_heart];
  }

  // ---- A line chart -----------------------------------------------------------------------------

  /* A line through one number for each merge, from before the first. */
  class Chart {
    constructor() {
      this.svg = svg_element("svg", { class: "tl-chart", role: "img", viewBox: "0 0 340 122" });
    }

    draw(numbers) {
      const [left, right, top, bottom] = [30, 330, 18, 90];
      const across = ticks(Math.max(numbers.length - 1, 10), 5);
      const up = ticks(Math.max(...numbers, 2), 4);
      const x = (n) => left + ((right - left) * n) / across.at(-1);
      const y = (number) => bottom - ((bottom - top) * number) / up.at(-1);
      const text = (content, attributes) => svg_element("text", attributes, content);
      const last = { x: x(numbers.length - 1), y: y(numbers.at(-1)) };
      const points = numbers.map((number, n) => `${x(n)},${y(number)}`).join(" ");
      this.svg.setAttribute("aria-label", `Bytes per token: ${written(numbers[0])} before the `
        + `first merge, ${written(numbers.at(-1))} after ${plural(numbers.length - 1, "merge")}`);
      this.svg.replaceChildren(
        ...up.map((n) => svg_element("line", { class: "tl-axis", x1: left, x2: right,
          y1: y(n), y2: y(n) })),
        ...up.map((n) => text(grouped(n), { x: left - 6, y: y(n) + 4, "text-anchor": "end" })),
        ...across.map((n) =>
          text(grouped(n), { x: x(n), y: bottom + 14, "text-anchor": "middle" })),
        text("merges", { x: right, y: bottom + 27, "text-anchor": "end" }),
        svg_element("polyline", { class: "tl-curve", points }),
        svg_element("circle", { class: "tl-dot", cx: last.x, cy: last.y, r: 3.5 }),
        text(written(numbers.at(-1)), { class: "tl-now", x: last.x, y: last.y - 8,
          "text-anchor": last.x < (left + right) / 2 ? "start" : "end" }));
    }
  }

  /* 0, one step, two steps, ... to `most` or beyond, in at most `n` steps of 1, 2, 5, 10, ... */
  function ticks(most, n) {
    const power = 10 ** Math.floor(Math.log10(most / n));
    const step = Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((s) => s * n >= most));
    return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
  }

  window.TransformerLessons.bpe_pieces = {
    plural, characters, said, told, box, chunk_row, size_in_words, merge_in_words, tie_in_words,
    Chart,
  };
})();
