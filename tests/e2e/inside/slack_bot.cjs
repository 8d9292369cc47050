// Runs inside: the bot of slack_bot.py on @slack/socket-mode. node slack_bot.cjs SITE
const modules = require("node:module").createRequire(process.argv[2] + "/");
const { SocketModeClient, LogLevel } = modules("@slack/socket-mode");
const { WebClient } = modules("@slack/web-api");

const web = new WebClient("xoxb-tests", { retryConfig: { retries: 0 }, logLevel: LogLevel.ERROR });
const bot = new SocketModeClient({ appToken: "xapp-tests", logLevel: LogLevel.ERROR });
const heard = [];

bot.on("app_mention", async ({ event, ack }) => {
  await ack();
  await web.chat.postMessage({ channel: event.channel, text: `answer to ${event.text}` });
  heard.push(event.text);
  if (heard.length < 2) return;
  let refused = null;
  try {
    await web.apiCall("admin.users.invite", { email: "new@example.com" });
  } catch (error) {
    refused = { status: error.statusCode, ...(typeof error.body === "string" ? JSON.parse(error.body) : error.body) };
  }
  await bot.disconnect();
  console.log(JSON.stringify({ heard, answered: true, refused }));
  process.exit(0);
});
bot.start();
