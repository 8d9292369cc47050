"""Runs inside: a bot on discord.py. Answers two questions, tries to rename the server, and prints what it met.

discord_bot.py SITE
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import discord

heard: list[str] = []
intents = discord.Intents.default()
intents.message_content = True
bot = discord.Client(intents=intents)


@bot.event
async def on_message(message: discord.Message) -> None:
    heard.append(message.content)
    await message.channel.send(f"answer to {message.content}")
    if len(heard) < 2:
        return
    refused = None
    try:
        await message.guild.edit(name="mine now")
    except discord.Forbidden as error:
        refused = {"status": error.status}
    await bot.close()
    print(json.dumps({"heard": heard, "answered": True, "refused": refused}))


bot.run("MTAwMQ.tests.token", log_handler=None)
