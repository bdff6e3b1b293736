/* The two pictures of the schedule explorer: rates against steps, and balls in a ravine. Their text
   and their markers are HTML, so that these keep their shape however wide the picture is. */

(function () {
  "use strict";

  const { element, svg_element, written, grouped, ravine } = window.TransformerLessons;

  const KINDS = ["tl-this", "tl-kept"]; // the first plan is the reader's, the second the kept one
  const TOP = 0.06; // the largest rate that the chart can show
  const WIDE = { left: -3.2, right: 4.6, top: 2.3 }; // the part of the ravine that is shown
  const LEVELS = [1, 6, 25, 60, 120, 200];
  const LAST = 25; // so many of a ball's last steps are drawn strongly

  const lines = (kinds) => kinds.map((kind) => svg_element("polyline", { class: kind }));
  const markers = () => KINDS.map((kind) => element("span", { class: `tl-marker ${kind}` }));
  const points = (places) => places.map((place) => place.join(",")).join(" ");

  /* A picture that fills its box, whatever the box's shape. */
  const picture = (view_box, shapes) => svg_element("svg", { role: "img", viewBox: view_box,
    preserveAspectRatio: "none" }, ...shapes);

  class RateChart {
    constructor() {
      this.lines = lines(KINDS);
      const limit = svg_element("line", { class: "tl-limit", x1: 0, x2: 100,
        y1: down(ravine.LIMIT), y2: down(ravine.LIMIT) });
      this.cursor = element("span", { class: "tl-cursor" });
      this.markers = markers();
      const name = element("span", { class: "tl-limit-name",
        style: `top: ${down(ravine.LIMIT)}%` }, `the walls’ limit, ${ravine.LIMIT}`);
      this.svg = picture("0 0 100 100", [limit, ...this.lines.toReversed()]);
      const box = element("div", { class: "tl-rates tl-framed" }, this.svg, name, this.cursor,
        ...this.markers.toReversed());
      this.last = element("span");
      const edges = [TOP, TOP / 2, 0].map((rate) => element("span", {}, String(rate)));
      this.figure = element("figure", { class: "tl-edged" },
        element("figcaption", {}, "The learning rate of each step"),
        element("div", { class: "tl-edges", "aria-hidden": "true" }, ...edges), box,
        element("div", { class: "tl-ticks", "aria-hidden": "true" }, element("span", {}, "0"),
          this.last));
    }

    /* `runs` holds the rates of one or two runs. */
    draw(runs, title) {
      this.longest = Math.max(...runs.map((rates) => rates.length));
      for (const [i, line] of this.lines.entries()) {
        const places = (runs[i] ?? []).map((rate, step) => [this.along(step), down(rate)]);
        line.setAttribute("points", points(places));
      }
      this.last.textContent = grouped(this.longest - 1);
      this.svg.setAttribute("aria-label", title);
    }

    point_at(runs, step) {
      this.cursor.style.left = `${this.along(step)}%`;
      for (const [i, marker] of this.markers.entries()) {
        const rate = runs[i]?.[step];
        marker.hidden = rate === undefined;
        marker.style.left = `${this.along(step)}%`;
        marker.style.top = `${down(rate ?? 0)}%`;
      }
    }

    along(step) {
      return (100 * step) / (this.longest - 1);
    }
  }

  const down = (rate) => 100 * (1 - rate / TOP); // percent of the chart's height, from its top

  class RavineView {
    constructor() {
      const { left, right, top } = WIDE;
      this.trails = lines(KINDS.map((kind) => `${kind} tl-trail`));
      this.ends = lines(KINDS);
      this.balls = markers();
      const [x_curvature, y_curvature] = ravine.CURVATURES;
      const levels = LEVELS.map((level) => svg_element("ellipse", {
        rx: Math.sqrt((2 * level) / x_curvature), ry: Math.sqrt((2 * level) / y_curvature) }));
      const bottom = element("span", { class: "tl-bottom", style: place_style([0, 0]),
        "aria-hidden": "true" }, "+");
      this.svg = picture(`${left} ${-top} ${right - left} ${2 * top}`,
        [...levels, ...this.trails.toReversed(), ...this.ends.toReversed()]);
      this.box = element("div", { class: "tl-ravine tl-framed" }, this.svg, bottom,
        ...this.balls.toReversed());
    }

    /* The balls of one or two runs, and where they were, after `step` + 1 updates. */
    draw(paths, step) {
      const words = [];
      for (const [i, ball] of this.balls.entries()) {
        const seen = (paths[i] ?? []).slice(0, step + 2);
        const shown = seen.map(([x, y]) => [x, -y]);
        this.trails[i].setAttribute("points", points(shown));
        this.ends[i].setAttribute("points", points(shown.slice(-LAST)));
        ball.hidden = seen.length === 0;
        if (ball.hidden) continue;
        ball.setAttribute("style", place_style(seen.at(-1)));
        words.push(`${["this plan’s", "the kept plan’s"][i]} ball is at ${spoken(seen.at(-1))}`);
      }
      this.svg.setAttribute("aria-label", `The ravine after step ${step}: ${words.join(", ")}`);
    }
  }

  /* A ball outside the picture stays at its edge. */
  function place_style([x, y]) {
    const { left, right, top } = WIDE;
    const percent = (part) => `${100 * Math.min(Math.max(part, 0), 1)}%`;
    return `left: ${percent((x - left) / (right - left))}; top: ${percent((top - y) / (2 * top))}`;
  }

  const spoken = ([x, y]) => `(${written(x)}, ${written(y)})`;

  Object.assign(window.TransformerLessons, { RateChart, RavineView });
})();
