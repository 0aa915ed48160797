"""What torch reaches: bytes a second of a copy (read plus write), operations a second of products."""

import json
import sys
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DRY = "--dry" in sys.argv
COPIED, SIDE = (1 << 20, 128) if DRY else (1 << 30, 8192)


def seconds_of(work, repeats: int = 2 if DRY else 20) -> float:
    """The best mean of several; torch returns before the device is done."""
    work()
    best = float("inf")
    for _ in range(3):
        wait()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        wait()
        best = min(best, (time.perf_counter() - started) / repeats)
    return best


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    source = torch.empty(COPIED, dtype=torch.uint8, device=DEVICE).random_(0, 255)
    target = torch.empty_like(source)
    record = {"device": DEVICE, "copy_gb_s": 2 * COPIED / seconds_of(lambda: target.copy_(source)) / 1e9}
    left, right = (torch.randn(SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    record["bf16_tflops"] = 2 * SIDE**3 / seconds_of(lambda: left @ right) / 1e12
    try:
        codes = torch.randint(-127, 127, (SIDE, SIDE), device=DEVICE, dtype=torch.int8)
        record["int8_tops"] = 2 * SIDE**3 / seconds_of(lambda: torch._int_mm(codes, codes.t())) / 1e12
    except RuntimeError as error:
        record["int8_failed"] = str(error)
    print(json.dumps(record))


main()
