// The optimiser of what ships, which the tests go through, too: no switch of it is one that its makers call unsafe.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { transform } from "esbuild";
import { rollup } from "rollup";
import { minify } from "terser";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const tsconfigRaw = readFileSync(join(HERE, "tsconfig.json"), "utf8");

/** TypeScript of src/, and the packages that it needs. */
const sources = {
  name: "sources",
  resolveId(wanted, from) {
    if (wanted.startsWith("node:")) return { id: wanted, external: true };
    if (wanted.startsWith(".") && from) return resolve(dirname(from), from.endsWith(".ts") ? wanted.replace(/\.js$/, ".ts") : wanted);
    return isAbsolute(wanted) ? null : fileURLToPath(import.meta.resolve(wanted));
  },
  async transform(code, id) {
    if (id.endsWith(".json")) return { code: `export default ${code}`, map: { mappings: "" } };
    if (id.endsWith(".css")) return { code: `export default ${JSON.stringify(code)}`, map: { mappings: "" } };
    return id.endsWith(".ts") ? transform(code, { loader: "ts", target: "es2022", sourcefile: id, sourcemap: true, tsconfigRaw }) : null;
  },
};

/**
 * Writes a bundle of entries by name into a folder, with source maps, and returns its chunks with their code.
 *
 * @param output - more options of the bundler's for it.
 * @param plugins - come before that of the sources.
 */
export async function optimised(input, folder, output = {}, plugins = []) {
  const bundle = await rollup({
    input,
    plugins: [...plugins, sources],
    treeshake: { moduleSideEffects: (id) => !id.startsWith(join(HERE, "src")) && !id.includes("node_modules") },
    onwarn: (warning) => {
      throw new Error(warning.message);
    },
  });
  const made = await bundle.generate({ format: "es", chunkFileNames: "[name]-[hash].js", hoistTransitiveImports: false, generatedCode: { preset: "es2015", symbols: false }, freeze: false, sourcemap: true, ...output });
  await bundle.close();
  mkdirSync(folder, { recursive: true });
  return Promise.all(
    made.output.filter(({ type }) => type === "chunk").map(async (chunk) => {
      const { code, map } = await minify(chunk.code, {
        module: true, ecma: 2020, sourceMap: { content: chunk.map },
        compress: { passes: 2, ecma: 2020, inline: 1, keep_fargs: false, lhs_constants: false, sequences: false }, format: { comments: /webpackIgnore|@vite-ignore/ },
      });
      writeFileSync(join(folder, `${chunk.fileName}.map`), map);
      writeFileSync(join(folder, chunk.fileName), `${code}\n//# sourceMappingURL=${chunk.fileName.split("/").at(-1)}.map\n`);
      return { chunk, code };
    }),
  );
}
