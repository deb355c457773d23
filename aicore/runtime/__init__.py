"""What runs in the factory: numpy, OpenCV and onnxruntime only, never torch or MMEngine."""
