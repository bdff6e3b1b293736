/* A plane with arrows from its origin: what the explorers draw pairs of numbers in. */

(function () {
  "use strict";

  const { svg_element } = window.TransformerLessons;

  class Plane {
    constructor() {
      this.svg = svg_element("svg", { class: "tl-plane", role: "img" });
    }

    /* Arrows are { to: [x, y], label, kind }: `kind` is a class of the style sheet. Both axes run
       from `low` to `high`; `title` says in words what is to be seen, and `text` is the size of the
       labels, as a part of half an axis. */
    draw({ low, high, title, arrows, triangle = [], text = 0.2 }) {
      const half = (high - low) / 2;
      const view = { low, high, size: text * half, edge: 0.25 * half, tip: 0.14 * half };
      const [start, end] = [low - view.edge, high + view.edge];
      this.svg.setAttribute("viewBox", `${start} ${-end} ${end - start} ${end - start}`);
      this.svg.setAttribute("aria-label", title);
      const axis = (ends) => svg_element("line", { class: "tl-axis", ...ends });
      const shapes = [axis({ x1: start, x2: end }), axis({ y1: -end, y2: -start })];
      if (triangle.length) {
        const corners = [[0, 0], ...triangle].map(on_screen).join(" ");
        shapes.push(svg_element("polygon", { class: "tl-between", points: corners }));
      }
      this.svg.replaceChildren(...shapes, ...arrows.map((each) => arrow(each, view)),
        ...shared_labels(arrows, view.size).map((each) => label(each, view)));
    }
  }

  // On screens y grows downwards.
  const on_screen = ([x, y]) => [x, -y];

  function arrow({ to, kind }, { tip }) {
    const [x, y] = on_screen(to);
    const length = Math.hypot(x, y);
    return svg_element("g", { class: kind }, ...(length === 0
      ? [svg_element("circle", { class: "tl-tip", r: 0.4 * tip })]
      : shaft_and_tip(x, y, length, Math.min(tip, length))));
  }

  function shaft_and_tip(x, y, length, tip) {
    const [ux, uy] = [x / length, y / length]; // one step along the arrow
    const [bx, by] = [x - tip * ux, y - tip * uy];
    const half = 0.4 * tip;
    const corners = [[x, y], [bx - half * uy, by + half * ux], [bx + half * uy, by - half * ux]];
    return [
      svg_element("line", { class: "tl-shaft", x1: 0, y1: 0, x2: bx, y2: by }),
      svg_element("polygon", { class: "tl-tip", points: corners.join(" ") }),
    ];
  }

  /* Arrows that end closer together than a letter share a label: [[x, y], "one, other"]. */
  function shared_labels(arrows, size) {
    const found = [];
    for (const { to: [x, y], label: name } of arrows) {
      if (!name) continue;
      const near = found.find(([to]) => Math.hypot(x - to[0], y - to[1]) < size);
      if (near) near[1] += `, ${name}`;
      else found.push([[x, y], name]);
    }
    return found;
  }

  /* Above the tip, or below it where the arrow points down; near the sides it grows inwards. */
  function label([to, name], { low, high, size, edge }) {
    const [x, y] = on_screen(to);
    const place = (x - low) / (high - low);
    const [anchor, shift] = place > 0.8 ? ["end", 0.7] : place < 0.2 ? ["start", -0.7]
      : ["middle", 0];
    return svg_element("text", { x: x + shift * edge, y: y + (y > 0 ? 0.8 : -0.8) * size,
      "font-size": size, "text-anchor": anchor }, name);
  }

  window.TransformerLessons.Plane = Plane;
})();
