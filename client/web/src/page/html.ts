/**
 * HTML: a page as a tree of elements, so that no text in it can be anything but text. No DOM is needed to write it.
 *
 *     written(e("p", { lang: "en" }, "by ", e("bdi", {}, "<b>Ann & Co</b>")))   <p lang="en">by <bdi>&lt;b&gt;Ann &amp; Co&lt;/b&gt;</bdi></p>
 */

/** Characters of a title that are shown. */
const MOST_TITLE = 160;
const NO_TEXT = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const VOID = ["input", "meta"];
const ESCAPED: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

export type Child = Element | string | null | readonly Child[];

/** An element; made by `e` alone. */
export class Element {
  constructor(
    readonly tag: string,
    readonly attributes: Readonly<Record<string, string | null>>,
    readonly children: readonly Child[],
  ) {}
}

/** An element; an attribute of null is left out. */
export function e(tag: string, attributes: Readonly<Record<string, string | null>> = {}, ...children: readonly Child[]): Element {
  return new Element(tag, attributes, children);
}

/** The text without characters that an HTML text can't have. */
export function clean(text: string): string {
  return text.replace(NO_TEXT, "\ufffd");
}

/** Somebody else's text, such as a title: on one line, of limited length, and in its own direction. */
export function titleElement(text: string): Element {
  const line = [...clean(text).split(/\s+/).filter(Boolean).join(" ")];
  return e("bdi", {}, line.length <= MOST_TITLE ? line.join("") : `${line.slice(0, MOST_TITLE - 1).join("")}…`);
}

/** Elements as HTML. */
export function toHtml(child: Child): string {
  if (child === null) return "";
  if (typeof child === "string") return escaped(child);
  if (!(child instanceof Element)) return child.map(toHtml).join("");
  const attributes = Object.entries(child.attributes).map(([name, value]) => (value === null ? "" : ` ${name}="${escaped(value)}"`));
  const begin = `<${child.tag}${attributes.join("")}>`;
  if (VOID.includes(child.tag)) return begin;
  const inner = child.tag === "style" ? child.children.join("") : toHtml(child.children);
  return `${begin}${inner}</${child.tag}>`;
}

/** Elements as nodes of a document: no text is parsed, so that no policy of a page has to allow it. */
export function built(child: Child, document: Document, space = "http://www.w3.org/1999/xhtml"): Node[] {
  if (child === null) return [];
  if (typeof child === "string") return [document.createTextNode(clean(child))];
  if (!(child instanceof Element)) return child.flatMap((each) => built(each, document, space));
  const own = child.tag === "svg" ? "http://www.w3.org/2000/svg" : space;
  const node = document.createElementNS(own, child.tag);
  for (const [name, value] of Object.entries(child.attributes)) if (value !== null) node.setAttribute(name, clean(value));
  node.append(...built(child.children, document, own));
  return [node];
}

function escaped(text: string): string {
  return clean(text).replace(/[&<>"]/g, (found) => ESCAPED[found]);
}
