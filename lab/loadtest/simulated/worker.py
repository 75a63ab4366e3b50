"""One generator process: reads a job, connects, reports ready, waits for the start, plays, writes its result.

Standard input: a line of addresses, of one link each; the job's length as a decimal line, the job; then one
line with the Unix time to begin at.
Standard output: the line `ready` when every edge is connected, at the end the result's length and the result.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

from spillover.lab.loadtest.simulated.arrivals import arrivals_of
from spillover.lab.loadtest.simulated.fleet import SimulatedFleet
from spillover.lab.loadtest.simulated.job import GeneratorResult, Job, decode_job, pack_outcomes
from spillover.lab.shaper.listener import first_complaint


def main() -> None:
    """Arguments: the first edge's number, the number after the last one's."""
    import msgspec

    first, end = int(sys.argv[1]), int(sys.argv[2])
    stdin = sys.stdin.buffer
    addresses = stdin.readline().decode().split()
    job = decode_job(stdin.read(int(stdin.readline())))
    try:
        result = asyncio.run(_play(job, addresses, range(first, end)))
    except TimeoutError:
        sys.exit(
            f"{end - first} edges could not all connect within {job.connect_limit_s:.0f} s: the server may "
            "limit its connections (cloud.yaml: limits.max_connections)"
        )
    data = msgspec.msgpack.encode(result)
    sys.stdout.buffer.write(b"%d\n" % len(data) + data)
    sys.stdout.buffer.flush()


async def _play(job: Job, addresses: Sequence[str], edges: range) -> GeneratorResult:
    loop = asyncio.get_running_loop()
    complaints = first_complaint(loop)
    fleet = SimulatedFleet(job, addresses, edges, arrivals_of(job, edges))
    await fleet.connect()
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    begin_unix_s = float(await loop.run_in_executor(None, sys.stdin.buffer.readline))
    start_s = time.monotonic() + begin_unix_s - time.time()
    cpu: list[float] = []
    for at_s in (job.warm_up_s, job.warm_up_s + job.window_s):
        loop.call_at(loop.time() + start_s + at_s - time.monotonic(), lambda: cpu.append(time.process_time()))
    await fleet.play(start_s)
    await asyncio.sleep(max(0.0, start_s + job.warm_up_s + job.window_s + 0.1 - time.monotonic()))
    outcomes = fleet.outcomes(begin_unix_s)
    delays_s = list(fleet.delays_s())
    await fleet.close()
    if complaints:
        sys.stderr.write(f"{complaints[0]}\n")
    nothing: dict[str, Any] = {"shaper_cpu_s": 0.0, "up_bytes": 0, "run_up_bytes": 0, "down_bytes": 0}
    return GeneratorResult(
        outcomes=pack_outcomes(outcomes),
        cpu_s=cpu[1] - cpu[0],
        begin_unix_s=begin_unix_s,
        delays_s=delays_s,
        run_payload_bytes=fleet.payload_bytes(),
        **nothing,
    )


if __name__ == "__main__":
    main()
