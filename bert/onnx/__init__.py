"""BERT with a span head as an ONNX file: written, checked, quantised, run. Needs npu-launch[onnx]."""
