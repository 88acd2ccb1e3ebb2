"""An inference engine as a contestant of compare_torch.py, in its own process and without PyTorch: reads
`run N` lines, answers as torch_worker.py does.

    engine_worker.py --engine openvino-bf16 --threads 2 FOLDER     # of torch_onnx.py
"""

import argparse
import time
from pathlib import Path

from torch_worker import answer, answers_errors, check_agrees, peak_rss, reset_peak_rss, serve

ENGINES = ("onnxruntime", "openvino", "openvino-throughput", "openvino-bf16",
           "openvino-bf16-throughput")


def onnxruntime(args, x):
    """-> a function that does one step and gives its output, its requests, the version."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.folder / "model.onnx", options,
                                           providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0], 1, onnxruntime.__version__


def openvino(args, x):
    """The same. For throughput, as many requests at a time as OpenVINO finds best: a step is all of
    them."""
    import openvino

    dtype = "bf16" if "bf16" in args.engine else "f32"
    hint = "THROUGHPUT" if args.engine.endswith("throughput") else "LATENCY"
    model = openvino.Core().compile_model(args.folder / "model.onnx", "CPU", {
        "INFERENCE_PRECISION_HINT": dtype, "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": args.threads})
    found = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    if found != dtype:
        raise RuntimeError(f"asked for {dtype}, OpenVINO takes {found}")
    count = (model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if hint == "THROUGHPUT" else 1)
    requests = [model.create_infer_request() for _ in range(count)]
    for request in requests:
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def step():
        for request in requests:
            request.start_async()
        for request in requests:
            request.wait()
        return requests[-1].get_output_tensor().data

    return step, count, openvino.__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    with answers_errors():
        import numpy as np

        imported, begin = peak_rss(), time.perf_counter()
        reference = np.load(args.folder / "reference.npz")
        make = onnxruntime if args.engine == "onnxruntime" else openvino
        x = reference["x"]  # must stay: requests share its memory
        step, requests, version = make(args, x)
        step()
        error = check_agrees(step(), reference["y"], bf16="bf16" in args.engine)
        whole = peak_rss()
        reset_peak_rss()
        answer(version=version, requests=requests, relative_error=error, imported=imported, whole=whole,
               warmup_seconds=time.perf_counter() - begin)
        serve(step)


if __name__ == "__main__":
    main()
