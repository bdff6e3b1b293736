/* A plane with arrows from its origin: what the explorers draw pairs of numbers in. An arrow can
   have a handle at its tip, to be dragged, or moved by the arrow keys. */

(function () {
  "use strict";

  const { svg_element } = window.TransformerLessons;

  const STEP = 0.1; // a dragged arrow ends at a multiple of it
  const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  class Plane {
    /* The first arrows have the `handles` [{ name, kind, move }]: `move([x, y])` is called. */
    constructor(handles = []) {
      this.shapes = svg_element("g");
      this.handles = handles.map((handle) => this.build_handle(handle));
      this.svg = svg_element("svg", { class: "tl-plane", role: handles.length ? "group" : "img" },
        this.shapes, ...this.handles);
    }

    build_handle({ name, kind, move }) {
      const handle = svg_element("circle", { class: `tl-handle ${kind}`, tabindex: 0,
        role: "slider", "aria-label": name });
      const move_to = (place) => move(place.map((number) => {
        const { start, end } = this.view;
        const rounded = STEP * Math.round(Math.min(Math.max(number, start), end) / STEP);
        return Number(rounded.toFixed(1));
      }));
      handle.addEventListener("pointerdown", (event) => {
        handle.setPointerCapture(event.pointerId);
        this.held = this.view; // the axes stay as long as it is held
      });
      handle.addEventListener("pointermove", (event) => {
        if (!this.held) return;
        const { x, y } = new DOMPoint(event.clientX, event.clientY)
          .matrixTransform(this.svg.getScreenCTM().inverse());
        move_to([x, -y]);
      });
      handle.addEventListener("lostpointercapture", () => {
        this.held = null;
        this.draw(this.picture);
      });
      handle.addEventListener("keydown", (event) => {
        const step = KEYS[event.key];
        if (!step) return;
        event.preventDefault();
        const { to } = this.picture.arrows[this.handles.indexOf(handle)];
        move_to(to.map((number, i) => number + STEP * step[i]));
      });
      return handle;
    }

    /* Arrows are { to: [x, y], label, kind }: `kind` is a class of the style sheet. Both axes run
       from `low` to `high`; `title` says in words what is to be seen, and `text` is the size of the
       labels, as a part of half an axis. */
    draw(picture) {
      this.picture = picture;
      const { title, arrows, triangle = [], text = 0.2 } = picture;
      const { low, high } = this.held ?? picture;
      const half = (high - low) / 2;
      const view = { low, high, size: text * half, edge: 0.25 * half, tip: 0.14 * half };
      const [start, end] = [low - view.edge, high + view.edge];
      this.view = { low, high, start, end };
      this.svg.setAttribute("viewBox", `${start} ${-end} ${end - start} ${end - start}`);
      this.svg.setAttribute("aria-label", title);
      const axis = (ends) => svg_element("line", { class: "tl-axis", ...ends });
      const shapes = [axis({ x1: start, x2: end }), axis({ y1: -end, y2: -start })];
      if (triangle.length) {
        const corners = [[0, 0], ...triangle].map(on_screen).join(" ");
        shapes.push(svg_element("polygon", { class: "tl-between", points: corners }));
      }
      for (const [i, handle] of this.handles.entries()) {
        const { to: [x, y] } = arrows[i];
        for (const [name, value] of Object.entries({ cx: x, cy: -y, r: view.edge / 2,
          "aria-valuenow": x, "aria-valuetext": `(${x.toFixed(1)}, ${y.toFixed(1)})` })) {
          handle.setAttribute(name, value);
        }
      }
      this.shapes.replaceChildren(...shapes, ...arrows.map((each) => arrow(each, view)),
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
