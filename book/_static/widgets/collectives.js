/* Collectives, step by step: four ranks pass chunks around a ring, in one go (DDP) or in its two
   halves (FSDP).

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/collectives.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/collectives.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="collectives"></div> */

(function () {
  "use strict";

  const { element, header, choices, button, mount } = window.TransformerLessons;

  const N = 4;
  const RANKS = [...Array(N).keys()];
  const GRADIENTS = [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [9, 7, 9, 3]]; // [rank][chunk]
  const WEIGHTS = [12, 27, 31, 48];
  const turned = (number) => ((number % N) + N) % N;

  /* A cell is { value, ranks: how many ranks have added to it, sent: whether it just came }. */
  const copied = (grid) => grid.map((row) => row.map((cell) => cell && { ...cell, sent: false }));

  /* The grid after one step round the ring, in which rank r sends the chunk chunk_of(r). */
  function passed(grid, chunk_of, adds) {
    const next = copied(grid);
    for (const rank of RANKS) {
      const chunk = chunk_of(rank);
      const [from, to] = [grid[rank][chunk], grid[turned(rank + 1)][chunk]];
      next[turned(rank + 1)][chunk] = adds
        ? { value: from.value + to.value, ranks: from.ranks + to.ranks, sent: true }
        : { ...from, sent: true };
    }
    return next;
  }

  const gradients = () => GRADIENTS.map((row) => row.map((value) => ({ value, ranks: 1 })));

  /* FSDP: each rank has the chunk of the weights that it will have the summed gradient of. */
  const shards = () => RANKS.map((rank) =>
    RANKS.map((chunk) => (chunk === turned(rank + 1) ? { value: WEIGHTS[chunk], ranks: N } : null)));

  /* The states of a way to train: what they show, in words, and what a rank holds, in chunks. */
  function states(way) {
    const made = [];
    const add = (grid, what, text, held) => made.push({ grid, what, text, held });
    const half = (grid, name, what, chunk_of, adds, held) => {
      let now = grid;
      for (let step = 1; step < N; step += 1) {
        now = passed(now, (rank) => turned(chunk_of(rank) - step + 1), adds);
        add(now, what, `${name}, step ${step} of ${N - 1}.`, held(step));
      }
      return now;
    };
    const all = { weights: N, gradients: N, averages: 2 * N };
    if (way === "DDP") {
      add(gradients(), "gradients", "Each rank has a gradient of its own rows.", all);
      const sums = half(made[0].grid, "Reduce-scatter", "gradients", (r) => r, true, () => all);
      const whole = half(sums, "All-gather", "gradients", (r) => r + 1, false, () => all);
      add(copied(whole), "gradients", "All have the sum, and each updates all weights.", all);
      return made;
    }
    const own = { weights: 1, gradients: 1, averages: 2 };
    add(shards(), "weights", "Each rank holds one chunk of the weights.", own);
    half(made[0].grid, "All-gather", "weights", (r) => r + 1, false,
      (step) => ({ ...own, weights: 1 + step }));
    add(gradients(), "gradients", "With whole weights, each has computed a gradient of its rows.",
      { weights: N, gradients: N, averages: 2 });
    const sums = half(gradients(), "Reduce-scatter", "gradients", (r) => r, true,
      () => ({ ...own, gradients: N }));
    const kept = sums.map((row, rank) =>
      row.map((cell, chunk) => (chunk === turned(rank + 1) ? { ...cell, sent: false } : null)));
    add(kept, "gradients", "Each has one chunk of the sum, and updates its own weights.", own);
    return made;
  }

  class Collectives {
    constructor(root, id) {
      this.build(root, id);
      this.choose("DDP");
    }

    choose(way) {
      this.way = way;
      this.states = states(way);
      this.move_to(0);
    }

    move_to(place) {
      this.place = place;
      const { grid, what, text, held } = this.states[place];
      this.back.disabled = place === 0;
      this.forward.disabled = place === this.states.length - 1;
      const sent = this.states.slice(0, place + 1)
        .filter((state) => state.grid[0].some((cell) => cell?.sent)).length;
      this.summary.textContent = `${text} Chunks sent by each rank: ${sent}.`;
      this.caption.textContent = `${this.way}: ${what} of four ranks, in four chunks`;
      for (const rank of RANKS) {
        for (const chunk of RANKS) this.show_cell(this.cells[rank][chunk], grid[rank][chunk]);
        this.show_memory(this.bars[rank], held);
      }
    }

    show_cell(place, cell) {
      place.className = cell ? (cell.sent ? "tl-sent" : "") : "tl-none";
      const note = !cell ? "not held" : this.states[this.place].what === "weights" ? "weights"
        : `${cell.ranks} of ${N} ranks`;
      place.replaceChildren(element("span", { class: "tl-value" }, cell ? `${cell.value}` : "–"),
        element("span", { class: "tl-share", style: `width: ${cell ? 25 * cell.ranks : 0}%` }),
        element("span", { class: "tl-of" }, note));
    }

    show_memory(bar, held) {
      const total = held.weights + held.gradients + held.averages;
      bar.replaceChildren(
        ...Object.entries(held).map(([name, size]) => element("span",
          { class: `tl-held tl-${name}`, style: `width: ${(100 * size) / (4 * N)}%` })),
        element("span", { class: "tl-of" }, `${total} of ${4 * N}`));
    }

    // ---- The elements, once ---------------------------------------------------------------------

    build(root, id) {
      this.back = button("Back", () => this.step(-1, this.forward));
      this.forward = button("Next step", () => this.step(1, this.back));
      this.summary = element("p", { class: "tl-summary", role: "status" });
      const heading = header("Round the ring",
        "rank r sends to rank r + 1, the last one to rank 0");
      const legend = element("p", { class: "tl-note" }, "Held by each rank, in chunks: ",
        ...["weights", "gradients", "averages"].flatMap((name) =>
          [element("span", { class: `tl-key tl-${name}` }), ` ${name}  `]));
      root.replaceChildren(heading, this.build_choice(id),
        element("div", { class: "tl-buttons" }, this.back, this.forward,
          button("Start over", () => this.move_to(0))),
        this.summary, this.build_table(), legend);
    }

    /* Who presses a button until it is disabled goes on from the other one. */
    step(by, other) {
      this.move_to(this.place + by);
      if (this.back.disabled || this.forward.disabled) other.focus();
    }

    build_choice(id) {
      return choices(`${id}-way`, "How they train", [["DDP", "DDP"], ["FSDP", "FSDP"]],
        (way) => this.choose(way));
    }

    build_table() {
      this.caption = element("caption");
      this.cells = RANKS.map(() => RANKS.map(() => element("td")));
      this.bars = RANKS.map(() => element("td", { class: "tl-memory" }));
      const head = element("tr", {}, element("th", { scope: "col" }, "rank"),
        ...RANKS.map((chunk) => element("th", { scope: "col" }, `chunk ${chunk}`)),
        element("th", { scope: "col" }, "memory"));
      const rows = RANKS.map((rank) => element("tr", {},
        element("th", { scope: "row" }, `${rank}`), ...this.cells[rank], this.bars[rank]));
      return element("table", { class: "tl-ring" }, this.caption,
        element("thead", {}, head), element("tbody", {}, ...rows));
    }
  }

  mount("collectives", (root, id) => new Collectives(root, id));
})();
