"""A client in another language that knows only the original contract.

usage: original_contract.py ws://HOST:PORT/ws REPOSITORY N

Subscribes, answers `ping` with `pong`, ignores every type it does not know, and
prints the title of each of N created tasks.
"""

import asyncio
import json
import sys

import websockets


async def main(url: str, repository: str, n: int) -> None:
    async with websockets.connect(url, additional_headers={"X-Version": "1"}) as socket:
        subscribe = {"type": "subscribe", "data": {"repositories": [repository]}}
        await socket.send(json.dumps(subscribe))
        print("subscribing", flush=True)
        async for text in socket:
            event = json.loads(text)
            if event["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif event["type"] == "task.created":
                print(event["data"]["task"]["title"], flush=True)
                n -= 1
                if n == 0:
                    return


asyncio.run(asyncio.wait_for(main(sys.argv[1], sys.argv[2], int(sys.argv[3])), 30))
