/* The pictures of train_here.js: the loss as it falls, attention as squares, letters in a plane. */

(function () {
  "use strict";

  const { element, svg_element, byte_label, byte_name } = window.TransformerLessons;

  const CURVE = { width: 340, height: 192, left: 30, right: 8, top: 10, bottom: 20 };
  const INVITATION = ["Press Train. In a few seconds the loss falls", "from the upper line to the lowest,",
    "and the noise below turns into your pattern."];
  const LEVELS = 8; // shades of a weight
  const PLANE = { size: 120, reach: 1.25 }; // of the numbers, from the middle to the edge

  class LossCurve {
    constructor() {
      const { width, height } = CURVE;
      this.floors = svg_element("g");
      this.line = svg_element("path", { class: "tl-curve" });
      this.mark = svg_element("circle", { class: "tl-now", r: 4 });
      this.invitation = svg_element("g", {}, ...INVITATION.map((line, i) => svg_element("text", {
        class: "tl-invitation", x: (width + CURVE.left) / 2, y: 68 + 17 * i,
        "text-anchor": "middle" }, line)));
      this.element = svg_element("svg", { class: "tl-chart", viewBox: `0 0 ${width} ${height}`,
        role: "img" }, this.floors, this.invitation, this.line, this.mark);
    }

    /* Before the run: its axes, the losses of a model that knows nothing, or only the letters. */
    begin(pattern, n_steps) {
      this.n_steps = n_steps;
      this.highest = Math.log(256) * 1.1;
      const n_letters = new Set(pattern).size;
      const levels = [[Math.log(256), "ln 256: knows nothing"], [0, ""]];
      if (n_letters > 1) {
        levels.push([Math.log(n_letters), `ln ${n_letters}: knows the letters, not their order`]);
      }
      const label = (x, y, text, anchor) =>
        svg_element("text", { x, y, "text-anchor": anchor }, text);
      const below = CURVE.height - CURVE.bottom + 15;
      const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
        const step = Math.round(share * n_steps);
        return share < 1 ? label(this.x(step), below, step, "middle")
          : label(this.x(step), below, `${step} steps`, "end");
      });
      ticks.push(label(CURVE.left - 4, this.y(3) + 4, "loss", "end"));
      this.floors.replaceChildren(...ticks, ...levels.flatMap(([loss, name]) => {
        const y = this.y(loss);
        const right = CURVE.width - CURVE.right;
        return [
          svg_element("path", { class: "tl-floor", d: `M${CURVE.left} ${y}H${right}` }),
          label(CURVE.left - 4, y + 4, loss.toFixed(1), "end"),
          label(right, y - 4, name, "end"),
        ];
      }));
    }

    show(losses, n) {
      const points = losses.map((loss, i) => `${this.x(i + 1)} ${this.y(loss)}`);
      this.line.setAttribute("d", points.length ? `M${points.join("L")}` : "");
      this.invitation.classList.toggle("tl-blank", points.length > 0);
      const loss = losses[n - 1] ?? losses[0] ?? Math.log(256);
      this.mark.setAttribute("cx", this.x(n));
      this.mark.setAttribute("cy", this.y(loss));
      const said = losses.length ? `from ${losses[0].toFixed(2)} to ${losses.at(-1).toFixed(2)}`
        : "not started";
      this.element.setAttribute("aria-label",
        `The loss over ${this.n_steps} steps: ${said}; ${loss.toFixed(2)} at step ${n}.`);
    }

    x(step) {
      const { width, left, right } = CURVE;
      return Math.round(10 * (left + (step / this.n_steps) * (width - left - right))) / 10;
    }

    y(loss) {
      const { height, top, bottom } = CURVE;
      const share = Math.min(loss / this.highest, 1.1);
      return Math.round(10 * (height - bottom - share * (height - top - bottom))) / 10;
    }
  }

  /* The weights of one head: a row for each letter that looks, darker where it looks more. */
  class AttentionPicture {
    constructor(layer, head) {
      this.name = `Layer ${layer + 1}, head ${head + 1}`;
      this.paths = Array.from({ length: LEVELS }, (_, level) =>
        svg_element("path", { class: "tl-weight", "fill-opacity": (level + 1) / LEVELS }));
      this.image = svg_element("svg", { role: "img", class: "tl-square" }, ...this.paths);
      this.element = element("figure", {}, this.image,
        element("figcaption", {}, `${layer + 1}.${head + 1}`));
    }

    show(weights, n_tokens) {
      const squares = this.paths.map(() => "");
      const by_distance = new Float64Array(n_tokens);
      weights.forEach((weight, i) => {
        const [query, key] = [Math.floor(i / n_tokens), i % n_tokens];
        by_distance[Math.max(query - key, 0)] += weight / n_tokens;
        const level = Math.round(weight * LEVELS) - 1;
        if (level >= 0) squares[level] += `M${key} ${query}h1v1h-1z`;
      });
      this.paths.forEach((path, level) => path.setAttribute("d", squares[level]));
      this.image.setAttribute("viewBox", `0 0 ${n_tokens} ${n_tokens}`);
      const most = by_distance.indexOf(Math.max(...by_distance));
      const where = most === 0 ? "itself" : `the letter ${most} before it`;
      this.image.setAttribute("aria-label", `${this.name}: a letter looks most at ${where}, `
        + `with ${Math.round(100 * by_distance[most])}% of its attention.`);
    }
  }

  /* Two of the four numbers of each letter, as a point. */
  class LetterPlane {
    constructor(across, up) {
      this.numbers = [across, up];
      const middle = PLANE.size / 2;
      const axes = svg_element("path", { class: "tl-axis",
        d: `M0 ${middle}H${PLANE.size}M${middle} 0V${PLANE.size}` });
      this.letters = svg_element("g");
      this.image = svg_element("svg", { role: "img", class: "tl-square",
        viewBox: `0 0 ${PLANE.size} ${PLANE.size}` }, axes, this.letters);
      this.element = element("figure", {}, this.image,
        element("figcaption", {}, `numbers ${across + 1} and ${up + 1}`));
    }

    show(bytes, embedding) {
      const points = bytes.map((byte) => [byte, ...this.numbers.map((number) =>
        embedding.data[byte * embedding.columns + number])]);
      const place = (number) => {
        const share = Math.max(-0.92, Math.min(number / PLANE.reach, 0.92));
        return (PLANE.size / 2) * (1 + share);
      };
      this.letters.replaceChildren(...points.map(([byte, x, y]) =>
        svg_element("text", { x: place(x), y: place(-y), "text-anchor": "middle" },
          byte_label(byte))));
      this.image.setAttribute("aria-label", points.map(([byte, x, y]) =>
        `${byte_name(byte)} at ${x.toFixed(1)}, ${y.toFixed(1)}`).join("; "));
    }
  }

  Object.assign(window.TransformerLessons, { LossCurve, AttentionPicture, LetterPlane });
})();
