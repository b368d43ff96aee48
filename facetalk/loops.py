"""Loops of asyncio that run in a thread of their own, and how they end."""

from __future__ import annotations

import asyncio


async def let_go() -> None:
    """Cancel what is left in the running loop, and end it."""
    loop, rest = asyncio.get_running_loop(), asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    loop.stop()
