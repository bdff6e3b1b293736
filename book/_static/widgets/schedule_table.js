/* Runs in words and numbers. A run is { plan, rates, sum, path, heights }: what a plan leads to. */

(function () {
  "use strict";

  const { element, grouped, schedule, ravine } = window.TransformerLessons;

  const NAMES = { this: "this plan", kept: "kept plan" };
  const ROWS = {
    plan: "plan",
    rate: "rate at this step",
    height: "height of the ball",
    sum: "sum of all rates",
    highest: "mean height, at its highest",
    end: "mean height, at the end",
  };

  const rate_text = (rate) => String(Number(rate.toFixed(5))); // 0.030000 -> "0.03"
  const short = (number) => grouped(Number(number.toPrecision(3)));
  const last = (list) => list[list.length - 1];

  function run_of(plan) {
    const rates = schedule.rates_of(plan);
    return { plan, rates, sum: schedule.sum_of(rates), path: ravine.path(rates),
      heights: ravine.mean_heights(rates) };
  }

  /* The columns of the table: the reader's plan, and the kept one where there is one. */
  class PlanTable {
    constructor() {
      this.columns = Object.entries(NAMES).map(([kind, name]) => ({
        head: element("th", { scope: "col", class: `tl-${kind}` }, name),
        ...Object.fromEntries(Object.keys(ROWS).map((row) => [row, element("td")])),
      }));
      const row = ([name, text]) => element("tr", {}, element("th", { scope: "row" }, text),
        ...this.columns.map((cells) => cells[name]));
      this.element = element("table", { class: "tl-plans" },
        element("thead", {}, element("tr", {}, element("td"),
          ...this.columns.map((cells) => cells.head))),
        element("tbody", {}, ...Object.entries(ROWS).map(row)));
    }

    show(runs) {
      for (const [i, cells] of this.columns.entries()) {
        for (const cell of Object.values(cells)) cell.hidden = i >= runs.length;
        if (i >= runs.length) continue;
        cells.plan.textContent = plan_text(runs[i].plan);
        cells.sum.textContent = short(runs[i].sum);
        [cells.highest.textContent, cells.end.textContent] = mean_texts(runs[i]);
      }
    }

    show_step(runs, step) {
      for (const [i, run] of runs.entries()) {
        const { rate, height } = this.columns[i];
        rate.textContent = step < run.rates.length ? rate_text(run.rates[step]) : "run is over";
        const place = run.path[Math.min(step, run.rates.length - 1) + 1];
        height.textContent = place ? short(ravine.height(place)) : "thrown out";
      }
    }
  }

  /* The highest and the last mean height. What has once been lost in the sky doesn't count as back;
     where the numbers overflow, the highest is not a number. */
  function mean_texts({ heights }) {
    const highest = Math.max(...heights);
    if (!(highest < ravine.LOST)) return [`over ${grouped(ravine.LOST)}`, "thrown out"];
    return [short(highest), short(last(heights))];
  }

  function plan_text({ shape, steps, warmup_steps, max_lr, min_lr }) {
    const fall = shape === "constant" ? "" : ` to ${rate_text(min_lr)}`;
    return `${shape}, ${grouped(steps)} steps, warm-up ${grouped(warmup_steps)}, `
      + `${rate_text(max_lr)}${fall}`;
  }

  const described = (run) => `${plan_text(run.plan)}; the rates add up to ${short(run.sum)}; mean `
    + `height at the end: ${mean_texts(run)[1]}.`;

  /* A plan may climb to its end or into its fall: the package's schedules allow both. */
  function climb_remark({ plan: { shape, steps, warmup_steps, max_lr, min_lr }, rates }) {
    if (warmup_steps > steps) {
      return "The warm-up is longer than the run: the last step is at "
        + `${rate_text(last(rates))} of ${rate_text(max_lr)}.`;
    }
    if (shape !== "constant" && last(rates) !== min_lr) {
      return `The warm-up leaves no step for the fall: the last step is at `
        + `${rate_text(last(rates))}.`;
    }
    return "";
  }

  function flight_remark({ path, rates }) {
    return path.length > rates.length ? ""
      : `The ball is thrown out of the ravine at step ${grouped(path.length - 1)}.`;
  }

  /* Could a checkpoint of this step be one of the other run as well? */
  function checkpoint_note(run, kept, step) {
    const first = schedule.first_difference(run.rates, kept.rates);
    const shared = Math.min(run.rates.length, kept.rates.length);
    if (step < first) {
      return `Up to step ${grouped(step)} both plans have the same rates: a checkpoint of this `
        + "step belongs to both runs.";
    }
    const parted = first === shared ? "The two plans have the same rates as long as both run."
      : first === 0 ? "The two plans differ from the first step on."
      : `The two plans part at step ${grouped(first)}.`;
    return step < shared
      ? `${parted} A checkpoint of step ${grouped(step)} belongs to one run only: the other has `
        + "come here with other rates."
      : `${parted} At this step the shorter run is over.`;
  }

  Object.assign(window.TransformerLessons, {
    PlanTable, run_of, described, rate_text, climb_remark, flight_remark, checkpoint_note,
  });
})();
