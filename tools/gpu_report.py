# SPDX-License-Identifier: MIT
"""The report of tools/gpu-check as Markdown, from the same data as its JSON."""
import gpu_compare

STAGES = ("pool", "score", "select", "attend")


def table(header, rows):
    lines = [gpu_compare.markdown_row(header), gpu_compare.markdown_row(["---"] * len(header))]
    return lines + [gpu_compare.markdown_row(row) for row in rows] + [""]


def outcome(report):
    """What passed and what did not, in a few lines."""
    counts = {}
    for step in report["steps"]:
        word = step["result"].split(" (")[0]
        counts[word] = counts.get(word, 0) + 1
    lines = [", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing was run"]
    lines += [f"{step['name']}: {step['result']}" for step in report["steps"]
              if step["result"] not in ("passed", "skipped")]
    return lines


def fact_lines(known):
    gpu = known["gpu"]
    capability = "".join(str(number) for number in gpu["capability"])
    lines = [f"* {known['date']}, commit {known['commit'] or 'unknown'}" +
             (", with changed files" if known["changed_files"] else ""),
             f"* {gpu['name']}, sm_{capability}, {gpu['multiprocessors']} multiprocessors; driver "
             f"for CUDA {known['cuda_of_driver']}, nvcc {known['nvcc'] or 'none'}"]
    for row in known["nvidia_smi"]:
        lines.append("* nvidia-smi: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    if known["simulated"]:
        lines.append("* **A simulated driver: nothing here says anything about a GPU.**")
    return lines


def first_table(results):
    def number(result, name, form):
        return form.format(result[name]) if name in result else ""
    return table(["kernels", "case", "result", "error", "of lse", "plan s", "TFLOP/s"],
                 [[r["kernels"], r["case"], r["result"], number(r, "error", "{:.1e}"),
                   number(r, "error_lse", "{:.1e}"), number(r, "seconds", "{:.2f}"),
                   number(r, "tflops", "{:.1f}")] for r in results])


def bench_table(results):
    rows = []
    for result in results:
        seconds = {stage["stage"]: stage["median_seconds"] for stage in result["stages"]}
        small = sum(seconds[stage] for stage in STAGES[:3])
        share = result.get("share_of_dense")
        rows.append([result["case"], f"{result['sparsity']:g}",
                     f"{100 * result['density']['work']:.1f} %",
                     *(f"{1e6 * seconds[stage]:.0f}" for stage in STAGES),
                     f"{100 * small / seconds['attend']:.2f} %",
                     f"{1e-3 * result['attend_gflops']:.1f}",
                     f"{100 * share:.1f} %" if share else ""])
    header = ["shape", "sparsity", "work", *(f"{stage} us" for stage in STAGES),
              "small stages / attend", "attend TFLOP/s", "of own dense"]
    return table(header, rows)


def clock_rows(clocks):
    return [[name, field, *(f"{value:g}" for value in values)]
            for name, fields in clocks.items() for field, values in fields.items()]


def markdown(report):
    lines = ["# GPU check", ""] + fact_lines(report["facts"])
    lines += [f"* {note}" for note in report["notes"]]
    lines += ["", "`" + report["command"] + "`" +
              (f", {report['seconds']} s" if "seconds" in report else ", still running"), ""]
    if report["steps"]:
        lines += ["## Steps", ""] + table(
            ["step", "result", "s"],
            [[step["name"], step["result"], f"{step['seconds']:.0f}"] for step in report["steps"]])
    for step in report["steps"]:
        if step["result"] not in ("passed", "skipped", "running", "not begun"):
            lines += [f"### {step['name']}: {step['result']}", "", "```", step["output"], "```", ""]
    if report["first"]:
        lines += ["## Each kernel by itself", ""] + first_table(report["first"])
    if report["bench"]:
        lines += ["## draft bench", "",
                  "Medians of the host's clock, from a stage's call to the end of its wait.", ""]
        lines += bench_table(report["bench"])
    for title, key in (("Against PyTorch", "compare"),
                       ("Against PyTorch, by default", "compare_default")):
        compare = report[key]
        if compare:
            lines += [f"## {title}", "",
                      f"PyTorch {compare['torch']}, CUDA {compare['cuda']}, cuDNN "
                      f"{compare['cudnn']}; medians on the GPU's clock, taken in turns: see "
                      "tools/gpu_compare.py.", ""]
            lines += gpu_compare.markdown(compare) + [""]
    rows = clock_rows(report["clocks"])
    if rows:
        lines += ["## Clocks while measuring, as nvidia-smi prints them", ""]
        lines += table(["while", "field", "least", "median", "most"], rows)
    lines += ["## Commands", "", "```"]
    lines += [step["command"] for step in report["steps"] if step["command"]] + ["```", ""]
    return "\n".join(lines)
