# SPDX-License-Identifier: MIT
"""For tools/gpu-check: what is known of the GPU, its driver, the toolkit and the commit; and the
clocks while something runs."""
import csv
import ctypes
import datetime
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (8, 0)  # compute capability
SAMPLE_SECONDS = 2
QUERY_SECONDS = 30
MADE = "made.json"  # in a folder that gpu_pack.py has made: what it was made from


def query(command, seconds=QUERY_SECONDS):
    """The output of a command that tells something, or None."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=seconds, cwd=ROOT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def smi(fields):
    """A dict for each GPU, of what nvidia-smi says."""
    said = query(["nvidia-smi", "--query-gpu=" + ",".join(fields), "--format=csv,noheader"])
    if said is None:
        return []
    rows = csv.reader(io.StringIO(said), skipinitialspace=True)
    return [dict(zip(fields, row)) for row in rows if len(row) == len(fields)]


def driver_facts():
    """What the driver says, straight from libcuda.so.1; or the reason why there is nothing."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"problem": "no NVIDIA driver: libcuda.so.1 is not there"}
    code, count, version = cuda.cuInit(0), ctypes.c_int(), ctypes.c_int()
    if code:
        return {"problem": f"the NVIDIA driver does not start: cuInit gives {code}"}
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    gpus = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, 128, device)
        numbers = []
        for attribute in (75, 76, 16):  # COMPUTE_CAPABILITY_MAJOR, _MINOR, MULTIPROCESSOR_COUNT
            value = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            numbers.append(value.value)
        gpus.append({"name": name.value.decode(), "capability": numbers[:2],
                     "multiprocessors": numbers[2]})
    return {"cuda": f"{version.value // 1000}.{version.value % 1000 // 10}", "gpus": gpus,
            "problem": None if gpus else "the NVIDIA driver lists no GPU"}


def nvcc_path():
    found = shutil.which("nvcc")
    for folder in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if not found and folder and os.access(os.path.join(folder, "bin", "nvcc"), os.X_OK):
            found = os.path.join(folder, "bin", "nvcc")
    return found


def source_facts():
    """The commit of this tree, and the toolkit that builds it here."""
    version = re.search(r"release (\S+),", query([nvcc_path() or "nvcc", "--version"]) or "")
    return {"commit": query(["git", "rev-parse", "HEAD"]),
            "changed_files": bool(query(["git", "status", "--porcelain",
                                         "--untracked-files=no"])),
            "nvcc": version.group(1) if version else None}


def facts(device, build):
    """build: the folder of a finished build, or None. Where it was made elsewhere, it knows what it
    was made from."""
    driver, gpu = driver_facts(), None
    if not driver["problem"]:
        if device < len(driver["gpus"]):
            gpu = driver["gpus"][device]
            if tuple(gpu["capability"]) < OLDEST:
                driver["problem"] = (f"{gpu['name']} is sm_{gpu['capability'][0]}"
                                     f"{gpu['capability'][1]}; the kernels need sm_80 or newer")
        else:
            driver["problem"] = f"there is no GPU {device}"
    made = os.path.join(build or "", MADE)
    if build and os.path.exists(made):
        with open(made, encoding="utf-8") as file:
            source = json.load(file)
    else:
        source = source_facts()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "gpu": gpu, "problem": driver["problem"], "cuda_of_driver": driver.get("cuda"), **source,
        "simulated": bool(gpu and "simulat" in gpu["name"].lower()),
        "nvidia_smi": smi(["index", "name", "driver_version", "vbios_version", "memory.total",
                           "power.limit", "persistence_mode", "mig.mode.current", "clocks.max.sm",
                           "clocks.max.mem", "clocks.sm", "clocks.mem", "temperature.gpu"])
        or smi(["index", "name", "driver_version", "memory.total", "clocks.sm", "clocks.mem"]),
    }


class Clocks(threading.Thread):
    """Asks nvidia-smi for the clocks again and again while a step runs."""

    def __init__(self, device):
        super().__init__(daemon=True)
        self.device, self.samples, self.end = device, [], threading.Event()

    def run(self):
        while not self.end.wait(SAMPLE_SECONDS):
            rows = smi(["clocks.sm", "clocks.mem", "power.draw", "temperature.gpu"])
            if self.device < len(rows):
                self.samples.append(rows[self.device])
            elif not self.samples:
                return  # no nvidia-smi

    def result(self):
        """Least, median and largest of each field."""
        self.end.set()
        self.join(2 * QUERY_SECONDS)
        result = {}
        for field in self.samples[0] if self.samples else ():
            found = [re.match(r"[\d.]+", row[field]) for row in self.samples]
            values = [float(match.group()) for match in found if match]
            if values:
                result[field] = [min(values), statistics.median(values), max(values)]
        return result
