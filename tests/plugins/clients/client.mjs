// A tap of what Node's two clients are told at each place, the arguments before the options; for tests alone.
import https from "node:https";

const WITHIN_MS = 20_000;
const options = process.argv.findIndex((each) => each.startsWith("--"));
const places = process.argv.slice(2, options);
const write = (message) => console.log(JSON.stringify({ stream: "tries", ...message }));

const clients = {
  fetch: async (place) => (await fetch(place, { signal: AbortSignal.timeout(WITHIN_MS) })).text(),
  https: (place) =>
    new Promise((done, failed) => {
      const asked = https.get(place, { timeout: WITHIN_MS }, async (answer) => {
        let said = "";
        for await (const some of answer) said += some;
        done(said);
      });
      asked.on("timeout", () => asked.destroy(new Error("timeout"))).on("error", failed);
    }),
};

write({ type: "SCHEMA", schema: { type: "object" }, key_properties: [] });
for (const [name, ask] of Object.entries(clients)) {
  for (const place of places) {
    const said = await ask(place).catch((error) => (error.cause ?? error).code ?? String(error));
    write({ type: "RECORD", record: { client: `node ${name}`, place, said } });
  }
}
process.exit(0);
