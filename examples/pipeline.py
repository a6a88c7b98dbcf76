"""The ten most frequent words of a directory's Python files: counted by three programs, while the input still comes.

`python examples/pipeline.py [DIRECTORY]` looks at its own directory unless told otherwise.
"""

import asyncio
import sys
from pathlib import Path

import aipc

COUNT = ["sort"], ["uniq", "-c"], ["sort", "-rn"]


async def feed(words: aipc.Channel, directory: Path) -> None:
    """Send every word of every file, one to a line."""
    for path in sorted(directory.rglob("*.py")):
        letters = "".join(character if character.isalpha() else " " for character in path.read_text())
        await words.send_many(word.encode() for word in letters.lower().split())
    await words.send_eof()  # now `sort` can finish


async def main(directory: Path) -> None:
    async with asyncio.timeout(20), aipc.pipeline(*COUNT, framing="lines", pipefail=True) as pipeline:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed(pipeline.stdin, directory))
            lines = [line.decode() async for line in pipeline.stdout]
        await pipeline.wait()
    assert pipeline.returncode == 0, pipeline.returncodes
    print("\n".join(lines[:10]))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
