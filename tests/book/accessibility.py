"""What axe finds on a page, and which texts hardly stand out from their ground."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def violations(
    page: Page, tags: tuple[str, ...] = (), judged: tuple[str, ...] = (), off: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    """[(rule, element)] for the rules of axe that the page breaks.

    With `tags`, the rules that have one of them, else all; without those in `off`. That the page
    has something for each rule in `judged` is checked.
    """
    options = {
        "preload": False,  # no requests for the styles
        "resultTypes": ["violations"],
        "rules": {rule: {"enabled": False} for rule in off},
        **({"runOnly": list(tags)} if tags else {}),
    }
    found = Axe().run(page, options=options).response
    assert set(judged) <= {rule["id"] for rule in found["passes"]}
    return [
        (rule["id"], node["html"][:120]) for rule in found["violations"] for node in rule["nodes"]
    ]


def take_colours_from_code(page: Page) -> None:
    """Make the coloured words of code plain text, for axe: on a page they are thousands.

    Of a `span` that has a class and nothing else axe can only judge the contrast, which takes it
    up to a minute a page. `faint_texts` judges it at once, and has to be asked before this.
    """
    page.evaluate(TAKE_COLOURS)


def faint_texts(page: Page, inside: str, least: float = 4.5) -> tuple[list, int]:
    """([[text, contrast]] that stand out less than `least`, number of texts looked at).

    Texts are what visible elements `inside` hold themselves; of each pair of colours, the first.
    """
    faint, n_texts = page.evaluate(FAINT, [inside, least])
    return faint, n_texts


TAKE_COLOURS = """() => {
  const is_bare = (e) => e.tagName === "SPAN" && e.getAttributeNames().every((n) => n === "class");
  for (const code of document.querySelectorAll("pre"))
    if ([...code.querySelectorAll("*")].every(is_bare)) code.textContent = code.textContent;
}"""

# By the formula of WCAG 2. The text of an SVG has its colour in `fill`.
FAINT = """([inside, least]) => {
  const numbers = (colour) => {
    if (!colour.startsWith("rgb")) throw new Error(`can't read the colour ${colour}`);
    return colour.match(/[0-9.]+/g).map(Number);
  };
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
  const grounds = new Map([[null, [255, 255, 255]]]);
  const ground = (element) => {
    if (!grounds.has(element)) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      grounds.set(element, over(colour, ground(element.parentElement)));
    }
    return grounds.get(element);
  };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (...colours) => {
    const lights = colours.map(light);
    return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
  };
  const has_text = (element) => element.matches("input[type=number]") || [...element.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  const shown = [...document.querySelectorAll(`:is(${inside}), :is(${inside}) *`)].filter(
    (element) => has_text(element) && element.checkVisibility() && !element.disabled);
  const texts = new Map();
  for (const element of shown) {
    const style = getComputedStyle(element);
    const colour = numbers(element.matches("svg text") ? style.fill : style.color);
    const under = ground(element);
    const pair = `${colour} on ${under}`;
    if (!texts.has(pair))
      texts.set(pair, [element.textContent, contrast(over(colour, under), under)]);
  }
  return [[...texts.values()].filter(([, found]) => found < least), shown.length];
}"""
