/**
 * What keeps this page from being used by everyone, as sentences; none is the aim.
 * Of WCAG 2.2, what a program can see: names, landmarks, headings, ids, contrast, target sizes.
 */
() => {
  const problems = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility() && !element.closest(".unseen, .skip");
  const describe = (element) => element.outerHTML.slice(0, 80);
  const demand = (holds, problem) => holds || problems.push(problem);

  demand(document.documentElement.lang, "the page names no language");
  demand(document.title, "the page has no title");
  demand(all("h1").filter(shown).length === 1, "there is not just one h1");
  demand(all("main").length === 1, "there is not just one main");
  demand(all("body > header").length === 1, "there is not just one banner");

  const levels = all("h1, h2, h3, h4").filter(shown).map((heading) => Number(heading.tagName[1]));
  levels.reduce((above, level) => {
    demand(level <= above + 1, `a heading of level ${level} follows one of level ${above}`);
    return level;
  }, 0);

  // Names (1.1.1, 1.3.1, 4.1.2)
  const byIds = (element, attribute) =>
    (element.getAttribute(attribute) ?? "").split(" ").filter(Boolean)
      .map((id) => document.getElementById(id));
  for (const element of all("[aria-labelledby], [aria-describedby]"))
    for (const attribute of ["aria-labelledby", "aria-describedby"])
      demand(!byIds(element, attribute).includes(null), `${attribute} to nowhere: ${describe(element)}`);
  for (const element of all("input, button, a, summary, section, img")) {
    const label = [...(element.labels ?? [])].map((each) => each.textContent).join(" ");
    const referred = byIds(element, "aria-labelledby").map((each) => each.textContent).join(" ");
    const inside = element.matches("button, a, summary") ? element.textContent : "";
    const name = element.getAttribute("aria-label") || referred || label || inside;
    demand(name.trim() || element.hasAttribute("alt"), `it has no name: ${describe(element)}`);
  }
  const ids = all("[id]").map((element) => element.id);
  demand(new Set(ids).size === ids.length, "an id is used twice");
  demand(all("[tabindex]").every((each) => each.tabIndex <= 0), "a tabindex is above 0");

  // Contrast (1.4.3, 1.4.11)
  const channels = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const backgroundOf = (element) => {
    if (!element) return [255, 255, 255];
    const { rgb, alpha } = channels(getComputedStyle(element).backgroundColor);
    if (alpha === 1) return rgb;
    const below = backgroundOf(element.parentElement);
    return rgb.map((value, index) => value * alpha + below[index] * (1 - alpha));
  };
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const demandContrast = (element, style, least) => {
    const found = ratio(channels(style.color).rgb, backgroundOf(element));
    demand(found >= least, `contrast ${found.toFixed(2)} is under ${least}: ${describe(element)}`);
  };
  const hasText = (element) => [...element.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  for (const element of all("body *").filter(shown).filter(hasText)) {
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    demandContrast(element, style, isLarge ? 3 : 4.5);
  }
  for (const field of all("input").filter(shown)) {
    demandContrast(field, getComputedStyle(field), 4.5);
    demandContrast(field, getComputedStyle(field, "::placeholder"), 4.5);
    const edge = ratio(channels(getComputedStyle(field).borderColor).rgb, backgroundOf(field.parentElement));
    demand(edge >= 3, `the edge's contrast ${edge.toFixed(2)} is under 3: ${describe(field)}`);
  }

  // Target size (2.5.8), in CSS pixels
  for (const element of all("button, input, summary").filter(shown)) {
    const { width, height } = element.getBoundingClientRect();
    demand(width >= 24 && height >= 24, `${width} x ${height} is small to hit: ${describe(element)}`);
  }
  return problems;
}
