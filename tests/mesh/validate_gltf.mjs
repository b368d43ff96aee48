// Prints the errors and warnings of the Khronos validator as JSON: {file: ["SEVERITY CODE pointer", ...]}.
// Usage: node validate_gltf.mjs <folder with node_modules/gltf-validator> <file>...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, ...files] = process.argv.slice(2);
const validator = createRequire(join(folder, "package.json"))("gltf-validator");
const severities = ["ERROR", "WARNING"];
const found = {};
for (const file of files) {
  const report = await validator.validateBytes(new Uint8Array(readFileSync(file)), { maxIssues: 50 });
  found[file] = report.issues.messages
    .filter((m) => m.severity < severities.length)
    .map((m) => `${severities[m.severity]} ${m.code} ${m.pointer ?? ""}: ${m.message}`);
}
console.log(JSON.stringify(found));
