/* What the reader of the page "Follow a text through the model" types, presses and chooses: the
   text, the model, and the bar that stays in view. */

(function () {
  "use strict";

  const { element, button, sampling, follow } = window.TransformerLessons;

  const EXAMPLES = {
    "a + ?": "def add(a, b):\n    return a +",
    "raise ?": "if not isinstance(name, str):\n    raise",
    "self.?": "def __init__(self, parent, child):\n    self.parent = parent\n    self.",
    "line.?": "for line in open(path):\n    line = line.",
  };
  const MODELS = {
    python_small: { label: "python-small", about: "3.1 million numbers",
      text: EXAMPLES["a + ?"], sampler: { ...sampling.PLAIN, temperature: 0.8, top_p: 0.95 } },
    first_model: { label: "fluctlight", about: "2,656 numbers", text: "ab",
      sampler: sampling.PLAIN },
  };
  class Form {
    /* `on` is what to call: type(), example(text), start(), choose(model), open(input), one(),
       on(), back(n). */
    constructor(id, on) {
      this.top = this.build_text(id, on);
      this.bar = this.build_bar(id, on);
    }

    build_text(id, on) {
      this.text = element("textarea", { id: `${id}-text`, rows: 3, dir: "auto", spellcheck: "false",
        autocapitalize: "none", autocomplete: "off" });
      this.text.addEventListener("input", on.type);
      const start = button("Follow this text", on.start);
      start.className = "tl-begin tl-primary";
      const examples = Object.entries(EXAMPLES).map(([label, example]) => {
        const made = button(label, () => on.example(example));
        made.classList.add("tl-example");
        return made;
      });
      this.trouble = element("p", { class: "tl-problem", role: "status" });
      this.output = element("pre", { class: "tl-output", dir: "auto", tabindex: 0, role: "region",
        "aria-label": "The text so far" });
      this.state = element("span", { class: "tl-note" });
      return element("div", { id: `${id}-top`, class: "tl-top" }, this.build_models(id, on),
        element("div", { class: "tl-text" },
          element("div", {}, element("label", { for: this.text.id }, "Your text"), this.text,
            this.trouble, element("div", { class: "tl-examples" },
              element("span", {}, "Examples:"), ...examples, start)),
          element("div", { class: "tl-when-live" }, element("p", { class: "tl-label" },
            "The text so far ", this.state), this.output)),
        this.build_outline());
    }

    build_models(id, on) {
      this.choices = {};
      const rows = Object.entries(MODELS).map(([name, { label, about }]) => {
        const input = element("input", { type: "radio", name: `${id}-model`, id: `${id}-${name}` });
        input.checked = name === "python_small";
        input.addEventListener("change", () => on.choose(name));
        input.addEventListener("keydown", (event) => event.stopPropagation());
        this.choices[name] = input;
        return element("label", { for: input.id }, input,
          element("span", {}, element("b", {}, label), ` ${about}`));
      });
      const file = element("input", { type: "file", id: `${id}-file`,
        accept: ".json,application/json" });
      file.addEventListener("change", () => on.open(file));
      this.about = element("p", { class: "tl-note", role: "status" }, "python-small was trained on "
        + "Python source code and runs in this page. It takes 4.4 MB, which come when you type or "
        + "press the button.");
      return element("fieldset", { class: "tl-models" },
        element("legend", { class: "tl-spoken" }, "The model"),
        element("span", { class: "tl-label", "aria-hidden": "true" }, "Model"), ...rows,
        element("p", { class: "tl-own" }, element("label", { for: file.id }, "your own"), file),
        this.about);
    }

    build_bar(id, on) {
      const titles = { top: "Text", pieces: "Tokens", rows: "Rows", blocks: "Blocks", norm: "Norm",
        scores: "Scores", choice: "Choice", numbers: "Numbers" };
      this.links = Object.entries(titles).map(([stage, title]) =>
        element("a", { href: `#${id}-${stage}` }, title));
      this.link_numbers = this.links.at(-1);
      this.next = element("span", { class: "tl-next-piece" });
      this.tail = element("span"); // the end of the text, in sight at every stage
      const one = button("Write one", on.one);
      one.append(" ", this.next);
      this.keep = button("Keep writing", on.on);
      this.undo = [button("Back", () => on.back(1)), button("Reset", () => on.back(Infinity))];
      return element("div", { class: "tl-bar-of-stages" },
        element("nav", { "aria-label": "Stages" }, ...this.links),
        element("div", { class: "tl-buttons" }, one, this.keep, ...this.undo),
        element("p", { class: "tl-tail", "aria-hidden": "true" }, this.tail));
    }

    /* What the reader will see, before a model is there. */
    build_outline() {
      const steps = { Tokens: "The text is cut into pieces, its tokens. Each has a number, its id.",
        Rows: "Each id picks a row of 192 numbers.", Blocks: "Six blocks add to the rows. In each, "
        + "six heads look back at earlier tokens.", Norm: "A norm brings the last row to size.",
        Scores: "The row is compared with all 4,096 tokens: a score for each.",
        Choice: "One token is chosen and put at the end. Then all begins again." };
      return element("ol", { class: "tl-outline" }, ...Object.entries(steps).map(([title, words]) =>
        element("li", {}, element("b", {}, title), words)));
    }

    /* Mark the stage that is in view in the bar. */
    watch(root) {
      const { links } = this;
      const mark = () => {
        const shown = links.map((link) => [link, document.getElementById(link.hash.slice(1))])
          .filter(([, stage]) => stage?.checkVisibility());
        const passed = shown.filter(([, stage]) => stage.getBoundingClientRect().top < 240);
        const current = (passed.at(-1) ?? shown[0])?.[0];
        for (const link of links) {
          if (link === current) link.setAttribute("aria-current", "step");
          else link.removeAttribute("aria-current");
        }
        if (current) current.parentElement.scrollLeft = current.offsetLeft - 80;
      };
      document.addEventListener("scroll", mark, { passive: true });
      new MutationObserver(mark).observe(root, { attributeFilter: ["class"] });
    }
  }

  Object.assign(follow, { Form, MODELS });
})();
