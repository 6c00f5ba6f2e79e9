/** Files that the bundler puts into the page's module: the catalogues and the style of Python's page. */

declare module "*.json" {
  const catalogue: unknown;
  export default catalogue;
}

declare module "*.css" {
  const style: string;
  export default style;
}
