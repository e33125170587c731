"""An interpreter of the PTX that `kernels.ptx` consists of, so that the committed text runs where there is no GPU.

`text` parses it, `arithmetic` and `steps` say what an instruction does, `memory` and `races` watch what it touches,
`machine` runs a launch, and `driver` puts that in the place of the driver's library. The source of all of it is
NVIDIA's "Parallel Thread Execution ISA", version 6.4, whose sections are named by their titles.
"""
