"""Where the time of a process goes: its samples (perf) by what it was doing, as µs of CPU for each transaction."""

import os
import re
import subprocess

from . import measure
from .process import Failed

# (part, what must be in the stack): the first that fits names a sample. Frames stand innermost first.
PARTS = (
    ("yields", "sleeping, and giving way to others", r"\b(schedule|schedule_idle|schedule_hrtimeout_range\w*)$"),
    ("interrupts", "interrupts", r"\b(asm_)?sysvec_|\basm_common_interrupt$"),
    ("wakes", "waking the client or the server", r"\b(sock_def_readable|sk_wake_async|ep_poll_callback|try_to_wake_up|unix_stream_data_wake)$"),
    ("receiver", "TCP, the receiver's half (done by the sender)", r"\b(tcp_v4_rcv|process_backlog|__netif_receive_skb\w*)$"),
    ("sender", "TCP, the sender's half", r"\b(__x64_sys_(sendto|sendmsg|writev|write|splice)|__do_sys_splice|io_send|io_sendmsg)$"),
    ("receive", "receiving", r"\b(__x64_sys_(recvfrom|recvmsg|readv|read)|io_recv)$"),
    ("wait", "asking what is ready", r"\b__x64_sys_(epoll_\w+|poll|ppoll|io_uring_enter)$"),
    ("kernel", "the rest of the kernel", r"\(\[(kernel|guest\.kernel|bpf)"),
    ("own", "its own code and its libraries", r""),
)


def parse(script):
    """How many samples each part has, of what `perf script -F ip,sym,dso` prints."""
    counts = dict.fromkeys((part for part, _, _ in PARTS), 0)
    for sample in re.split(r"\n\s*\n", script.strip()):
        frames = [re.sub(r"^\s*[0-9a-f]+ ", "", line) for line in sample.splitlines() if line.strip()]
        if not frames:
            continue
        names = [re.sub(r"(\.\w+)*(\+0x[0-9a-f]+)? \(.*$", "", frame) for frame in frames]
        in_kernel = "kernel" in frames[0]
        for part, _, pattern in PARTS:
            where = names if part not in ("kernel", "own") else frames[:1]
            if (in_kernel or part == "own") and any(re.search(pattern, frame) for frame in where):
                counts[part] += 1
                break
    return counts


def of_select_only(target, seconds, protocol, clients):
    """The same cell as select-only, with a sampling profiler at the process; the parts add up to cpu_us."""
    if not target.server or not measure.can_perf():
        return None
    path = os.path.join(target.bench.folder, "perf.data")
    connecting = target.connect_seconds(clients)
    recorder = subprocess.Popen(
        ["perf", "record", "-q", "-o", path, "-g", "-e", "cpu-clock", "-F", "997", "-p", str(target.server.pid), "--",
         "sleep", str(seconds + connecting)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        values = measure.select_only(target, seconds, protocol, clients)
    finally:
        recorder.wait(timeout=60)
    done = subprocess.run(["perf", "script", "-i", path, "-F", "ip,sym,dso"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, timeout=120)
    counts = parse(done.stdout)
    total = sum(counts.values())
    if not total:
        raise Failed("perf saw nothing: " + done.stderr[-300:])
    values.update({f"part_{part}": values["cpu_us"] * n / total for part, n in counts.items()})
    return values
