// Writes a .br and a .gz twin beside every text file of the build, when it is smaller. Same input, same bytes.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url).pathname;
const files = readdirSync(dist, { recursive: true })
  .map((name) => join(dist, String(name)))
  .filter((path) => statSync(path).isFile() && /\.(js|css|svg|json)$/.test(path));
for (const path of files) {
  const plain = readFileSync(path);
  const twins = {
    ".br": brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } }),
    ".gz": gzipSync(plain, { level: 9 }),
  };
  for (const [ending, bytes] of Object.entries(twins)) {
    if (bytes.length < plain.length) writeFileSync(path + ending, bytes);
  }
}
