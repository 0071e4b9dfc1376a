"""asyncio and the openai client against the same server: python endpoint.py URL ROWS AT_ONCE.

It is told how many requests at once are best, which our client finds out."""

import asyncio
import json
import resource
import sys
import time

from openai import AsyncOpenAI


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def main(url, rows, at_once):
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=4)
    places = asyncio.Semaphore(at_once)
    system = {"role": "system", "content": "You write one sentence. " * 100}

    async def ask(row):
        async with places:
            user = {"role": "user", "content": f"row {row}: a dog"}
            reply = await client.chat.completions.create(
                model="mock", messages=[system, user], max_tokens=96, temperature=0.0, seed=0
            )
            return reply.choices[0].message.content

    started, cpu = time.monotonic(), cpu_s()
    replies = await asyncio.gather(*(ask(row) for row in range(rows)))
    print(json.dumps({
        "client": "openai",
        "answered": sum(bool(reply) for reply in replies),
        "seconds": time.monotonic() - started,
        "cpu_ms_per_request": (cpu_s() - cpu) * 1e3 / rows,
    }))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
