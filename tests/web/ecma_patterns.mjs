// Reads {"pattern", "texts"} as lines of JSON. Prints, for each line, which texts the pattern matches in JavaScript, as
// JSON Schema defines `pattern`: ECMA-262 with the flag `u`, matching anywhere.
import { createInterface } from 'node:readline';

for await (const line of createInterface({ input: process.stdin })) {
  const { pattern, texts } = JSON.parse(line);
  const compiled = new RegExp(pattern, 'u');
  console.log(JSON.stringify(texts.map((text) => compiled.test(text))));
}
