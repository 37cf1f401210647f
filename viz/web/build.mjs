// Builds dist/viewer.js and dist/viewer.css. Their first line names the sources that they were built from: a SHA-256 over
// path + "\0" + content + "\0" of src/**, build.mjs, package.json, package-lock.json and ../overlay.json, sorted by POSIX
// path.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(dirname(fileURLToPath(import.meta.url)));

const sources = readdirSync("src", { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`.replaceAll("\\", "/"))
  .concat("build.mjs", "package.json", "package-lock.json", "../overlay.json")
  .sort();
const hash = createHash("sha256");
for (const path of sources) hash.update(path).update("\0").update(readFileSync(path)).update("\0");
const banner = `/* sources sha256 ${hash.digest("hex")} */\n`;
const threeLicence = `/*!\nContains three.js (https://threejs.org):\n\n${readFileSync("node_modules/three/LICENSE", "utf8").trim()}\n*/\n`;

const { outputFiles } = await build({
  entryPoints: { viewer: "src/main.ts", "viewer-style": "src/style.css" },
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  charset: "utf8",
  outdir: "dist",
  write: false,
});
for (const { path, text } of outputFiles) {
  const isScript = path.endsWith(".js");
  // Both are put into an HTML element as they are: what would end it must not be in them.
  if (/<\/(script|style)|<!--/i.test(text)) throw new Error(`${path} would end the element that holds it`);
  const output = isScript ? "dist/viewer.js" : "dist/viewer.css";
  const content = banner + (isScript ? threeLicence : "") + text;
  writeFileSync(output, content);
  console.log(output, (Buffer.byteLength(content) / 1000).toFixed(1), "kB");
}
