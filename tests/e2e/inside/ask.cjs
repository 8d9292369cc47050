// Runs inside: ask.py once more, as node does it.
const { readFileSync } = require("node:fs");
const { lookup } = require("node:dns").promises;

async function ask([method, target]) {
  if (method === null) {
    return lookup(target).then(() => "found", (error) => (error.code === "ENOTFOUND" ? "NXDOMAIN" : error.code));
  }
  const [, scheme, hostname, port, path] = /^(https?):\/\/([^/:]+)(?::(\d+))?(\/.*)$/.exec(target); // URL would resolve the dots itself
  return new Promise((resolve, reject) => {
    const request = require(`node:${scheme}`).request({ method, hostname, port, path, agent: false }, (answer) => {
      let body = "";
      answer.on("data", (data) => (body += data)).on("end", () => resolve([answer.statusCode, body]));
    });
    request.on("error", reject).end(method === "POST" ? "{}" : undefined);
  });
}

(async () => {
  const answers = [];
  for (const asked of JSON.parse(readFileSync("asked.json"))) answers.push(await ask(asked));
  console.log(JSON.stringify(answers));
})();
