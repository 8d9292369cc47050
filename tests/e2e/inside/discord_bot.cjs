// Runs inside: the bot of discord_bot.py on discord.js. node discord_bot.cjs SITE
const modules = require("node:module").createRequire(process.argv[2] + "/");
const { Client, GatewayIntentBits } = modules("discord.js");

const { Guilds, GuildMessages, MessageContent } = GatewayIntentBits;
const bot = new Client({ intents: [Guilds, GuildMessages, MessageContent] });
const heard = [];

bot.on("messageCreate", async (message) => {
  heard.push(message.content);
  await message.channel.send(`answer to ${message.content}`);
  if (heard.length < 2) return;
  let refused = null;
  try {
    await message.guild.setName("mine now");
  } catch (error) {
    refused = { status: error.status, ...error.rawError };
  }
  await bot.destroy();
  console.log(JSON.stringify({ heard, answered: true, refused }));
});
bot.login("MTAwMQ.tests.token");
