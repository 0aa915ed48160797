"""What ingot sees of the GPU."""

import json
import sys

from ingot.targets import find_gpus

gpus = find_gpus()
if not gpus:
    sys.exit("the driver (libcuda.so.1) shows no GPU")
gpu = gpus[0]
print(
    json.dumps(
        {
            "name": gpu.name,
            "architecture": gpu.architecture,
            "memory_bytes": gpu.memory_bytes,
            "multiprocessors": gpu.num_multiprocessors,
        }
    )
)
