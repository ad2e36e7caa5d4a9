// Elements without markup: all text goes in as text, so whatever a file is called stays a name.

const SVG = "http://www.w3.org/2000/svg";

/// Makes an element: h("a.name#id", { href: "#/" }, "text", child, [children], null).
export function h(tag, ...rest) {
  return make((name) => document.createElement(name), tag, rest);
}

/// The same for a piece of a drawing.
export function s(tag, ...rest) {
  return make((name) => document.createElementNS(SVG, name), tag, rest);
}

function make(create, tag, rest) {
  const [name, ...classes] = tag.split(".");
  const element = create(name || "div");
  if (classes.length > 0) element.setAttribute("class", classes.join(" "));
  const [first] = rest;
  const isAttributes = first && typeof first === "object" && !(first instanceof Node) && !Array.isArray(first);
  if (isAttributes) {
    for (const [key, value] of Object.entries(rest.shift())) set(element, key, value);
  }
  add(element, rest);
  return element;
}

function set(element, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key === "style") Object.entries(value).forEach(([name, text]) => element.style.setProperty(name, text));
  else if (value === true) element.setAttribute(key, "");
  else element.setAttribute(key, String(value));
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/// Makes `target` look like the fresh children with as few changes as may be, so that focus, selection, scrolling and
/// what a reader is listening to survive an update that comes four times a second.
export function update(target, ...children) {
  const fresh = document.createDocumentFragment();
  add(fresh, children);
  morphChildren(target, fresh);
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function morphChildren(target, fresh) {
  const keyed = new Map();
  for (const node of target.childNodes) {
    const key = keyOf(node);
    if (key !== null) keyed.set(key, node);
  }
  let current = target.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = keyOf(next);
    let match = current;
    if (key !== null) {
      match = keyed.get(key);
      if (match && match !== current) target.insertBefore(match, current);
    }
    if (match && isSame(match, next)) {
      if (match === current) current = current.nextSibling;
      morph(match, next);
    } else {
      target.insertBefore(next, current);
    }
  }
  while (current) {
    const gone = current;
    current = current.nextSibling;
    gone.remove();
  }
}

function isSame(old, next) {
  if (old.nodeType !== next.nodeType || keyOf(old) !== keyOf(next)) return false;
  // Handlers belong to what they were made for, so an element with handlers has a key or is left as it is.
  return old.nodeType !== Node.ELEMENT_NODE || old.tagName === next.tagName;
}

function morph(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
    return;
  }
  // A part that keeps itself, such as a chart or a form, is not touched.
  if (old.hasAttribute("data-keep")) return;
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) === value) continue;
    // The page's policy forbids style attributes from text, and allows the same through the object model.
    if (name === "style") old.style.cssText = value;
    else old.setAttribute(name, value);
  }
  morphChildren(old, next);
}

/// One handler for all elements below `root` that name an action: data-act="pause" data-of="7". Updates replace
/// elements, and the handler stays.
export function actions(root, handlers) {
  root.addEventListener("click", (event) => {
    const element = event.target.closest("[data-act]");
    if (!element || !root.contains(element) || element.disabled) return;
    const handler = handlers[element.dataset.act];
    if (handler) handler(element.dataset.of, element);
  });
}
